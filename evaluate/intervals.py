"""How far a metric would move with other people: percentile bootstrap over identities.

Items of one person are not independent: a detector that knows a face, a voice or a room is right or wrong on all of
them together. Resampling items would therefore give intervals that are too narrow, so whole identities are resampled
(Field and Welsh 2007, the randomised cluster bootstrap). Not yet done: the bias-corrected interval (BCa). Knows arrays
only, nothing of detectors or tables.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mmdf.cache.errors import UsageError
from mmdf.evaluate.metrics import METRICS, measure_many, rank

LEVEL = 0.95
MAX_UNDEFINED_SHARE = 0.5
# Cells of one block of weights: at 20,000 items twice as fast as 50,000 and as 1,000,000.
_BLOCK_CELLS = 200_000


@dataclass(frozen=True)
class Interval:
    """A 95 % interval, or None twice with the reason in `note`."""

    low: float | None
    high: float | None
    note: str | None = None


def clusters_of(identities: Sequence[str | None]) -> np.ndarray:
    """Cluster number of every item, (n,) int64: one a person, and one for each item whose person is unknown."""
    known: dict[str, int] = {}
    clusters = np.empty(len(identities), np.int64)
    n_clusters = 0
    for row, identity in enumerate(identities):
        if identity is not None and identity in known:
            clusters[row] = known[identity]
            continue
        if identity is not None:
            known[identity] = n_clusters
        clusters[row] = n_clusters
        n_clusters += 1
    return clusters


def bootstrap(
    labels: np.ndarray,
    scores: np.ndarray,
    threshold: float,
    clusters: np.ndarray,
    n_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """95 % percentile intervals of every metric, resampling clusters with replacement.

    Parameters
    ----------
    labels, scores, threshold
        As in `mmdf.evaluate.metrics.measure`, (n,).
    clusters
        Cluster number of every item, (n,) int64 from 0, as `clusters_of` gives them.
    n_resamples
        How often as many clusters as there are get drawn.
    seed
        The same seed gives the same intervals.

    Returns
    -------
    dict
        An `Interval` for each name in `METRICS`.

    Raises
    ------
    UsageError
        If `n_resamples` is below 1.

    Notes
    -----
    A resample in which a metric is undefined is left out for this metric; if more than half are, it has no interval.
    One cluster alone has none either, since every resample would be the same. A metric at its limit (AUC 1.0) gets an
    interval without width: the resamples hold no item that was ever ranked wrong. Few clusters make any interval too
    narrow.
    """
    if n_resamples < 1:
        raise UsageError(f"An interval needs at least one resample; got {n_resamples}. 1000 is usual.")
    n_clusters = int(clusters.max()) + 1 if len(clusters) else 0
    if n_clusters < 2:
        reason = "all items belong to one identity: how much others differ cannot be told"
        return dict.fromkeys(METRICS, Interval(None, None, reason))
    ranking = rank(labels, scores)
    blocks = [measure_many(ranking, w, threshold) for w in resampled_weights(clusters, n_resamples, seed)]
    return {name: percentile_interval(np.concatenate([block[name] for block in blocks])) for name in METRICS}


def resampled_weights(clusters: np.ndarray, n_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Blocks of item weights (b, n) float64, `n_resamples` rows in all: how often each item's cluster was drawn."""
    rng = np.random.default_rng(seed)
    n_clusters = int(clusters.max()) + 1
    block = max(1, _BLOCK_CELLS // len(clusters))
    for start in range(0, n_resamples, block):
        size = min(block, n_resamples - start)
        drawn = rng.integers(n_clusters, size=(size, n_clusters)) + n_clusters * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * n_clusters).reshape(size, n_clusters)
        yield counts.astype(np.float64)[:, clusters]


def percentile_interval(values: np.ndarray) -> Interval:
    """The middle 95 % of resampled values (B,), of those that are not NaN."""
    defined = values[~np.isnan(values)]
    undefined_share = 1 - len(defined) / len(values)
    if undefined_share > MAX_UNDEFINED_SHARE:
        return Interval(None, None, f"undefined in {undefined_share:.0%} of the resamples")
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))
