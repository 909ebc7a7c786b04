"""Features out of a store into one HDF5 file, and back, bit for bit. A file a feature or an item: `transfer_items.py`.

    /<backbone>/<view>          attributes: spec (JSON), fingerprint
        data        (T, D)      float16 or float32
        offsets     (n + 1,)    int64: item i has the rows offsets[i] to offsets[i + 1]
        times_s     (T,)        float64
        indices     (T,)        int64
        row_crc32   (n,)        uint32, of the bytes of each item
        sample_keys (n, 16)     uint8
        item_ids, reasons       (n,) text; a reason only where the file lacks what the feature needs
        size_bytes, mtime_ns    (n,) int64, of the media files when they were seen

Exchange only: the store itself never depends on HDF5. Knows nothing of media.
"""

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from mmdf.cache.errors import DataError, UsageError
from mmdf.cache.exchange import PartsWriter, Transferred, TransferReport, blocks, published
from mmdf.cache.hdf5 import dataset, decoded, encoded, group, open_hdf5, text
from mmdf.cache.ledger import Seen
from mmdf.cache.manifest import Manifest
from mmdf.cache.spec import FeatureSpec
from mmdf.cache.store import FeatureStore

FORMAT, VERSION = "mmdf-features", 1
CHUNK_BYTES = 4 * 2**20


def export_h5(store: FeatureStore, manifest: Manifest, file: Path, specs: Sequence[FeatureSpec]) -> TransferReport:
    """Write the embeddings of the items of `manifest` into the new HDF5 file `file`, a group for each of `specs`.

    Raises
    ------
    UsageError
        If there is something at `file`.
    CacheError
        If a part is damaged. No file is left then.
    """
    names = group_names(specs)
    with published(file) as temporary:
        with h5py.File(temporary, "w") as target:
            target.attrs["format"], target.attrs["version"] = FORMAT, VERSION
            target.attrs["features"] = json.dumps(names)
            done = [
                _export(target.create_group(name), store, manifest, spec)
                for name, spec in zip(names, specs, strict=True)
            ]
    return TransferReport("exported", str(file), tuple(done))


def group_names(specs: Sequence[FeatureSpec]) -> list[str]:
    """The alias of each spec, with the start of its fingerprint where another has the same alias."""
    if not specs:
        raise UsageError("Name a feature to export: `mmdf cache ls` shows them.")
    aliases = [spec.alias for spec in specs]
    return [
        alias if aliases.count(alias) == 1 else f"{alias}@{spec.fingerprint[:8]}"
        for alias, spec in zip(aliases, specs, strict=True)
    ]


def _export(target: h5py.Group, store: FeatureStore, manifest: Manifest, spec: FeatureSpec) -> Transferred:
    index, keys = store.index(spec), store.keys(manifest)
    there = np.array([key is not None and key in index for key in keys], bool)
    chosen = manifest.take(there)
    rows = np.array([index.position[key] for key, here in zip(keys, there, strict=True) if key and here], np.int64)
    n_steps = index.n_steps[rows]
    offsets = np.concatenate([[0], np.cumsum(n_steps)]).astype(np.int64)
    target.attrs["spec"], target.attrs["fingerprint"] = json.dumps(spec.to_dict()), spec.fingerprint
    data = _create(target, "data", (int(offsets[-1]), spec.dim), spec.storage_dtype)
    times_s = _create(target, "times_s", data.shape[:1], "float64")
    indices = _create(target, "indices", data.shape[:1], "int64")
    for block in blocks(n_steps, spec.dim * data.dtype.itemsize):
        ragged = store.read(spec, chosen.take(np.arange(block.start, block.stop)))
        low, high = int(offsets[block.start]), int(offsets[block.stop])
        data[low:high], times_s[low:high], indices[low:high] = ragged.values, ragged.times_s, ragged.indices
    seen = store.ledger.samples().latest
    ids = chosen.column("item_id")
    columns = {
        "offsets": offsets,
        "row_crc32": index.row_crc32[rows],
        "sample_keys": np.frombuffer(b"".join(k for k, here in zip(keys, there, strict=True) if k and here), np.uint8),
        "item_ids": encoded(ids, "an item_id"),
        "reasons": encoded([index.reason[row] or "" for row in rows], "a reason"),
        "size_bytes": np.array([seen[item_id].size_bytes for item_id in ids], np.int64),
        "mtime_ns": np.array([seen[item_id].mtime_ns for item_id in ids], np.int64),
    }
    columns["sample_keys"] = columns["sample_keys"].reshape(-1, 16)
    for name, values in columns.items():
        _create(target, name, values.shape, values.dtype)[...] = values
    n_items = int((n_steps > 0).sum())
    n_bytes = int(offsets[-1]) * spec.dim * data.dtype.itemsize
    return Transferred(
        spec.alias, spec.fingerprint, n_items, len(rows) - n_items, len(manifest) - len(rows), int(offsets[-1]), n_bytes
    )


