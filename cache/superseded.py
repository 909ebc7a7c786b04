"""Which features of a store are out of date: computed again, with other weights or another preprocessing, and complete.

Reads specs and commit records only, and changes nothing.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmdf.cache.errors import CacheError
from mmdf.cache.rewrite import Record, read_records
from mmdf.cache.spec import FeatureSpec, canonical_json
from mmdf.cache.store import read_spec


def superseded_features(root: Path) -> dict[str, str]:
    """Fingerprints of the features of the store at `root` that another one replaces, with the reason in words.

    The other one has the same alias, sampling and precision, was committed to later, and has every sample. Features
    whose spec or records are damaged neither replace nor are replaced.
    """
    specs = []
    for path in sorted((root / "specs").glob("*.json")):
        try:
            specs.append(read_spec(path))
        except CacheError:
            continue
    found: dict[str, str] = {}
    for old in specs:
        for new in specs:
            if new == old or _choice(new) != _choice(old):
                continue
            try:
                replaced = _replaces(root, new, old)
            except CacheError:
                continue
            if replaced:
                found[old.fingerprint] = f"{old.alias} was computed anew as {new.fingerprint[:8]}"
    return found


def _choice(spec: FeatureSpec) -> tuple[str, str, str]:
    """What a person chose; the rest of a spec follows from weights and code. 32 frames do not replace 16 frames."""
    return (spec.alias, canonical_json(spec.sampling), spec.compute_dtype)


def _replaces(root: Path, new: FeatureSpec, old: FeatureSpec) -> bool:
    ours, theirs = (read_records(root / "index" / spec.fingerprint) for spec in (new, old))
    if not ours:
        return False
    spec_ns = (root / "specs" / f"{old.fingerprint}.json").stat().st_mtime_ns
    if _last_ns(ours) <= (_last_ns(theirs) if theirs else spec_ns):
        return False
    # Weights that were tried on ten files do not replace days of work.
    return {key for r in theirs for key in r.keys} <= {key for r in ours for key in r.keys}


def _last_ns(records: Sequence[Record]) -> int:
    return max(int(np.asarray(record.rows.column("committed_at_ns")).max()) for record in records)
