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

SCHEMA = pa.schema(
    [
        ("sample_key", pa.binary(16)),
        ("part_id", pa.string()),
        ("folder", pa.string()),
        ("row", pa.int32()),
        ("start", pa.int64()),
        ("n_steps", pa.int32()),
        ("dim", pa.int32()),
        ("t0_s", pa.float64()),
        ("hop_s", pa.float64()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("row_crc32", pa.uint32()),
        ("norm_mean", pa.float32()),
        ("run_id", pa.string()),
        ("committed_at_ns", pa.int64()),
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
    paths = sorted(folder.glob("frag-*.parquet"))
    tables = [read_fragment(path) for path in paths]
    table = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
    table = table.sort_by([("committed_at_ns", "ascending"), ("part_id", "ascending"), ("row", "ascending")])
    position: dict[bytes, int] = {}
    for row, key in enumerate(table.column("sample_key").to_pylist()):
        position.setdefault(key, row)
    parts = table.column("folder").combine_chunks().dictionary_encode()
    return Index(
        position,
        parts.dictionary.to_pylist(),
        np.asarray(parts.indices, np.int64),
        np.asarray(table.column("start"), np.int64),
        np.asarray(table.column("n_steps"), np.int64),
        np.asarray(table.column("row_crc32"), np.uint32),
        table.column("reason").to_pylist(),
    )


def read_fragment(path: Path) -> pa.Table:
    """One commit record; `CacheError` if it cannot be read."""
    try:
        return pq.read_table(path, schema=SCHEMA)
    except (pa.ArrowInvalid, OSError) as error:
        raise CacheError(
            f"The index fragment {path} is damaged ({error}). Delete it and run `mmdf extract` again: "
            "only its part is computed anew."
        ) from error


def commit_table(table: pa.Table, path: Path, temporary: Path) -> bool:
    """Make `table` visible at `path` in one step. False if somebody committed the same name before.

    The link is exclusive, so of two writers one wins and the other knows; both folders must be on one file system.
    """
    pq.write_table(table, temporary, compression="zstd")
    sync_file(temporary)
    try:
        os.link(temporary, path)
        won = True
    except FileExistsError:
        won = False
    temporary.unlink()
    sync_file(path.parent)
    return won
