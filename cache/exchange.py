"""What every export and import needs: a report, targets that appear whole or not at all, and parts of a good size.

Knows no file format.
"""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmdf.cache.errors import CacheError, MediaError, UsageError
from mmdf.cache.parts import sync_file, sync_tree
from mmdf.cache.spec import FeatureSpec
from mmdf.cache.store import FeatureStore
from mmdf.cache.writer import PartWriter

BLOCK_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Transferred:
    """What went over of one feature.

    Attributes
    ----------
    n_items, n_absent
        Items with steps, and items that are known to lack what the feature needs.
    n_skipped
        Export: items that the store has no embeddings of. Import: samples that the store had already, or items that
        have no file.
    bytes_
        Size of the values.
    """

    name: str
    fingerprint: str
    n_items: int
    n_absent: int
    n_skipped: int
    n_steps: int
    bytes_: int


@dataclass(frozen=True)
class TransferReport:
    """What an export or import did.

    Attributes
    ----------
    problems
        A line for each file or item that could not be used.
    """

    verb: str
    path: str
    features: tuple[Transferred, ...]
    problems: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """3 if some items could not be used, else 0."""
        return 3 if self.problems else 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def to_text(self) -> str:
        """A line a feature, then the problems."""
        skipped = "not in the store" if self.verb == "exported" else "there before, or without a file"
        lines = [
            f"{self.verb} {one.name}: {one.n_items} items, {one.n_steps} steps, {one.bytes_ / 1e6:.1f} MB; "
            f"{one.n_absent} absent, {one.n_skipped} {skipped}"
            for one in self.features
        ]
        preposition = "to" if self.verb == "exported" else "from"
        return "\n".join([*lines, *(f"LEFT OUT: {p}" for p in self.problems), f"{preposition} {self.path}"])


@contextmanager
def published(target: Path) -> Iterator[Path]:
    """A temporary name beside `target` to write to: forced to disk and renamed at the end, removed if anything fails.

    Raises
    ------
    UsageError
        If there is something at `target`, an empty folder excepted.
    """
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise UsageError(f"There is something at {target}. Give another name, or remove it first.")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        (sync_tree if temporary.is_dir() else sync_file)(temporary)
        os.rename(temporary, target)
        sync_file(target.parent)
    except BaseException as error:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise CacheError(f"{target} cannot be written ({error}). Make room, or write elsewhere.") from error
        raise


def blocks(n_steps: np.ndarray, row_bytes: int) -> Iterator[slice]:
    """Items with `n_steps` (n,) steps each in runs of at most `BLOCK_BYTES`, or of one item where it is larger."""
    start, size = 0, 0
    for item, item_bytes in enumerate((n_steps * row_bytes).tolist()):
        if item > start and size + item_bytes > BLOCK_BYTES:
            yield slice(start, item)
            start, size = item, 0
        size += item_bytes
    if start < len(n_steps):
        yield slice(start, len(n_steps))


class PartsWriter:
    """Any number of samples into a store, in parts of about `BLOCK_BYTES`; counts what it wrote."""

    def __init__(self, store: FeatureStore, spec: FeatureSpec) -> None:
        self._store, self._spec = store, spec
        self._run_id = f"import-{uuid.uuid4().hex[:8]}"
        self._part: PartWriter = store.writer(spec, self._run_id)
        self._part_bytes = 0
        self.n_items = self.n_absent = self.n_steps = self.bytes_ = 0

    def add(self, key: bytes, values: np.ndarray, times_s: np.ndarray, indices: np.ndarray | None) -> str | None:
        """Add one sample, as `PartWriter.add` does. Why it cannot be one, or None."""
        try:
            self._part.add(key, values, times_s, indices)
        except (MediaError, ValueError) as error:
            return str(error)
        n_bytes = values.size * np.dtype(self._spec.storage_dtype).itemsize
        self.n_items, self.n_steps = self.n_items + 1, self.n_steps + len(values)
        self.bytes_, self._part_bytes = self.bytes_ + n_bytes, self._part_bytes + n_bytes
        if self._part_bytes >= BLOCK_BYTES:
            self.commit()
        return None

    def absent(self, key: bytes, reason: str) -> None:
        """Record that the file lacks what the feature needs."""
        self._part.absent(key, reason)
        self.n_absent += 1

    def commit(self) -> None:
        """Commit what was added since the last time. Raises `CacheError` if the disk does not take it."""
        try:
            self._part.commit()
        except OSError as error:
            raise CacheError(
                f"No part can be written in {self._store.root} ({error}). Make room and run it again: "
                "what was committed is not done twice."
            ) from error
        self._store.index(self._spec, refresh=True)
        self._part, self._part_bytes = self._store.writer(self._spec, self._run_id), 0

    def transferred(self, n_skipped: int) -> Transferred:
        """What was written, for the report."""
        spec = self._spec
        return Transferred(
            spec.alias, spec.fingerprint, self.n_items, self.n_absent, n_skipped, self.n_steps, self.bytes_
        )
