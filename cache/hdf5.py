"""HDF5 files of strangers, read carefully. Knows nothing of what the numbers mean.

A link can lead to another file of this machine (external link), and so can the bytes of a dataset (external storage, a
virtual dataset): all of these are refused. Shapes are believed only as far as the file holds the bytes for them.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from mmdf.cache.errors import DataError

# Compressed data may be so many times larger than their bytes in the file. Embeddings hardly compress at all.
MAX_RATIO = 100


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open `path` for reading; whatever HDF5 says of it inside of the block becomes a `DataError`."""
    if not path.is_file():
        raise DataError(f"No HDF5 file at {path}.")
    try:
        with h5py.File(path, "r") as file:
            yield file
    # h5py reports damage as nearly anything, depending on which of its structures it met.
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, OverflowError) as error:
        raise DataError(f"{path} cannot be read as HDF5 ({type(error).__name__}: {error}). Make it again.") from error


def group(parent: h5py.Group, name: str) -> h5py.Group:
    """The group at `name`, a path with slashes; `DataError` if there is none, or a link leads elsewhere."""
    found = _follow(parent, name)
    if not isinstance(found, h5py.Group):
        raise DataError(f"{_where(parent, name)} should be a group.")
    return found


def dataset(parent: h5py.Group, name: str, kind: str, *ndims: int) -> h5py.Dataset:
    """The dataset at `name`, nothing of it read so far.

    Parameters
    ----------
    kind
        The kind of dtype that is allowed, as in `numpy.dtype.kind`.
    ndims
        The numbers of axes that are allowed.

    Raises
    ------
    DataError
        If there is none, its type or number of axes is another, its bytes lie in another file, or the file is too
        small for its shape.
    """
    found = _follow(parent, name)
    where = _where(parent, name)
    if not isinstance(found, h5py.Dataset):
        raise DataError(f"{where} should be a dataset.")
    if found.external or found.is_virtual:
        raise DataError(f"{where} keeps its numbers in another file, which is never followed. Export it whole.")
    if found.dtype.kind != kind:
        raise DataError(f"{where} holds {found.dtype}, which is not of the kind '{kind}'.")
    if found.shape is None or len(found.shape) not in ndims:
        raise DataError(f"{where} has the shape {found.shape}, expected {' or '.join(map(str, ndims))} axes.")
    n_bytes = math.prod(found.shape) * found.dtype.itemsize
    if n_bytes > MAX_RATIO * found.id.get_storage_size():
        raise DataError(f"{where} claims {n_bytes} bytes, the file holds {found.id.get_storage_size()} for it.")
    return found


def has(parent: h5py.Group, name: str) -> bool:
    """Whether there is a link called `name`; it is not followed."""
    return bool(parent.id.links.exists(name.encode()))


def text(parent: h5py.Group, name: str) -> str:
    """A text attribute; `DataError` if there is none."""
    value = parent.attrs.get(name)
    if not isinstance(value, str):
        raise DataError(f"{_where(parent, '')} lacks the text attribute '{name}'.")
    return value


def encoded(values: list[str], what: str) -> np.ndarray:
    """Texts as an array of fixed width in UTF-8; `DataError` where HDF5 would cut them."""
    if any("\0" in value for value in values):
        raise DataError(f"HDF5 cannot hold {what} with a NUL character. Rename it in the manifest.")
    rows = [value.encode() for value in values]
    width = max(1, max(map(len, rows), default=1))
    return np.array(rows, f"S{width}").astype(h5py.string_dtype("utf-8", width))


def decoded(values: np.ndarray) -> list[str]:
    """The inverse of `encoded`."""
    try:
        return [value.decode() for value in values.tolist()]
    except UnicodeDecodeError as error:
        raise DataError(f"A text in the file is no UTF-8 ({error}). Make the file again.") from error


def _follow(parent: h5py.Group, name: str) -> object:
    found: object = parent
    for step in name.split("/"):
        if not step or not isinstance(found, h5py.Group) or not has(found, step):
            raise DataError(f"{_where(parent, name)} is missing.")
        # `get(..., getlink=True)` would open the other file to see whether it is there.
        if found.id.links.get_info(step.encode()).type != h5py.h5l.TYPE_HARD:
            raise DataError(f"{_where(parent, name)} is a link to elsewhere, which is never followed.")
        found = found[step]
    return found


def _where(parent: h5py.Group, name: str) -> str:
    return f"{parent.file.filename}:{parent.name.rstrip('/')}/{name}"
