"""One HDF5 file an item, as CLAM and TRIDENT keep their features: `features` (T, D) and `coords` (T, 2).

CLAM: github.com/mahmoodlab/CLAM, TRIDENT: github.com/mahmoodlab/TRIDENT. There a row is a patch of a slide and
`coords` its place in pixels; here it is a step of a file, and `coords` are its place in the file and its time in
milliseconds. The exact times and places are in `times_s` (T,) and `indices` (T,), which other tools leave alone.
"""

import json
import math
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

import h5py
import numpy as np

from mmdf.cache.errors import DataError, UsageError
from mmdf.cache.exchange import PartsWriter, Transferred, TransferReport, blocks, published
from mmdf.cache.hdf5 import dataset, has, open_hdf5
from mmdf.cache.ledger import Samples, Seen, sample_key
from mmdf.cache.manifest import STREAMS, Item, Manifest, inside
from mmdf.cache.spec import FeatureSpec
from mmdf.cache.store import FeatureStore


def export_items(store: FeatureStore, manifest: Manifest, folder: Path, spec: FeatureSpec) -> TransferReport:
    """Write `<item_id>.h5` into the new folder `folder` for every item of `manifest` that has steps of `spec`.

    Raises
    ------
    UsageError
        If there is something in `folder`.
    DataError
        If an item_id leads out of the folder, or two would share a file.
    CacheError
        If a part is damaged. No folder is left then.
    """
    ids = manifest.column("item_id")
    # Before anything is computed: a name that is no path must not end an export of hours.
    names = [_file_name(item_id) for item_id in ids]
    index = store.index(spec)
    rows = np.array([-1 if key is None else index.position.get(key, -1) for key in store.keys(manifest)], np.int64)
    n_steps = np.where(rows >= 0, index.n_steps[rows] if len(index.n_steps) else 0, 0)
    row_bytes = spec.dim * np.dtype(spec.storage_dtype).itemsize
    with published(folder) as temporary:
        temporary.mkdir()
        for block in blocks(n_steps, row_bytes):
            ragged = store.read(spec, manifest.take(np.arange(block.start, block.stop)))
            for row, low, high in zip(range(block.start, block.stop), ragged.offsets, ragged.offsets[1:], strict=False):
                if low < high:
                    path = inside(temporary, names[row])
                    steps = slice(low, high)
                    _write(path, spec, ragged.values[steps], ragged.times_s[steps], ragged.indices[steps])
    n_items, n_missing = int((n_steps > 0).sum()), int((rows < 0).sum())
    done = Transferred(
        spec.alias, spec.fingerprint, n_items, len(rows) - n_items - n_missing, n_missing,
        int(n_steps.sum()), int(n_steps.sum()) * row_bytes,
    )  # fmt: skip
    return TransferReport("exported", str(folder), (done,))


def _file_name(item_id: str) -> str:
    """The path of an item's file in the folder; `DataError` if its id is no plain relative path."""
    parts = item_id.split("/")
    # `a/./b` and `a//b` would share a file with `a/b`; a backslash separates on other systems.
    if (
        any(part in ("", ".", "..") for part in parts)
        or "\\" in item_id
        or "\0" in item_id
        or PureWindowsPath(item_id).drive
    ):
        raise DataError(f"The item_id '{item_id}' cannot be the name of a file. Rename it in the manifest.")
    return f"{item_id}.h5"


