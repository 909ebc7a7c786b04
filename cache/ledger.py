"""The ledger beside the index: which item has which bytes, what failed and why, and who ran what.

Append-only Parquet fragments, later rows win. A sample's key is the hash of its bytes, so that a file which stands in
two data sets is computed once.
"""

import hashlib
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from mmdf.cache.index import commit_table, read_fragment

SAMPLES = pa.schema(
    [
        ("item_id", pa.string()),
        ("size_bytes", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("sample_key", pa.binary(16)),
        ("seen_at_ns", pa.int64()),
    ]
)
FAILURES = pa.schema(
    [
        ("sample_key", pa.binary(16)),
        ("item_id", pa.string()),
        ("path", pa.string()),
        ("fingerprint", pa.string()),
        ("stage", pa.string()),
        ("error", pa.string()),
        ("message", pa.string()),
        ("run_id", pa.string()),
        ("failed_at_ns", pa.int64()),
    ]
)
MESSAGE_CHARACTERS = 500


@dataclass(frozen=True)
class Seen:
    """An item's bytes as they were met: size and time of change let the hash be reused while both stay the same."""

    item_id: str
    size_bytes: int
    mtime_ns: int
    sample_key: bytes


@dataclass(frozen=True)
class Failure:
    """One item that could not be turned into one feature, with the reason in words."""

    sample_key: bytes | None
    item_id: str
    path: str
    fingerprint: str
    stage: str
    error: str
    message: str


@dataclass(frozen=True)
class Samples:
    """All items ever seen, the latest sighting of each."""

    latest: Mapping[str, Seen]

    def key(self, item_id: str, size_bytes: int | None) -> bytes | None:
        """The sample key of an item. None if it was never seen, or seen with another size than the manifest says."""
        seen = self.latest.get(item_id)
        if seen is None or (size_bytes is not None and size_bytes != seen.size_bytes):
            return None
        return seen.sample_key

    def unchanged(self, item_id: str, size_bytes: int, mtime_ns: int) -> bytes | None:
        """The key, if the file still has the size and time of change of its latest sighting."""
        seen = self.latest.get(item_id)
        if seen is None or (seen.size_bytes, seen.mtime_ns) != (size_bytes, mtime_ns):
            return None
        return seen.sample_key


class Ledger:
    """Samples, failures and runs of the store at `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def samples(self) -> Samples:
        """Read all sightings; the latest of each item wins."""
        table = self._read("samples", SAMPLES).sort_by("seen_at_ns")
        columns = [table.column(name).to_pylist() for name in SAMPLES.names[:4]]
        return Samples({row[0]: Seen(*row) for row in zip(*columns, strict=True)})

    def add_samples(self, seen: Sequence[Seen]) -> None:
        """Commit sightings."""
        now_ns = time.time_ns()
        self._append("samples", SAMPLES, [vars(s) | {"seen_at_ns": now_ns} for s in seen])

    def failures(self) -> pa.Table:
        """Every failure ever recorded, oldest first."""
        return self._read("failures", FAILURES).sort_by("failed_at_ns")

    def add_failures(self, failures: Sequence[Failure], run_id: str) -> None:
        """Commit failures; messages are cut at 500 characters."""
        now_ns = time.time_ns()
        rows = [vars(f) | {"run_id": run_id, "failed_at_ns": now_ns} for f in failures]
        for row in rows:
            # A message may quote a file name that is no UTF-8, which Parquet refuses.
            row["message"] = row["message"][:MESSAGE_CHARACTERS].encode(errors="backslashreplace").decode()
        self._append("failures", FAILURES, rows)

    def add_run(self, run_id: str, record: Mapping) -> Path:
        """Write the provenance of one run as JSON and return its path."""
        path = self._root / "runs" / f"{run_id}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(record, indent=2, default=str) + "\n")
        return path

    def _read(self, name: str, schema: pa.Schema) -> pa.Table:
        paths = sorted((self._root / name).glob("*.parquet"))
        tables = [read_fragment(path, schema) for path in paths]
        return pa.concat_tables(tables) if tables else schema.empty_table()

    def _append(self, name: str, schema: pa.Schema, rows: Sequence[dict]) -> None:
        if not rows:
            return
        fragment = f"{uuid.uuid4().hex}.parquet"
        folder = self._root / name
        folder.mkdir(exist_ok=True)
        commit_table(pa.Table.from_pylist(list(rows), schema=schema), folder / fragment, self._root / "tmp" / fragment)


def sample_key(path: Path) -> bytes:
    """blake2b-128 of a file's bytes, 16 bytes long."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()
