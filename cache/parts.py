"""One part: an immutable Zarr v3 group with `data [T, D]`, `times_s [T]` and `offsets [n + 1]`.

A part is written once, whole, into a folder nobody reads; `store.py` decides when it becomes visible. Chunks of about
8 MB with crc32c, uncompressed and unsharded: see docs/decisions/0001-parts.md for the measurements behind that.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec

from mmdf.cache.errors import CacheError

CHUNK_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Part:
    """Embeddings of n items, one after the other.

    Attributes
    ----------
    values
        (T, D) float16 or float32.
    times_s
        (T,) float64, the time of each step.
    offsets
        (n + 1,) int64: item i has the rows offsets[i] to offsets[i + 1].
    """

    values: np.ndarray
    times_s: np.ndarray
    offsets: np.ndarray


def part_id(fingerprint: str, keys: Sequence[bytes]) -> str:
    """Name of the part that holds these samples in this order: the same work always has the same name."""
    digest = hashlib.blake2b(fingerprint.encode(), digest_size=16)
    for key in keys:
        digest.update(key)
    return digest.hexdigest()


def write_part(folder: Path, part: Part) -> None:
    """Write `part` into the new folder `folder`, read it back, and force it to disk.

    Raises
    ------
    CacheError
        If what was read back differs from what was written.
    """
    n_steps, dim = part.values.shape
    rows = max(1, min(max(n_steps, 1), CHUNK_BYTES // (dim * part.values.itemsize)))
    group = zarr.create_group(store=folder, zarr_format=3)
    _create(group, "data", part.values, (rows, dim), np.nan)
    _create(group, "times_s", part.times_s, (max(n_steps, 1),), np.nan)
    _create(group, "offsets", part.offsets, (len(part.offsets),), -1)
    written = read_part(folder)
    same = (
        np.array_equal(written.values, part.values)
        and np.array_equal(written.times_s, part.times_s)
        and np.array_equal(written.offsets, part.offsets)
    )
    if not same:
        raise CacheError(f"The part in {folder} reads back other than it was written: check the disk, then run again.")
    sync_tree(folder)


def _create(group: zarr.Group, name: str, values: np.ndarray, chunks: tuple, fill: float) -> None:
    # A fill value that can't be data: a missing chunk must never pass as a vector of zeros.
    array = group.create_array(
        name, shape=values.shape, dtype=values.dtype, chunks=chunks, compressors=[Crc32cCodec()], fill_value=fill
    )
    array[...] = values


def read_part(folder: Path) -> Part:
    """Read a part whole. Raises `CacheError` on a missing or damaged chunk, naming the remedy."""
    try:
        group = zarr.open_group(store=folder, mode="r", zarr_format=3)
        loaded = {name: _array(group, name)[...] for name in ("data", "times_s", "offsets")}
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise CacheError(
            f"The part {folder} is damaged ({type(error).__name__}: {error}). "
            "Delete its fragment under index/ and run `mmdf extract` again: only this part is computed anew."
        ) from error
    part = Part(np.asarray(loaded["data"]), np.asarray(loaded["times_s"]), np.asarray(loaded["offsets"]))
    rows = _array(group, "data").chunks[0]
    if len(part.values) and (np.isnan(part.values[::rows, 0]).any() or np.isnan(part.times_s).any()):
        raise CacheError(
            f"The part {folder} has a hole: a chunk file is missing. "
            "Delete its fragment under index/ and run `mmdf extract` again."
        )
    return part


def _array(group: zarr.Group, name: str) -> zarr.Array:
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise KeyError(name)
    return array


def sync_file(path: Path) -> None:
    """Force one file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Force a folder and all below it to disk; Zarr itself never does."""
    for path in folder.rglob("*"):
        sync_file(path)
    sync_file(folder)
