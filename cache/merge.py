"""merge: what two machines computed, in one store. The other store is only read.

A sample that both have keeps the copy of the store that is merged into; whatever is taken over is read, checked against
its checksums and committed like any part, so a kill or a second run does no harm. Knows nothing of how stores travel.
"""

import json
import os
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmdf.cache.errors import CacheError, UsageError
from mmdf.cache.index import commit_table, read_fragment
from mmdf.cache.ledger import FAILURES, SAMPLES
from mmdf.cache.parts import sync_file
from mmdf.cache.rewrite import Record, commit_pieces, read_record, take
from mmdf.cache.spec import FeatureSpec
from mmdf.cache.store import FeatureStore, read_spec


@dataclass(frozen=True)
class MergedFeature:
    """What one feature gained.

    Attributes
    ----------
    n_samples, n_parts
        Samples taken over, and the parts that hold them.
    n_present
        Samples that were there before.
    bytes_
        Size of the values taken over.
    """

    name: str
    fingerprint: str
    n_samples: int
    n_parts: int
    n_present: int
    bytes_: int


@dataclass(frozen=True)
class MergeReport:
    """What `merge` took over: features, and rows of the ledger.

    Attributes
    ----------
    n_items
        Sightings of items that are new, or later than those known.
    problems
        Damage in the other store; what it concerns was left out.
    """

    features: tuple[MergedFeature, ...]
    n_items: int
    n_failures: int
    n_runs: int
    problems: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """4 if something of the other store was damaged and left out, else 0."""
        return 4 if self.problems else 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def to_text(self) -> str:
        """A line a feature, one for the ledger, one for each thing that was left out."""
        lines = [
            f"{one.name} {one.fingerprint[:8]}: {one.n_samples} samples in {one.n_parts} parts taken over "
            f"({one.bytes_ / 1e6:.1f} MB), {one.n_present} were there"
            for one in self.features
        ]
        lines.append(f"{self.n_items} items, {self.n_failures} failures and {self.n_runs} runs recorded.")
        return "\n".join([*lines, *(f"LEFT OUT: {problem}" for problem in self.problems)])


def merge(into: FeatureStore, other: FeatureStore) -> MergeReport:
    """Take over into `into` what it lacks of `other`: specs, samples, latest sightings of items, failures and runs.

    Parts of which `into` has no sample keep their names; of others the missing samples become a new part. Running it
    again changes nothing.

    Raises
    ------
    UsageError
        If both are the same store.
    CacheError
        If `into` is damaged or its disk full. What is damaged in `other` is a problem in the report.
    """
    if into.root.resolve() == other.root.resolve():
        raise UsageError(f"{into.root} and {other.root} are the same store. Name two.")
    problems: list[str] = []
    features = [_merge_feature(into, other, spec, problems) for spec in _specs(other.root, problems)]
    n_items = _merge_samples(into.root, other.root, problems)
    n_failures = _merge_failures(into.root, other.root, problems)
    n_runs = _merge_runs(into.root, other.root, problems)
    return MergeReport(tuple(features), n_items, n_failures, n_runs, tuple(problems))


def _specs(root: Path, problems: list[str]) -> list[FeatureSpec]:
    found = []
    for path in sorted((root / "specs").glob("*.json")):
        try:
            found.append(read_spec(path))
        except CacheError as error:
            problems.append(str(error))
    problems.extend(
        f"{index} has no spec: restore specs/{index.name}.json from a copy of the store."
        for index in sorted((root / "index").glob("*"))
        if any(index.glob("frag-*.parquet")) and not (root / "specs" / f"{index.name}.json").exists()
    )
    return found


