"""Rows of old parts in a new part, bit for bit: what compact and merge share.

A row keeps its times, places, checksum, norm, run and time of commit; only where it lies is new. Knows nothing of why
rows move, nor of what becomes of the old parts.
"""

import os
import re
import shutil
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from mmdf.cache.errors import CacheError
from mmdf.cache.index import SCHEMA, commit_table, read_fragment
from mmdf.cache.parts import Part, part_id, read_part, sync_file, write_part
from mmdf.cache.spec import FeatureSpec

# A record of another machine's store names a folder: it must not lead out of the store.
_FOLDER_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]*")


@dataclass(frozen=True, eq=False)
class Record:
    """A commit record that could be read and does not contradict itself.

    Attributes
    ----------
    keys
        The sample key of each row.
    folder
        Name of the part's folder, which exists only if a row has steps.
    """

    path: Path
    rows: pa.Table
    keys: list[bytes]
    folder: str

    @property
    def name(self) -> str:
        """Name of the part."""
        return self.path.stem.removeprefix("frag-")

    @property
    def order(self) -> tuple[int, str]:
        """Where two records hold one sample, readers see that of the record with the smaller order."""
        return (self.rows.column("committed_at_ns")[0].as_py(), self.name)

    @property
    def n_steps(self) -> np.ndarray:
        """(n,) int64, steps of each row."""
        return np.asarray(self.rows.column("n_steps"), np.int64)


@dataclass(frozen=True, eq=False)
class Piece:
    """Rows of one record and their arrays; no arrays where no row has steps."""

    rows: pa.Table
    part: Part | None


def read_record(path: Path) -> Record:
    """The commit record at `path`; `CacheError` if it cannot be read or contradicts its name."""
    rows = read_fragment(path)
    keys = rows.column("sample_key").to_pylist()
    name = path.stem.removeprefix("frag-")
    folders = rows.column("folder").unique().to_pylist()
    named = part_id(path.parent.name, keys) == name and rows.column("part_id").unique().to_pylist() == [name]
    if not named or len(folders) != 1 or not _FOLDER_NAME.fullmatch(folders[0]):
        raise CacheError(f"The record {path} contradicts itself. See `mmdf cache verify` for what to do.")
    return Record(path, rows, keys, folders[0])


def read_records(index: Path) -> list[Record]:
    """Every commit record below `index`, in the order in which readers see them.

    Compaction may put one record in the place of others while we read. A listing is trusted only if it equals what was
    read, so that the new record is never missed together with an old one.

    Raises
    ------
    CacheError
        If a record is damaged.
    """
    found: dict[Path, Record] = {}
    while (paths := set(index.glob("frag-*.parquet"))) != found.keys():
        found = {path: record for path, record in found.items() if path in paths}
        for path in sorted(paths - found.keys()):
            try:
                found[path] = read_record(path)
            except CacheError:
                if path.exists():
                    raise
    return sorted(found.values(), key=lambda record: record.order)


def remove_record(record: Record) -> None:
    """Remove a commit record, if it is still the one that was read.

    Names are hashes of samples: another compaction may since have removed it and made one of the same name, on which
    readers now depend.
    """
    try:
        now = read_record(record.path)
    except CacheError:
        # Gone already, or damaged since: that is for `verify` to tell.
        return
    if now.folder == record.folder:
        record.path.unlink(missing_ok=True)


def rows_in_effect(records: Sequence[Record]) -> list[np.ndarray]:
    """For each record, in order, which of its rows readers see: (n,) bool. The first to hold a sample wins."""
    seen: set[bytes] = set()
    masks = []
    for record in records:
        mask = np.zeros(len(record.keys), bool)
        for row, key in enumerate(record.keys):
            mask[row] = key not in seen
            seen.add(key)
        masks.append(mask)
    return masks


def take(parts: Path, record: Record, mask: np.ndarray, spec: FeatureSpec) -> Piece:
    """The rows of `record` where `mask` (n,) is true, with their arrays, each checked against its `row_crc32`.

    Parameters
    ----------
    parts
        The folder that holds the folders of parts.

    Raises
    ------
    CacheError
        If the part is damaged, or not what the record says.
    """
    rows = record.rows.filter(pa.array(mask))
    start, n_steps = (np.asarray(rows.column(name), np.int64) for name in ("start", "n_steps"))
    if not n_steps.any():
        return Piece(rows, None)
    part = read_part(parts / record.folder)
    ends = start + n_steps
    fits = part.values.shape[1:] == (spec.dim,) and part.values.dtype == spec.storage_dtype
    if not fits or n_steps.min() < 0 or start.min() < 0 or ends.max() > len(part.values):
        raise CacheError(f"The part {parts / record.folder} is not what its record and the spec of {spec.alias} say.")
    checksums = rows.column("row_crc32").to_pylist()
    for row, (low, high) in enumerate(zip(start.tolist(), ends.tolist(), strict=True)):
        if high > low and zlib.crc32(part.values[low:high].tobytes()) != checksums[row]:
            key = rows.column("sample_key")[row].as_py().hex()
            raise CacheError(f"The part {parts / record.folder} holds other bytes than were committed for {key}.")
    offsets = np.concatenate([[0], np.cumsum(n_steps[n_steps > 0])])
    chosen = np.arange(offsets[-1]) + np.repeat(start - (np.cumsum(n_steps) - n_steps), n_steps)
    return Piece(rows, Part(part.values[chosen], part.times_s[chosen], offsets, part.indices[chosen]))