def _create(target: h5py.Group, name: str, shape: tuple[int, ...], dtype: str | np.dtype) -> h5py.Dataset:
    if not all(shape):
        return target.create_dataset(name, shape, dtype)
    row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * np.dtype(dtype).itemsize
    rows = max(1, min(shape[0], CHUNK_BYTES // row_bytes))
    return target.create_dataset(name, shape, dtype, chunks=(rows, *shape[1:]), fletcher32=True)


def import_h5(store: FeatureStore, file: Path) -> TransferReport:
    """Take over into `store` what it lacks of what `export_h5` wrote. Items that it never saw become known to it.

    Raises
    ------
    DataError
        If the file is not such an export, is damaged, or refers to other files. An item whose bytes are not those
        that were exported is a problem in the report.
    """
    done, problems = [], []
    with open_hdf5(file) as source:
        if text(source, "format") != FORMAT or int(source.attrs.get("version", 0)) != VERSION:
            raise DataError(f"{file} is not an export of features that this mmdf reads. Export it again.")
        names = json.loads(text(source, "features"))
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError(f"{file} does not say which features it holds. Export it again.")
        for name in names:
            one, found = _import(store, group(source, name))
            done.append(one)
            problems += [f"{name}: {problem}" for problem in found]
    return TransferReport("imported", str(file), tuple(done), tuple(problems))


def _import(store: FeatureStore, source: h5py.Group) -> tuple[Transferred, list[str]]:
    spec = read_spec_json(text(source, "spec"))
    if spec.fingerprint != text(source, "fingerprint"):
        raise DataError(f"The spec of {source.name} was altered: its fingerprint is another. Export it again.")
    columns = _columns(source)
    offsets, keys = columns["offsets"], [row.tobytes() for row in columns["sample_keys"]]
    ids, reasons = decoded(columns["item_ids"]), decoded(columns["reasons"])
    arrays = _arrays(source, spec, int(offsets[-1]))
    # The folders of the feature are made here, and its spec is written.
    parts = PartsWriter(store, spec)
    known = set(store.index(spec, refresh=True).position)
    problems, n_skipped = [], 0
    for block in blocks(np.diff(offsets), spec.dim * np.dtype(spec.storage_dtype).itemsize):
        first = offsets[block.start]
        values, times_s, indices = (array[first : offsets[block.stop]] for array in arrays)
        for row in range(block.start, block.stop):
            steps = slice(offsets[row] - first, offsets[row + 1] - first)
            if keys[row] in known:
                n_skipped += 1
                continue
            known.add(keys[row])
            if steps.start == steps.stop:
                parts.absent(keys[row], reasons[row])
            elif zlib.crc32(values[steps].tobytes()) != columns["row_crc32"][row]:
                problems.append(f"{ids[row]}: its bytes are not those that were exported")
            elif (problem := parts.add(keys[row], values[steps], times_s[steps], indices[steps])) is not None:
                problems.append(f"{ids[row]}: {problem}")
    parts.commit()
    _sight(store, ids, columns)
    return parts.transferred(n_skipped), problems


def _sight(store: FeatureStore, ids: Sequence[str], columns: Mapping[str, np.ndarray]) -> None:
    """Make the items known to a store that never saw them; what it saw itself counts more."""
    latest = store.ledger.samples().latest
    keys = [row.tobytes() for row in columns["sample_keys"]]
    pairs = zip(ids, columns["size_bytes"].tolist(), columns["mtime_ns"].tolist(), keys, strict=True)
    store.ledger.add_samples([Seen(*row) for row in pairs if row[0] not in latest])


def _columns(source: h5py.Group) -> dict[str, np.ndarray]:
    """What there is one of an item, checked against each other."""
    kinds = {"row_crc32": "u", "item_ids": "S", "reasons": "S", "size_bytes": "i", "mtime_ns": "i"}
    found = {"offsets": dataset(source, "offsets", "i", 1), "sample_keys": dataset(source, "sample_keys", "u", 2)}
    found |= {name: dataset(source, name, kind, 1) for name, kind in kinds.items()}
    n_items = len(found["offsets"]) - 1
    for name, one in found.items():
        wanted = (n_items, 16) if name == "sample_keys" else (n_items + (name == "offsets"),)
        if one.shape != wanted:
            raise DataError(f"{source.name}/{name} has the shape {one.shape}, expected {wanted}. Export it again.")
    columns = {name: one[...] for name, one in found.items()}
    offsets = columns["offsets"]
    if not len(offsets) or offsets[0] != 0 or (np.diff(offsets) < 0).any() or columns["sample_keys"].itemsize != 1:
        raise DataError(f"The offsets or keys of {source.name} are none. Export it again.")
    return columns


def _arrays(source: h5py.Group, spec: FeatureSpec, n_steps: int) -> tuple[h5py.Dataset, h5py.Dataset, h5py.Dataset]:
    """Values, times and indices, nothing of them read so far."""
    data, times_s = dataset(source, "data", "f", 2), dataset(source, "times_s", "f", 1)
    indices = dataset(source, "indices", "i", 1)
    shapes = (data.shape, times_s.shape, indices.shape)
    if shapes != ((n_steps, spec.dim), (n_steps,), (n_steps,)):
        raise DataError(f"{source.name} has arrays of {shapes} for {n_steps} steps of width {spec.dim}.")
    if (data.dtype, times_s.dtype, indices.dtype) != (np.dtype(spec.storage_dtype), np.float64, np.int64):
        raise DataError(f"{source.name} has arrays of types other than its spec says. Export it again.")
    return data, times_s, indices


def read_spec_json(content: str) -> FeatureSpec:
    """The spec in a text from outside; `DataError` if it is none."""
    try:
        spec = FeatureSpec.from_dict(json.loads(content))
        names = (spec.backbone, spec.view, spec.stream, spec.storage_dtype, spec.weights_digest, spec.variant)
        if not all(isinstance(name, str) for name in names) or not isinstance(spec.dim, int) or spec.dim < 1:
            raise ValueError("a field has the wrong type")
        if spec.storage_dtype not in ("float16", "float32") or not math.isfinite(spec.hop_s or 0.0):
            raise ValueError(f"storage dtype {spec.storage_dtype}, hop {spec.hop_s}")
        spec.fingerprint  # noqa: B018 - it fails for values that no JSON can hold
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"This is no spec of a feature ({error}). Export it again.") from error
    return spec