def _merge_feature(into: FeatureStore, other: FeatureStore, spec: FeatureSpec, problems: list[str]) -> MergedFeature:
    # Makes the folders, and writes the spec if it is new.
    into.writer(spec, "")
    read_spec(into.root / "specs" / f"{spec.fingerprint}.json")
    known = set(into.index(spec, refresh=True).position)
    parts = other.root / "features" / spec.fingerprint / "parts"
    n_samples = n_parts = n_steps = 0
    taken: set[bytes] = set()
    present: set[bytes] = set()
    for record in _records(other.root / "index" / spec.fingerprint, problems):
        present |= known & set(record.keys)
        mask = _lacking(record.keys, known | taken)
        if not mask.any():
            continue
        try:
            # A sample whose first copy is damaged is not among those taken: a later record may have a sound one.
            piece = take(parts, record, mask, spec)
        except CacheError as error:
            problems.append(str(error))
            continue
        if commit_pieces(into.root, spec, [piece]):
            taken |= set(piece.rows.column("sample_key").to_pylist())
            n_samples, n_parts = n_samples + len(piece.rows), n_parts + 1
            n_steps += 0 if piece.part is None else len(piece.part.values)
    into.index(spec, refresh=True)
    bytes_ = n_steps * spec.dim * np.dtype(spec.storage_dtype).itemsize
    return MergedFeature(spec.alias, spec.fingerprint, n_samples, n_parts, len(present), bytes_)


def _records(index: Path, problems: list[str]) -> list[Record]:
    """The sound records below `index`, in the order in which readers see them."""
    found = []
    for path in sorted(index.glob("frag-*.parquet")):
        try:
            found.append(read_record(path))
        except CacheError as error:
            problems.append(str(error))
    return sorted(found, key=lambda record: record.order)


def _lacking(keys: Sequence[bytes], known: set[bytes]) -> np.ndarray:
    """Which rows hold a sample that is not known, nor in a row before: (n,) bool."""
    mask = np.zeros(len(keys), bool)
    seen: set[bytes] = set()
    for row, key in enumerate(keys):
        mask[row] = key not in known and key not in seen
        seen.add(key)
    return mask


def _merge_samples(into: Path, other: Path, problems: list[str]) -> int:
    """Take over sightings that are later than those known. Their time stays, so that the latest wins here too."""
    ours = _latest(_rows(into / "samples", SAMPLES))
    theirs = _latest(_rows(other / "samples", SAMPLES, problems))
    new = [row for item_id, row in theirs.items() if item_id not in ours or ours[item_id][-1] < row[-1]]
    return _append(into, "samples", SAMPLES, new)


def _latest(rows: Iterable[tuple]) -> dict[str, tuple]:
    """By item, the row with the latest `seen_at_ns`, which is the last column."""
    return {row[0]: row for row in sorted(rows, key=lambda row: row[-1])}


def _merge_failures(into: Path, other: Path, problems: list[str]) -> int:
    known = set(_rows(into / "failures", FAILURES))
    new = dict.fromkeys(row for row in _rows(other / "failures", FAILURES, problems) if row not in known)
    return _append(into, "failures", FAILURES, list(new))


def _rows(folder: Path, schema: pa.Schema, problems: list[str] | None = None) -> list[tuple]:
    """The rows of every table in `folder`. Damage is added to `problems`, or raised where there is no such list."""
    rows: list[tuple] = []
    for path in sorted(folder.glob("*.parquet")):
        try:
            table = read_fragment(path, schema)
        except CacheError as error:
            if problems is None:
                raise
            problems.append(str(error))
            continue
        rows += zip(*(table.column(name).to_pylist() for name in schema.names), strict=True)
    return rows


def _append(root: Path, name: str, schema: pa.Schema, rows: Sequence[tuple]) -> int:
    if rows:
        fragment = f"{uuid.uuid4().hex}.parquet"
        (root / name).mkdir(exist_ok=True)
        columns = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), schema, strict=True)]
        commit_table(pa.table(columns, schema=schema), root / name / fragment, root / "tmp" / fragment)
    return len(rows)


def _merge_runs(into: Path, other: Path, problems: list[str]) -> int:
    n_runs = 0
    (into / "runs").mkdir(exist_ok=True)
    (into / "tmp").mkdir(exist_ok=True)
    for path in sorted((other / "runs").glob("*.json")):
        target = into / "runs" / path.name
        if target.exists():
            continue
        try:
            content = path.read_bytes()
            json.loads(content)
        except (OSError, ValueError) as error:
            problems.append(f"The record of a run {path} cannot be read ({error}).")
            continue
        temporary = into / "tmp" / f"{uuid.uuid4().hex}.json"
        temporary.write_bytes(content)
        sync_file(temporary)
        os.replace(temporary, target)
        n_runs += 1
    sync_file(into / "runs")
    return n_runs
