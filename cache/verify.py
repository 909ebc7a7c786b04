"""Verify a feature store: does everything that is committed still stand on disk, bit for bit?

Three levels, each includes those below it: 0 compares names, sizes and specs; 1 decodes every chunk (crc32c); 2
compares every sample with its row of the index. Changes nothing. Whether the numbers are the right ones is not known
here: that takes the backbone.
"""

import math
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from mmdf.cache.errors import CacheError, UsageError
from mmdf.cache.index import read_fragment
from mmdf.cache.ledger import FAILURES, SAMPLES
from mmdf.cache.parts import Part, check_files, part_id, read_part
from mmdf.cache.spec import FeatureSpec
from mmdf.cache.store import READ_THREADS, FeatureStore, read_spec

LEVELS = (0, 1, 2)
# float32 sums in another order, or on another processor, differ by less.
NORM_TOLERANCE = 1e-3
BLOCK_STEPS = 4096


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, and what to do about it.

    Attributes
    ----------
    feature
        Alias, or the fingerprint where the spec is lost; "samples" or "failures" for the ledger.
    part
        Name of the part, None where the problem is not one part's.
    sample_key
        Hexadecimal key of the sample, None where the problem is not one sample's.
    """

    feature: str
    part: str | None
    sample_key: str | None
    problem: str
    remedy: str


@dataclass(frozen=True)
class Note:
    """Something surplus and harmless: a folder that nothing names, with its size."""

    path: str
    bytes_: int
    reason: str


@dataclass(frozen=True)
class Report:
    """What `verify_store` saw.

    Attributes
    ----------
    n_parts, n_samples
        Commit records that could be read, and the rows in them.
    bytes_
        Size on disk of the parts that these name.
    """

    findings: tuple[Finding, ...]
    notes: tuple[Note, ...]
    n_parts: int
    n_samples: int
    bytes_: int


@dataclass(frozen=True)
class _Record:
    """A commit record, readable: its rows and where its part has to lie."""

    feature: str
    fragment: Path
    folder: Path
    spec: FeatureSpec | None
    rows: pa.Table

    def finding(self, problem: str, sample_key: bytes | None = None) -> Finding:
        key = None if sample_key is None else sample_key.hex()
        return Finding(self.feature, self.fragment.stem.removeprefix("frag-"), key, problem, _remedy(self.fragment))

    @property
    def stored(self) -> pa.Table:
        """The rows that have steps, in the order of the part."""
        return self.rows.filter(pa.array(np.asarray(self.rows.column("n_steps")) > 0))


def verify_store(store: FeatureStore, level: int) -> Report:
    """Check everything committed in `store`; damage is a finding, never an exception.

    Raises
    ------
    UsageError
        If `level` is none of 0, 1, 2.
    """
    if level not in LEVELS:
        raise UsageError(f"There is no level {level}. Levels: 0 files, 1 checksums of chunks, 2 every sample.")
    findings = _check_ledger(store.root)
    specs, spec_findings = _read_specs(store.root)
    findings += spec_findings
    records, record_findings = _read_records(store.root, specs)
    findings += record_findings
    with ThreadPoolExecutor(READ_THREADS) as pool:
        for found in pool.map(lambda record: list(_check_record(record, level)), records):
            findings += found
    return Report(
        tuple(findings),
        tuple(_surplus(store.root, records)),
        len(records),
        sum(len(record.rows) for record in records),
        sum(_tree_bytes(record.folder) for record in records),
    )


def _check_ledger(root: Path) -> list[Finding]:
    findings = []
    for name, schema in (("samples", SAMPLES), ("failures", FAILURES)):
        for path in sorted((root / name).glob("*.parquet")):
            try:
                read_fragment(path, schema)
            except CacheError as error:
                findings.append(Finding(name, None, None, str(error), _remedy(path)))
    return findings


def _read_specs(root: Path) -> tuple[dict[str, FeatureSpec], list[Finding]]:
    specs, findings = {}, []
    for path in sorted((root / "specs").glob("*.json")):
        try:
            specs[path.stem] = read_spec(path)
        except CacheError as error:
            findings.append(Finding(path.stem, None, None, str(error), f"Restore {path} from a copy of the store."))
    return specs, findings


def _read_records(root: Path, specs: dict[str, FeatureSpec]) -> tuple[list[_Record], list[Finding]]:
    records: list[_Record] = []
    findings = []
    for index in sorted(path for path in (root / "index").glob("*") if path.is_dir()):
        spec = specs.get(index.name)
        feature = spec.alias if spec else index.name
        fragments = sorted(index.glob("frag-*.parquet"))
        if fragments and not (root / "specs" / f"{index.name}.json").exists():
            remedy = "Restore the file from a copy of the store."
            findings.append(Finding(feature, None, None, f"specs/{index.name}.json is missing", remedy))
        for path in fragments:
            name = path.stem.removeprefix("frag-")
            try:
                rows = read_fragment(path)
                if not len(rows):
                    raise CacheError(f"The record {path} has no rows.")
            except CacheError as error:
                findings.append(Finding(feature, name, None, str(error), _remedy(path)))
                continue
            folder = rows.column("folder")[0].as_py()
            records.append(_Record(feature, path, root / "features" / index.name / "parts" / folder, spec, rows))
    return records, findings


def _check_record(record: _Record, level: int) -> Iterator[Finding]:
    fingerprint = record.fragment.parent.name
    name = record.fragment.stem.removeprefix("frag-")
    keys = record.rows.column("sample_key").to_pylist()
    if part_id(fingerprint, keys) != name or set(record.rows.column("part_id").to_pylist()) != {name}:
        yield record.finding("the record's name is not the hash of the samples in it")
    if len(record.rows.column("folder").unique()) > 1:
        yield record.finding("the record names more than one folder")
    stored = record.stored
    if not len(stored):
        return
    try:
        sizes = check_files(record.folder)
        part = read_part(record.folder) if level > 0 else None
    except CacheError as error:
        yield record.finding(str(error))
        return
    n_steps = np.asarray(stored.column("n_steps"), np.int64)
    wanted = (len(stored), int(n_steps.sum()), record.spec.dim if record.spec else sizes[2])
    if sizes != wanted:
        yield record.finding(f"the part has {sizes} samples, steps and columns, the index and the spec say {wanted}")
    elif part is not None and level > 1:
        yield from _check_samples(record, stored, part)


def _check_samples(record: _Record, stored: pa.Table, part: Part) -> Iterator[Finding]:
    names = ("sample_key", "start", "n_steps", "t0_s", "row_crc32", "norm_mean")
    columns = [stored.column(name).to_pylist() for name in names]
    # Of all steps at once, in blocks: a norm a sample costs ten times as much.
    blocks = (part.values[low : low + BLOCK_STEPS] for low in range(0, len(part.values), BLOCK_STEPS))
    norms = np.concatenate([np.linalg.norm(block.astype(np.float64), axis=1) for block in blocks])
    for row, (key, start, n_steps, t0_s, crc32, norm_mean) in enumerate(zip(*columns, strict=True)):
        if (start, start + n_steps) != tuple(part.offsets[row : row + 2]):
            yield record.finding("the index and the offsets of the part disagree on where it lies", key)
            continue
        values = part.values[start : start + n_steps]
        norm = float(norms[start : start + n_steps].mean())
        if zlib.crc32(values.tobytes()) != crc32:
            yield record.finding("its bytes are not those that were committed (row_crc32)", key)
        elif not math.isfinite(norm):
            yield record.finding("it holds NaN or infinity", key)
        elif norm_mean is None or not math.isclose(norm, norm_mean, rel_tol=NORM_TOLERANCE, abs_tol=NORM_TOLERANCE):
            yield record.finding(f"its mean norm is {norm:.6g}, the index says {norm_mean}", key)
        elif part.times_s[start] != t0_s:
            yield record.finding(f"it begins at {part.times_s[start]} s, the index says {t0_s}", key)


def _surplus(root: Path, records: list[_Record]) -> Iterator[Note]:
    named = {record.folder for record in records}
    committed = {record.fragment for record in records}
    for folder in sorted((root / "features").glob("*/parts/*")):
        fragment = root / "index" / folder.parts[-3] / f"frag-{folder.name.partition('-')[0]}.parquet"
        # The part of a damaged record is no surplus: it may still be wanted for repair.
        if folder not in named and (fragment in committed or not fragment.exists()):
            name = folder.relative_to(root).as_posix()
            yield Note(
                name,
                _tree_bytes(folder),
                "no commit record names it: left by an interrupted run or a compaction; `mmdf cache gc` removes it",
            )
    for path in sorted((root / "tmp").glob("*")):
        yield Note(f"tmp/{path.name}", _tree_bytes(path), "work in progress, or left by an interrupted run")


def _tree_bytes(path: Path) -> int:
    paths = (path, *path.rglob("*")) if path.is_dir() else (path,)
    return sum(p.stat().st_size for p in paths if p.is_file())


def _remedy(record: Path) -> str:
    return f"Delete {record} and run `mmdf extract` again: only what it names is computed anew."
