"""One part: an immutable Zarr v3 group with `data [T, D]`, `times_s [T]`, `indices [T]` and `offsets [n + 1]`.

A part is written once, whole, into a folder nobody reads; `store.py` decides when it becomes visible. Chunks of about
8 MB with crc32c, uncompressed and unsharded: see docs/decisions/0001-parts.md for the measurements behind that.
"""

import hashlib
import itertools
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec

from mmdf.cache.errors import CacheError

CHUNK_BYTES = 8 * 2**20
CRC_BYTES = 4
ARRAYS = ("data", "times_s", "indices", "offsets")
_HOLE = -2


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
    indices
        (T,) int64, where each step begins in its file: number of the frame, or of the sample at 16 kHz; -1 unknown.
    """

    values: np.ndarray
    times_s: np.ndarray
    offsets: np.ndarray
    indices: np.ndarray


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
    _create(group, "indices", part.indices, (max(n_steps, 1),), _HOLE)
    _create(group, "offsets", part.offsets, (len(part.offsets),), -1)
    written = read_part(folder)
    same = (
        np.array_equal(written.values, part.values)
        and np.array_equal(written.times_s, part.times_s)
        and np.array_equal(written.offsets, part.offsets)
        and np.array_equal(written.indices, part.indices)
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
    """Read a part whole. Raises `CacheError` on a missing or damaged file, naming the remedy."""
    with _damage(folder):
        return _checked_part(zarr.open_group(store=folder, mode="r", zarr_format=3))


def check_files(folder: Path) -> tuple[int, int, int]:
    """Check that every chunk file of a part is there and has its full size; nothing is decoded.

    Returns the number of items, the number of steps and the width that the metadata name.

    Raises
    ------
    CacheError
        If a file is missing, cut short, or metadata cannot be read.
    """
    with _damage(folder):
        group = zarr.open_group(store=folder, mode="r", zarr_format=3)
        arrays = {name: _array(group, name) for name in ARRAYS}
        for name, array in arrays.items():
            n_bytes = math.prod(array.chunks) * array.dtype.itemsize + CRC_BYTES
            counts = [math.ceil(size / chunk) for size, chunk in zip(array.shape, array.chunks, strict=True)]
            for coordinates in itertools.product(*map(range, counts)):
                path = folder.joinpath(name, "c", *map(str, coordinates))
                if path.stat().st_size != n_bytes:
                    raise ValueError(f"{path} has {path.stat().st_size} bytes instead of {n_bytes}")
        n_steps, dim = arrays["data"].shape
        return arrays["offsets"].shape[0] - 1, n_steps, dim


@contextmanager
def _damage(folder: Path) -> Iterator[None]:
    try:
        yield
    # A flipped byte in a zarr.json surfaces as nearly anything: unknown argument, division by a zero chunk size.
    except (OSError, LookupError, ValueError, TypeError, ArithmeticError, RuntimeError) as error:
        raise CacheError(
            f"The part {folder} is damaged ({type(error).__name__}: {error}). "
            "Delete its fragment under index/ and run `mmdf extract` again: only this part is computed anew."
        ) from error


def _checked_part(group: zarr.Group) -> Part:
    data, times, places, starts = (_array(group, name) for name in ARRAYS)
    offsets = np.asarray(starts[...])
    # The metadata carry no checksum, so they must agree with each other before anything of their size is allocated.
    if offsets.ndim != 1 or not len(offsets) or offsets[0] != 0 or (np.diff(offsets) < 0).any():
        raise ValueError("offsets do not ascend from 0")
    if data.shape != (offsets[-1], data.chunks[-1]) or times.shape != (offsets[-1],):
        raise ValueError(f"data {data.shape} and times_s {times.shape} for {offsets[-1]} steps")
    if places.shape != times.shape:
        raise ValueError(f"indices {places.shape} for {offsets[-1]} steps")
    part = Part(np.asarray(data[...]), np.asarray(times[...]), offsets, np.asarray(places[...]))
    if np.isnan(part.values[:: data.chunks[0]]).any() or np.isnan(part.times_s).any() or (part.indices == _HOLE).any():
        raise ValueError("a chunk file is missing")
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
