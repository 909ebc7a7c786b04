"""One feature as plain .npy files, for training that maps them into memory instead of reading them.

    values.npy (T, D)   offsets.npy (n + 1,)   times_s.npy (T,)   indices.npy (T,)   item_ids.json   spec.json

A copy without checksums, to be thrown away and made again; the store is what is kept. Knows nothing of HDF5.
"""

import json
from pathlib import Path

import numpy as np

from mmdf.cache.errors import DataError
from mmdf.cache.exchange import Transferred, TransferReport, blocks, published
from mmdf.cache.manifest import Manifest
from mmdf.cache.spec import FeatureSpec
from mmdf.cache.store import FeatureStore, Ragged
from mmdf.cache.transfer import read_spec_json

ARRAYS = ("values", "offsets", "times_s", "indices")


def export_npy(store: FeatureStore, manifest: Manifest, folder: Path, spec: FeatureSpec) -> TransferReport:
    """Write the embeddings of every item of `manifest`, in its order, into the new folder `folder`.

    Items without embeddings keep their place, with an empty range, so that row i is item i of the manifest.

    Raises
    ------
    UsageError
        If there is something in `folder`.
    CacheError
        If a part is damaged. No folder is left then.
    """
    index = store.index(spec)
    rows = np.array([-1 if key is None else index.position.get(key, -1) for key in store.keys(manifest)], np.int64)
    n_steps = np.where(rows >= 0, index.n_steps[rows] if len(index.n_steps) else 0, 0)
    offsets = np.concatenate([[0], np.cumsum(n_steps)]).astype(np.int64)
    shape = (int(offsets[-1]), spec.dim)
    with published(folder) as temporary:
        temporary.mkdir()
        values = np.lib.format.open_memmap(temporary / "values.npy", "w+", np.dtype(spec.storage_dtype), shape)
        times_s = np.lib.format.open_memmap(temporary / "times_s.npy", "w+", np.dtype(np.float64), shape[:1])
        indices = np.lib.format.open_memmap(temporary / "indices.npy", "w+", np.dtype(np.int64), shape[:1])
        for block in blocks(n_steps, spec.dim * values.dtype.itemsize):
            ragged = store.read(spec, manifest.take(np.arange(block.start, block.stop)))
            steps = slice(int(offsets[block.start]), int(offsets[block.stop]))
            values[steps], times_s[steps], indices[steps] = ragged.values, ragged.times_s, ragged.indices
        for array in (values, times_s, indices):
            array.flush()
        np.save(temporary / "offsets.npy", offsets)
        (temporary / "item_ids.json").write_text(json.dumps(manifest.column("item_id")) + "\n")
        (temporary / "spec.json").write_text(json.dumps(spec.to_dict(), indent=2) + "\n")
    n_items, n_missing = int((n_steps > 0).sum()), int((rows < 0).sum())
    n_absent = len(manifest) - n_items - n_missing
    done = Transferred(spec.alias, spec.fingerprint, n_items, n_absent, n_missing, shape[0], values.nbytes)
    return TransferReport("exported", str(folder), (done,))


def open_npy(folder: Path) -> Ragged:
    """The arrays that `export_npy` wrote, mapped into memory, read-only: nothing but offsets is read so far.

    Raises
    ------
    DataError
        If a file is missing or cut short, or they do not fit each other.
    """
    try:
        spec = read_spec_json((folder / "spec.json").read_text())
        # Mapping checks the size of the file against the shape that it names.
        n_items = len(json.loads((folder / "item_ids.json").read_text()))
        found = {n: np.load(folder / f"{n}.npy", mmap_mode="r", allow_pickle=False) for n in ARRAYS}
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise DataError(f"{folder} is no export of a feature ({error}). Make it: mmdf cache export --npy.") from error
    values, offsets, times_s, indices = (found[name] for name in ARRAYS)
    n_steps = int(offsets[-1]) if offsets.ndim == 1 and len(offsets) and offsets.dtype == np.int64 else -1
    if n_steps < 0 or offsets[0] != 0 or (np.diff(offsets) < 0).any() or len(offsets) != n_items + 1:
        raise DataError(
            f"The offsets in {folder} are not those of {n_items} items. Export it again: mmdf cache export --npy."
        )
    shapes = (values.shape, times_s.shape, indices.shape)
    types = (values.dtype, times_s.dtype, indices.dtype)
    if shapes != ((n_steps, spec.dim), (n_steps,), (n_steps,)) or types != (
        np.dtype(spec.storage_dtype), np.float64, np.int64,
    ):  # fmt: skip
        raise DataError(f"The arrays in {folder} are not those of {spec.alias}: {shapes}. Export them again.")
    return Ragged(values, np.array(offsets), times_s, indices)
