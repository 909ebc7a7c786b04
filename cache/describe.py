"""What a store holds and what a check of it found, in numbers and in words: `mmdf cache info` and `verify`.

Reads commit records only, never an embedding.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmdf.cache.store import FeatureStore
from mmdf.cache.verify import Report

_SHOWN_FAILURES = 20


def describe_store(path: Path) -> dict[str, Any]:
    """Features with their counts and sizes, and the failures, as plain JSON values."""
    store = FeatureStore.open(path)
    features = []
    for spec in store.specs():
        index = store.index(spec)
        there = index.n_steps[list(index.position.values())] if index.position else index.n_steps
        features.append(
            {
                "name": spec.alias,
                "fingerprint": spec.fingerprint,
                "items": int((there > 0).sum()),
                "absent": int((there == 0).sum()),
                "steps": int(there.sum()),
                "dim": spec.dim,
                "bytes": int(there.sum()) * spec.dim * (2 if spec.storage_dtype == "float16" else 4),
                "compute_dtype": spec.compute_dtype,
                "weights": spec.weights_digest,
            }
        )
    failures = store.ledger.failures().select(["path", "stage", "message", "fingerprint"]).to_pylist()
    return {"store": str(path), "features": features, "failures": failures}


def to_text(description: dict[str, Any]) -> str:
    """The description as a table, with the reasons for failures below it."""
    lines = [f"{'feature':<28} {'items':>7} {'absent':>6} {'steps':>9} {'dim':>5} {'MB':>9}  precision  weights"]
    lines += [
        f"{row['name']:<28} {row['items']:>7} {row['absent']:>6} {row['steps']:>9} {row['dim']:>5} "
        f"{row['bytes'] / 1e6:>9.1f}  {row['compute_dtype']:<9}  {row['weights'][:12]}"
        for row in description["features"]
    ]
    reasons = {row["path"]: row["message"] for row in description["failures"]}
    lines.append(f"{len(reasons)} file(s) failed in some run." if reasons else "Nothing ever failed.")
    lines += [f"  {path}: {message}" for path, message in list(reasons.items())[:_SHOWN_FAILURES]]
    return "\n".join(lines)


def report_to_dict(report: Report) -> dict[str, Any]:
    """A verification report as plain JSON values."""
    return asdict(report)


def report_to_text(report: Report) -> str:
    """A verification report for people: one line a finding, with what to do, then one line of sums."""
    lines = [f"DAMAGED {f.feature or '-'} {f.part or '-'}: {f.problem}\n    {f.remedy}" for f in report.findings]
    lines += [f"note: {note.path} ({note.bytes_ / 1e6:.1f} MB): {note.reason}" for note in report.notes]
    state = f"{len(report.findings)} problem(s)" if report.findings else "sound"
    lines.append(f"{report.n_parts} parts, {report.n_samples} samples, {report.bytes_ / 1e6:.1f} MB: {state}.")
    return "\n".join(lines)