class Copies:
    """Whether what readers see of some samples is sound; each part is read once at most, when it is asked about."""

    def __init__(self, parts: Path, records: Sequence[Record], masks: Sequence[np.ndarray], spec: FeatureSpec) -> None:
        self._parts, self._records, self._masks, self._spec = parts, records, masks, spec
        self._sound: dict[int, bool] = {}
        self._owner: dict[bytes, int] = {}

    def sound(self, keys: Sequence[bytes]) -> bool:
        """Whether the copies in effect of all `keys` are there, with the checksums they were committed with."""
        if keys and not self._owner:
            for number, (record, mask) in enumerate(zip(self._records, self._masks, strict=True)):
                self._owner |= {key: number for key, seen in zip(record.keys, mask, strict=True) if seen}
        return all(self._is_sound(number) for number in {self._owner[key] for key in keys})

    def _is_sound(self, number: int) -> bool:
        if number not in self._sound:
            try:
                take(self._parts, self._records[number], self._masks[number], self._spec)
                self._sound[number] = True
            except CacheError:
                self._sound[number] = False
        return self._sound[number]


def name_of(spec: FeatureSpec, pieces: Sequence[Piece]) -> str:
    """The name that a part made of `pieces` has."""
    return part_id(spec.fingerprint, [key for piece in pieces for key in piece.rows.column("sample_key").to_pylist()])


def commit_pieces(root: Path, spec: FeatureSpec, pieces: Sequence[Piece]) -> bool:
    """Commit `pieces` as one part, by the steps of `PartWriter.commit`; the feature's folders must be there.

    Returns False, and leaves nothing behind, if a part of the same samples in the same order was committed before.
    """
    name = name_of(spec, pieces)
    folder = f"{name}-{uuid.uuid4().hex[:8]}"
    place = root / "features" / spec.fingerprint / "parts" / folder
    arrays = [piece.part for piece in pieces if piece.part is not None]
    if arrays:
        try:
            _place(joined(arrays), root / "tmp" / uuid.uuid4().hex, place)
        except OSError as error:
            raise CacheError(
                f"No part can be written in {place.parent} ({error}). Make room, or mend the rights, and run it again: "
                "what was committed is whole."
            ) from error
    rows = _placed(pa.concat_tables([piece.rows for piece in pieces]).combine_chunks(), name, folder)
    fragment = root / "index" / spec.fingerprint / f"frag-{name}.parquet"
    won = commit_table(rows, fragment, root / "tmp" / f"{uuid.uuid4().hex}.parquet")
    if not won:
        shutil.rmtree(place, ignore_errors=True)
    return won


def joined(parts: Sequence[Part]) -> Part:
    """Several parts as one, in their order."""
    shifts = np.cumsum([0, *(len(part.values) for part in parts)])
    return Part(
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.times_s for part in parts]),
        np.concatenate([[0], *(part.offsets[1:] + shift for part, shift in zip(parts, shifts[:-1], strict=True))]),
        np.concatenate([part.indices for part in parts]),
    )


def _place(part: Part, temporary: Path, place: Path) -> None:
    try:
        write_part(temporary, part)
    except Exception:
        # A full disk is the likely reason: what was half written must not keep it full.
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    os.rename(temporary, place)
    sync_file(place.parent)


def _placed(rows: pa.Table, name: str, folder: str) -> pa.Table:
    """`rows` with where they lie in the new part."""
    n_steps = np.asarray(rows.column("n_steps"), np.int64)
    stored = n_steps > 0
    new = {
        "part_id": [name] * len(rows),
        "folder": [folder] * len(rows),
        "row": np.where(stored, np.cumsum(stored) - 1, -1),
        "start": np.where(stored, np.cumsum(n_steps) - n_steps, 0),
    }
    for column, values in new.items():
        field = SCHEMA.field(column)
        rows = rows.set_column(SCHEMA.get_field_index(column), field, pa.array(values, field.type))
    return rows
