"""Intervals: agreement with scipy, coverage on clustered data, and what happens where there is too little."""

import numpy as np
import pytest
from scipy import stats

from mmdf.cache.errors import UsageError
from mmdf.evaluate.intervals import bootstrap, clusters_of, percentile_interval, resampled_weights
from mmdf.evaluate.metrics import METRICS


def simulated(n_items: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n_items)
    return labels, np.clip(rng.normal(0.4 + 0.25 * labels, 0.2), 0, 1)


def rank_sum_auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """ROC-AUC from the Mann-Whitney statistic: no sort of ours, and quick enough for scipy's loop."""
    n_fake = labels.sum()
    return (stats.rankdata(scores)[labels == 1].sum() - n_fake * (n_fake + 1) / 2) / (n_fake * (len(labels) - n_fake))


def test_items_of_one_person_share_a_cluster_and_unknown_people_stand_alone() -> None:
    assert clusters_of(["a", None, "b", "a", None]).tolist() == [0, 1, 2, 0, 3]


def test_weights_draw_as_many_clusters_as_there_are_and_keep_people_whole() -> None:
    clusters = np.array([0, 1, 2, 0, 3, 1])
    weights = np.concatenate(list(resampled_weights(clusters, 500, 0)))
    assert weights.shape == (500, 6)
    assert (weights[:, 0] == weights[:, 3]).all()
    assert (weights[:, 1] == weights[:, 5]).all()
    assert (weights[:, [0, 1, 2, 4]].sum(1) == 4).all()
    assert weights.mean(0) == pytest.approx(np.ones(6), abs=0.15)


def test_each_item_its_own_cluster_agrees_with_scipy() -> None:
    labels, scores = simulated(200, 1)
    called = scores > 0.5
    ours = bootstrap(labels, scores, 0.5, np.arange(200), n_resamples=4000, seed=2)
    options = {"paired": True, "vectorized": False, "method": "percentile", "n_resamples": 2000, "rng": 3}
    for name, theirs in (
        ("accuracy", stats.bootstrap((labels == called,), np.mean, **options)),
        ("roc_auc", stats.bootstrap((labels, scores), rank_sum_auc, **options)),
    ):
        limits = theirs.confidence_interval
        assert ours[name].low == pytest.approx(limits.low, abs=0.01)
        assert ours[name].high == pytest.approx(limits.high, abs=0.01)


def test_coverage_is_near_nominal_on_clustered_data_and_far_below_it_without_clusters() -> None:
    # A person's items are right with a chance of their own, 0.8 on average: correlation within a person is 0.33.
    rng = np.random.default_rng(11)
    covered = {"clustered": 0, "items": 0}
    n_trials, n_people, n_each = 150, 60, 8
    people = np.repeat(np.arange(n_people), n_each)
    for trial in range(n_trials):
        right = rng.random(n_people * n_each) < np.repeat(rng.beta(1.6, 0.4, n_people), n_each)
        labels = np.ones(len(right), int)
        for name, clusters in (("clustered", people), ("items", np.arange(len(right)))):
            interval = bootstrap(labels, right.astype(float), 0.5, clusters, n_resamples=200, seed=trial)["accuracy"]
            assert interval.low is not None
            assert interval.high is not None
            covered[name] += interval.low <= 0.8 <= interval.high
    assert 0.89 <= covered["clustered"] / n_trials <= 0.98
    assert covered["items"] / n_trials < 0.8


def test_the_same_seed_gives_the_same_intervals_and_another_seed_others() -> None:
    labels, scores = simulated(80, 4)
    clusters = np.arange(80) // 4
    first = bootstrap(labels, scores, 0.5, clusters, 200, seed=1)
    assert first == bootstrap(labels, scores, 0.5, clusters, 200, seed=1)
    assert first != bootstrap(labels, scores, 0.5, clusters, 200, seed=2)


def test_one_identity_has_no_interval_and_says_why() -> None:
    labels, scores = simulated(20, 5)
    intervals = bootstrap(labels, scores, 0.5, np.zeros(20, int), 50)
    assert set(intervals) == set(METRICS)
    assert all(i.low is None and i.note is not None and "one identity" in i.note for i in intervals.values())


def test_two_items_have_an_auc_interval_only_where_half_of_the_resamples_hold_both() -> None:
    labels, scores, clusters = np.array([0, 1]), np.array([0.2, 0.8]), np.array([0, 1])
    outcomes = set()
    for seed in range(8):
        both = np.concatenate([(w > 0).all(1) for w in resampled_weights(clusters, 101, seed)]).mean()
        auc = bootstrap(labels, scores, 0.5, clusters, 101, seed)["roc_auc"]
        assert (auc.low, auc.high) == ((1.0, 1.0) if both >= 0.5 else (None, None))
        outcomes.add(auc.note is None)
    assert outcomes == {True, False}


def test_what_is_undefined_is_left_out_until_it_is_more_than_half() -> None:
    values = np.array([0.1, 0.2, np.nan, np.nan])
    assert percentile_interval(values).low == pytest.approx(0.1025)
    undefined = percentile_interval(np.array([0.1, np.nan, np.nan, np.nan]))
    assert (undefined.low, undefined.high) == (None, None)
    assert undefined.note == "undefined in 75% of the resamples"


def test_no_resamples_are_refused() -> None:
    with pytest.raises(UsageError, match="at least one resample"):
        bootstrap(np.array([0, 1]), np.array([0.1, 0.9]), 0.5, np.array([0, 1]), n_resamples=0)