def _write(path: Path, spec: FeatureSpec, values: np.ndarray, times_s: np.ndarray, indices: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # "x": if a file system takes two names for one, neither item silently gets the other's features.
    with h5py.File(path, "x") as file:
        features = file.create_dataset("features", data=values)
        features.attrs["spec"] = json.dumps(spec.to_dict())
        file["coords"] = np.stack([indices, np.round(times_s * 1000).astype(np.int64)], axis=1)
        file["times_s"], file["indices"] = times_s, indices


def import_items(
    store: FeatureStore,
    manifest: Manifest,
    folder: Path,
    name: str,
    stream: str = "picture",
    weights_digest: str = "unknown",
    hop_s: float | None = None,
) -> TransferReport:
    """Make a folder of such files, from here or from other tools, a feature called `name` of the items of `manifest`.

    The file of an item is `<item_id>.h5`, or has the name of the media file with .h5 in place of its suffix, with or
    without its folders. Keys come from hashing the media under the manifest's root.

    Parameters
    ----------
    name
        "backbone/view". Features of other weights need another name, or another `weights_digest`.
    stream
        "picture" or "sound": which label the feature can know about.
    hop_s
        Seconds from one step to the next where a file has no `times_s`. Without it the number of the step is its time.

    Returns
    -------
    TransferReport
        A problem for each file that cannot be used: NaN, another width, a medium that cannot be opened, or values that
        differ from those which the store has under this name.

    Raises
    ------
    UsageError
        If name or stream are none.
    DataError
        If no file in the folder can be read.
    """
    found = list(_files(manifest, folder))
    spec = _spec_of(found, name, stream, weights_digest, hop_s, folder)
    index, samples, parts = store.index(spec), store.ledger.samples(), PartsWriter(store, spec)
    problems: list[str] = []
    seen: list[Seen] = []
    checksums: dict[bytes, int] = {}
    n_skipped = len(manifest) - len(found)
    for item, path in found:
        try:
            sight = _sight(manifest, item, samples)
            values, times_s, indices = _read(path, spec)
        except (OSError, DataError) as error:
            problems.append(f"{item.item_id}: {error}")
            continue
        key, crc = sight.sample_key, zlib.crc32(values.tobytes())
        there = checksums.get(key, int(index.row_crc32[index.position[key]]) if key in index else None)
        if there is not None:
            n_skipped += 1
        elif (problem := parts.add(key, values, times_s, indices)) is not None:
            problems.append(f"{item.item_id}: {path}: {problem}")
            continue
        if there not in (None, crc):
            problems.append(f"{item.item_id}: {spec.alias} is there with other values; import under another name")
        checksums.setdefault(key, crc)
        if sight != samples.latest.get(item.item_id):
            seen.append(sight)
    parts.commit()
    store.ledger.add_samples(seen)
    return TransferReport("imported", str(folder), (parts.transferred(n_skipped),), tuple(problems))


def _sight(manifest: Manifest, item: Item, samples: Samples) -> Seen:
    """The item's file as it is now; hashed only if it changed since it was seen last."""
    media = manifest.file(item)
    status = media.stat()
    known = samples.unchanged(item.item_id, status.st_size, status.st_mtime_ns)
    return Seen(item.item_id, status.st_size, status.st_mtime_ns, known or sample_key(media))


def _files(manifest: Manifest, folder: Path) -> Iterator[tuple[Item, Path]]:
    """The items that have a file in the folder, each with its own. Of a name that two items would share, neither."""
    items = list(manifest.items())
    stems = Counter(PurePosixPath(item.path).stem for item in items)
    whole = Counter(str(PurePosixPath(item.path).with_suffix("")) for item in items)
    for item in items:
        path = PurePosixPath(item.path)
        names = [f"{item.item_id}.h5"]
        names += [f"{path.with_suffix('')}.h5"] if whole[str(path.with_suffix(""))] == 1 else []
        names += [f"{path.stem}.h5"] if stems[path.stem] == 1 else []
        for name in names:
            if "\0" not in name and (file := inside(folder, name)).is_file():
                yield item, file
                break


def _spec_of(
    found: list[tuple[Item, Path]],
    name: str,
    stream: str,
    weights_digest: str,
    hop_s: float | None,
    folder: Path,
) -> FeatureSpec:
    """The spec of what is imported, with the width and type of the first file that can be read."""
    backbone, _, view = name.partition("/")
    if not backbone or not view or "/" in view:
        raise UsageError(f"'{name}' does not name a feature. Say BACKBONE/VIEW, such as uni/frame.")
    if stream not in STREAMS:
        raise UsageError(f"Unknown stream '{stream}'. Known: {', '.join(STREAMS)}.")
    if hop_s is not None and not 0 < hop_s < math.inf:
        raise UsageError(f"A hop is more than 0 seconds, got {hop_s}.")
    for _, path in found:
        try:
            with open_hdf5(path) as file:
                features = _features(file)
                dim, dtype = features.shape[-1], "float16" if features.dtype == np.float16 else "float32"
        except DataError:
            # Told below, when its turn comes.
            continue
        return FeatureSpec(
            backbone, view, stream, int(dim), hop_s, weights_digest, "imported", "imported", "unknown", "unknown",
            dtype, preprocessing={"imported": "an HDF5 file an item"},
        )  # fmt: skip
    raise DataError(f"No item of the manifest has a file with features in {folder}. Names are <item_id>.h5.")


def _read(path: Path, spec: FeatureSpec) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Values, times and indices of one file; `DataError` if it does not fit the spec."""
    with open_hdf5(path) as file:
        features = _features(file)
        n_steps, dim = features.shape[-2:]
        if dim != spec.dim or not n_steps:
            raise DataError(f"{path} has features of shape {features.shape}, expected (T >= 1, {spec.dim}).")
        with np.errstate(over="ignore"):
            # What float32 cannot hold becomes infinite, which the writer refuses.
            values = features[...].reshape(n_steps, dim).astype(spec.storage_dtype)
        times_s = _column(file, "times_s", "f", n_steps)
        indices = _column(file, "indices", "i", n_steps)
    return values, np.arange(n_steps) * (spec.hop_s or 1.0) if times_s is None else times_s, indices


def _features(file: h5py.File) -> h5py.Dataset:
    """The embeddings, (T, D), or (1, T, D) as some tools have them."""
    found = dataset(file, "features", "f", 2, 3)
    if len(found.shape) == 3 and found.shape[0] != 1:
        raise DataError(f"{file.filename} has features of shape {found.shape}, expected (T, D).")
    return found


def _column(file: h5py.File, name: str, kind: str, n_steps: int) -> np.ndarray | None:
    if not has(file, name):
        return None
    found = dataset(file, name, kind, 1)
    if found.shape != (n_steps,):
        raise DataError(f"{file.filename} has {name} of shape {found.shape} for {n_steps} steps.")
    return np.asarray(found[...])
