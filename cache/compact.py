"""compact: few large parts instead of many small ones, with the same bits in every sample.

It may run beside extractions, gc and another compaction, and be killed at any instant; it takes no lock. Why nothing
is lost: readers take each sample from the record with the smallest order (time of commit, then name). The new record
is given a smaller order than every record whose rows it takes over, and those go only after it is there. So for each
sample the smallest order that exists only ever sinks, and a record that goes is never the one that holds it. Two
compactions at once leave two copies of the same bits, of which `gc` removes one.

Old parts stay where they are, marked with the time: readers that opened the store before still find them until `gc`,
which keeps what changed within the last hour.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmdf.cache.errors import CacheError, UsageError
from mmdf.cache.index import SCHEMA
from mmdf.cache.parts import sync_file
from mmdf.cache.rewrite import (
    Copies,
    Piece,
    Record,
    commit_pieces,
    name_of,
    read_records,
    remove_record,
    rows_in_effect,
    take,
)
from mmdf.cache.spec import FeatureSpec
from mmdf.cache.store import FeatureStore

PART_BYTES = 256 * 2**20
# A part with more of its steps in no effect is written anew.
DEAD_SHARE = 0.3


@dataclass(frozen=True)
class Compaction:
    """What `compact` did to one feature.

    Attributes
    ----------
    n_parts_before, n_parts_after
        Commit records, those that other runs made meanwhile included.
    n_merged
        Old records that new ones took over.
    bytes_written
        Size of the values in the new parts.
    problems
        Why some parts were left as they are.
    """

    name: str
    fingerprint: str
    n_parts_before: int
    n_parts_after: int
    n_merged: int
    bytes_written: int
    problems: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """4 if a part is damaged or stands in the way, else 0."""
        return 4 if self.problems else 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def to_text(self) -> str:
        """One line, then the problems."""
        line = (
            f"{self.name}: {self.n_parts_before} parts to {self.n_parts_after}, {self.bytes_written / 1e6:.1f} MB new."
        )
        after = " `mmdf cache gc` frees the old ones after an hour." if self.n_merged else ""
        return "\n".join([line + after, *(f"left as it is: {problem}" for problem in self.problems)])


@dataclass(frozen=True, eq=False)
class _Member:
    """A record and which of its rows are in effect, (n,) bool."""

    record: Record
    mask: np.ndarray
    row_bytes: int

    @property
    def bytes_(self) -> int:
        """Of the values in effect."""
        return int(self.record.n_steps[self.mask].sum()) * self.row_bytes

    @property
    def is_sparse(self) -> bool:
        """Whether much of its part is dead weight."""
        n_steps = self.record.n_steps
        return bool(n_steps[~self.mask].sum() > DEAD_SHARE * n_steps.sum())


def compact(store: FeatureStore, spec: FeatureSpec, target_bytes: int = PART_BYTES) -> Compaction:
    """Join the small parts of `spec` into parts of about `target_bytes`; needs about three times that in memory.

    Raises
    ------
    CacheError
        If a commit record is damaged, or the disk is full. A damaged part is a problem in the report: it is left, with
        its record, and the rest goes on.
    """
    if target_bytes < 1:
        raise UsageError(f"A part has at least 1 byte, got {target_bytes}.")
    index, parts = store.root / "index" / spec.fingerprint, store.root / "features" / spec.fingerprint / "parts"
    records = read_records(index)
    masks = rows_in_effect(records)
    copies = Copies(parts, records, masks, spec)
    row_bytes = spec.dim * np.dtype(spec.storage_dtype).itemsize
    members = [_Member(record, mask, row_bytes) for record, mask in zip(records, masks, strict=True)]
    problems: list[str] = []
    n_merged = bytes_written = 0
    for group in _groups(members, target_bytes):
        readable, pieces = _read(parts, group, spec, copies, problems)
        if len(readable) < 2 and not any(member.is_sparse for member in readable):
            continue
        if not _commit(store.root, spec, pieces, min(member.record.order[0] for member in readable)):
            problems.append(f"{len(readable)} parts of {spec.alias} would get the name of another: run `mmdf cache gc`")
            continue
        _retire(index, parts, [member.record for member in readable])
        n_merged += len(readable)
        bytes_written += sum(member.bytes_ for member in readable)
    store.index(spec, refresh=True)
    n_after = len(list(index.glob("frag-*.parquet")))
    return Compaction(spec.alias, spec.fingerprint, len(records), n_after, n_merged, bytes_written, tuple(problems))


def _groups(members: Sequence[_Member], target_bytes: int) -> list[list[_Member]]:
    """What becomes one part each: neighbours in the order of commit. Large parts, and those `gc` takes, are left."""
    groups: list[list[_Member]] = [[]]
    total = 0
    for member in members:
        if not member.mask.any() or (2 * member.bytes_ >= target_bytes and not member.is_sparse):
            continue
        if total + member.bytes_ > target_bytes:
            groups.append([])
            total = 0
        groups[-1].append(member)
        total += member.bytes_
    return [group for group in groups if len(group) > 1 or any(member.is_sparse for member in group)]


def _read(
    parts: Path, group: Sequence[_Member], spec: FeatureSpec, copies: Copies, problems: list[str]
) -> tuple[list[_Member], list[Piece]]:
    """The members of the group that are sound, and what of them is in effect."""
    readable, pieces = [], []
    for member in group:
        keys = member.record.keys
        elsewhere = [keys[row] for row in np.flatnonzero(~member.mask)]
        try:
            # Its own copy of these goes too, so the one in effect must be sound.
            if elsewhere and not copies.sound(elsewhere):
                raise CacheError(f"{member.record.path} has spare copies of samples that are damaged elsewhere.")
            pieces.append(take(parts, member.record, member.mask, spec))
            readable.append(member)
        except CacheError as error:
            problems.append(str(error))
    return readable, pieces


def _commit(root: Path, spec: FeatureSpec, pieces: Sequence[Piece], first_ns: int) -> bool:
    # Two records of the same samples in the same order would have one name: then the other way round.
    for ordered in (list(pieces), list(pieces)[::-1]):
        if (root / "index" / spec.fingerprint / f"frag-{name_of(spec, ordered)}.parquet").exists():
            continue
        ordered[0] = replace(ordered[0], rows=_committed_at(ordered[0].rows, first_ns - 1))
        if commit_pieces(root, spec, ordered):
            return True
    return False


def _committed_at(rows: pa.Table, first_ns: int) -> pa.Table:
    """`rows` with another time in the first of them, which is the one that counts for the order."""
    times_ns = [first_ns, *rows.column("committed_at_ns").to_pylist()[1:]]
    field = SCHEMA.field("committed_at_ns")
    return rows.set_column(SCHEMA.get_field_index(field.name), field, pa.array(times_ns, field.type))


def _retire(index: Path, parts: Path, records: Sequence[Record]) -> None:
    for record in records:
        with suppress(FileNotFoundError):
            os.utime(parts / record.folder)
        remove_record(record)
    sync_file(index)
