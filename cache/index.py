"""The index of one feature: Parquet fragments, one a part, which are the only commit records.

A sample exists when a fragment says so, never because a file lies somewhere. Knows nothing of the arrays themselves.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmdf.cache.errors import CacheError
from mmdf.cache.parts import sync_file

# A row that lacks one of the columns that are not nullable names nothing: reading it is refused.
SCHEMA = pa.schema(
    [
        pa.field("sample_key", pa.binary(16), nullable=False),
        pa.field("part_id", pa.string(), nullable=False),
        pa.field("folder", pa.string(), nullable=False),
        ("row", pa.int32()),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("n_steps", pa.int32(), nullable=False),
        ("dim", pa.int32()),
        ("t0_s", pa.float64()),
        ("hop_s", pa.float64()),
        ("status", pa.string()),
        ("reason", pa.string()),
        pa.field("row_crc32", pa.uint32(), nullable=False),
        ("norm_mean", pa.float32()),
        ("run_id", pa.string()),
        pa.field("committed_at_ns", pa.int64(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Index:
    """All committed samples of one feature.

    Attributes
    ----------
    position
        Sample key to row number in the arrays below.
    folders, part
        The folders of the parts, and for every sample the number of its part, (n,) int64.
    start, n_steps
        Where the sample lies in its part, (n,) int64. `n_steps` is 0 where the file lacks what the feature needs.
    row_crc32
        CRC-32 of the sample's bytes, (n,) uint32.
    reason
        Why a sample has no steps, None where it has.
    """

    position: dict[bytes, int]
    folders: list[str]
    part: np.ndarray
    start: np.ndarray
    n_steps: np.ndarray
    row_crc32: np.ndarray
    reason: list[str | None]

    def __contains__(self, key: bytes) -> bool:
        return key in self.position


def read_index(folder: Path) -> Index:
    """Read every fragment below `folder`. Where two parts hold one sample, the first committed wins."""
    tables = _read_all(folder)
    # Fragments, not rows, are sorted: a fragment is one commit, so a million rows cost no sort.
    table = pa.concat_tables(sorted(tables, key=_commit_order)) if tables else SCHEMA.empty_table()
    parts = table.column("folder").combine_chunks().dictionary_encode()
    return Index(
        _first_position(table.column("sample_key").combine_chunks()),
        parts.dictionary.to_pylist(),
        np.asarray(parts.indices, np.int64),
        np.asarray(table.column("start"), np.int64),
        np.asarray(table.column("n_steps"), np.int64),
        np.asarray(table.column("row_crc32"), np.uint32),
        table.column("reason").to_pylist(),
    )


def _read_all(folder: Path) -> list[pa.Table]:
    """Every fragment, as of one moment: compaction may replace some while others are read."""
    tables: dict[Path, pa.Table] = {}
    while True:
        paths = set(folder.glob("frag-*.parquet"))
        if paths == set(tables):
            return [tables[path] for path in sorted(paths)]
        tables = {path: table for path, table in tables.items() if path in paths}
        for path in sorted(paths - set(tables)):
            table = _read_unless_gone(path)
            if table is not None:
                tables[path] = table


def _read_unless_gone(path: Path) -> pa.Table | None:
    try:
        return read_fragment(path)
    except CacheError:
        if path.exists():
            raise
        return None


class Committed:
    """The keys that are committed for one feature, kept up to date by reading only what is new.

    Cheap enough to ask before every slice of work, so that processes which share a store see each other's commits.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: set[str] = set()
        self._keys: set[bytes] = set()

    def update(self) -> None:
        """Read the fragments that came since the last time. Raises `CacheError` for a damaged one."""
        if not self._folder.is_dir():
            return
        with os.scandir(self._folder) as entries:
            names = {e.name for e in entries if e.name.startswith("frag-") and e.name.endswith(".parquet")}
        for name in sorted(names - self._read):
            table = _read_unless_gone(self._folder / name)
            if table is not None:
                self._keys.update(_first_position(table.column("sample_key").combine_chunks()))
                self._read.add(name)

    def __contains__(self, key: bytes) -> bool:
        return key in self._keys


def _commit_order(table: pa.Table) -> tuple[int, str]:
    if not len(table):
        return (0, "")
    return (table.column("committed_at_ns")[0].as_py(), table.column("part_id")[0].as_py())


def _first_position(keys: pa.FixedSizeBinaryArray) -> dict[bytes, int]:
    """Sample key to the first row that holds it. Straight from the buffer: `to_pylist` is slow."""
    if not len(keys):
        return {}
    width = keys.type.byte_width
    raw = np.frombuffer(keys.buffers()[1], f"V{width}", len(keys), keys.offset * width).tolist()
    # A dictionary keeps the last of equal keys, so it is filled from the end.
    return dict(zip(reversed(raw), range(len(raw) - 1, -1, -1), strict=True))


def read_fragment(path: Path, schema: pa.Schema = SCHEMA) -> pa.Table:
    """One commit record; `CacheError` if it cannot be read, or is no record of this schema."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read(columns=schema.names).select(schema.names).cast(schema)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise CacheError(
            f"The record {path} is damaged ({error}). Delete it and run `mmdf extract` again: "
            "only what it names is computed anew."
        ) from error


def commit_table(table: pa.Table, path: Path, temporary: Path) -> bool:
    """Make `table` visible at `path` in one step. False if somebody committed the same name before.

    The link is exclusive, so of two writers one wins and the other knows; both folders must be on one file system.

    Raises
    ------
    CacheError
        If the file system has no hard links.
    """
    temporary.parent.mkdir(exist_ok=True)
    # Parquet checks no bytes unless told to: a flipped bit in `start` would point at another sample.
    pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
    sync_file(temporary)
    try:
        os.link(temporary, path)
        won = True
    except FileExistsError:
        won = False
    except OSError as error:
        raise CacheError(
            f"No commit record can be made in {path.parent} ({error}). A store needs a disk with hard links, "
            "which exFAT and most cloud drives lack: give -s a folder elsewhere."
        ) from error
    temporary.unlink()
    sync_file(path.parent)
    return won
