"""What a store holds of each feature, and what it lacks of a manifest: `mmdf cache ls`.

Reads commit records and the ledger, never an embedding. What a backbone can look at is not known here: see `wanted`.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmdf.cache.index import SCHEMA, read_fragment
from mmdf.cache.manifest import Manifest
from mmdf.cache.spec import FeatureSpec
from mmdf.cache.store import FeatureStore

# Whether a feature is made of items of a modality and split.
Wanted = Callable[[FeatureSpec, str, str | None], bool]
_SHOWN_MISSING = 100
_RUNS = pa.schema([SCHEMA.field("run_id"), SCHEMA.field("committed_at_ns")])


@dataclass(frozen=True)
class FeatureCoverage:
    """One feature.

    Attributes
    ----------
    n_samples, n_absent
        Distinct files with steps, and files known to lack what the feature needs.
    bytes_
        Size of the values.
    last_run, last_commit
        The run that committed last, and when (ISO 8601, UTC); empty if nothing is committed.
    n_wanted
        Items of the manifest that the feature can be made of, None without a manifest.
    missing
        Ids of those that are not in the store, in the order of the manifest.
    n_failed
        How many of these failed in some run; `mmdf extract --retry-failed` tries them again.
    """

    name: str
    fingerprint: str
    n_samples: int
    n_absent: int
    n_steps: int
    dim: int
    bytes_: int
    n_parts: int
    compute_dtype: str
    storage_dtype: str
    weights_digest: str
    last_run: str
    last_commit: str
    n_wanted: int | None
    missing: tuple[str, ...]
    n_failed: int


@dataclass(frozen=True)
class Coverage:
    """Every feature of a store."""

    store: str
    features: tuple[FeatureCoverage, ...]

    @property
    def is_complete(self) -> bool:
        """Whether no feature lacks an item of the manifest."""
        return not any(feature.missing for feature in self.features)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; of the missing items the first 100, and how many there are."""
        rows = [
            asdict(one) | {"missing": list(one.missing[:_SHOWN_MISSING]), "n_missing": len(one.missing)}
            for one in self.features
        ]
        return {"store": self.store, "features": rows}

    def to_text(self) -> str:
        """A table, a line a feature."""
        width = max([len("feature"), *(len(one.name) for one in self.features)])
        head = f"{'feature':<{width}}  {'items':>8} {'absent':>7} {'steps':>9} {'dim':>6} {'MB':>9} {'parts':>6}"
        lines = [f"{head}  {'missing':>15}  precision  weights       last commit           last run"]
        for one in self.features:
            missing = "-" if one.n_wanted is None else f"{len(one.missing)} of {one.n_wanted}"
            lines.append(
                f"{one.name:<{width}}  {one.n_samples:>8} {one.n_absent:>7} {one.n_steps:>9} {one.dim:>6} "
                f"{one.bytes_ / 1e6:>9.1f} {one.n_parts:>6}  {missing:>15}  {one.compute_dtype:<9}  "
                f"{one.weights_digest[:12]:<12}  {one.last_commit or '-':<20}  {one.last_run or '-'}"
            )
        n_failed = sum(one.n_failed for one in self.features)
        if n_failed:
            lines.append(f"{n_failed} of the missing failed before: `mmdf cache info` says why.")
        return "\n".join(lines)


def by_stream(spec: FeatureSpec, modality: str, split: str | None) -> bool:
    """Pictures are made of images and videos, sound of recordings and videos, augmented views of what is trained on."""
    fits = modality in (("image", "video") if spec.stream == "picture" else ("audio", "video"))
    return fits and (not spec.augment or split == "train")


def coverage(store: FeatureStore, manifest: Manifest | None = None, wanted: Wanted = by_stream) -> Coverage:
    """What `store` holds of each feature, and lacks of `manifest`.

    Parameters
    ----------
    wanted
        Says of a spec, a modality and a split whether the feature is made of such items. The default knows streams
        only, not that a view such as `mouth` needs a video.

    Raises
    ------
    CacheError
        If a commit record is damaged.
    """
    cells = (
        []
        if manifest is None
        else list(
            zip(
                *(manifest.column(name) for name in ("item_id", "modality", "split")), store.keys(manifest), strict=True
            )
        )
    )
    failures = store.ledger.failures()
    failed: dict[str, set[str]] = {}
    for fingerprint, item_id in zip(*(failures.column(n).to_pylist() for n in ("fingerprint", "item_id")), strict=True):
        failed.setdefault(fingerprint, set()).add(item_id)
    features = []
    for spec in store.specs():
        index = store.index(spec, refresh=True)
        asked = [(item_id, key) for item_id, modality, split, key in cells if wanted(spec, modality, split)]
        missing = tuple(item_id for item_id, key in asked if key is None or key not in index)
        n_wanted = None if manifest is None else len(asked)
        n_failed = len(failed.get(spec.fingerprint, set()).intersection(missing))
        features.append(_feature(store, spec, n_wanted, missing, n_failed))
    return Coverage(str(store.root), tuple(features))


def _feature(
    store: FeatureStore, spec: FeatureSpec, n_wanted: int | None, missing: tuple[str, ...], n_failed: int
) -> FeatureCoverage:
    index = store.index(spec)
    n_steps = index.n_steps[np.fromiter(index.position.values(), np.int64, len(index.position))]
    n_bytes = int(n_steps.sum()) * spec.dim * np.dtype(spec.storage_dtype).itemsize
    last_run, last_commit, n_parts = _last(store.root / "index" / spec.fingerprint)
    return FeatureCoverage(
        spec.alias, spec.fingerprint, int((n_steps > 0).sum()), int((n_steps == 0).sum()), int(n_steps.sum()),
        spec.dim, n_bytes, n_parts, spec.compute_dtype, spec.storage_dtype, spec.weights_digest,
        last_run, last_commit, n_wanted, missing, n_failed,
    )  # fmt: skip


def _last(folder: Path) -> tuple[str, str, int]:
    """The run that committed last, when, and how many records there are."""
    tables = [read_fragment(path, _RUNS) for path in sorted(folder.glob("frag-*.parquet"))]
    found = [
        (time_ns, run_id or "")
        for table in tables
        for time_ns, run_id in zip(*(table.column(n).to_pylist() for n in ("committed_at_ns", "run_id")), strict=True)
    ]
    if not found:
        return "", "", len(tables)
    time_ns, run_id = max(found)
    return run_id, f"{datetime.fromtimestamp(time_ns / 1e9, UTC):%Y-%m-%dT%H:%M:%SZ}", len(tables)
