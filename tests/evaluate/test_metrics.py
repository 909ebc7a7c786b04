"""Metrics against scikit-learn and scipy, and the laws they obey."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from sklearn import metrics as sk

from mmdf.cache.errors import DataError
from mmdf.evaluate.metrics import METRICS, NEED_BOTH_CLASSES, Confusion, measure, measure_many, rank, roc_curve

# Twenty-one possible scores: ties are the rule, and every transform below keeps them apart.
SCORES = st.integers(0, 20).map(lambda step: step / 20)
ITEM = st.tuples(st.integers(0, 1), SCORES, st.integers(1, 4))
BOTH_CLASSES = st.lists(ITEM, min_size=2, max_size=40).filter(lambda items: len({item[0] for item in items}) == 2)

# The same examples in every run, and no limit on the time of one: the machine may be busy.
LAW = settings(derandomize=True, deadline=None)


def columns(items: list) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels, scores, weights = (np.array(column) for column in zip(*items, strict=True))
    return labels, scores.astype(float), weights


def simulated(n_items: int, seed: int, decimals: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n_items)
    scores = np.clip(rng.normal(0.4 + 0.25 * labels, 0.2), 0, 1).round(decimals)
    return labels, scores, rng.integers(0, 4, n_items)


def brute_force_eer(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> float:
    """Walk along every segment of scikit-learn's curve and solve for FPR = FNR on it."""
    fpr, tpr, _ = sk.roc_curve(labels, scores, sample_weight=weights, drop_intermediate=False)
    for k in range(len(fpr) - 1):
        gap = [fpr[k] + tpr[k] - 1, fpr[k + 1] + tpr[k + 1] - 1]
        if gap[0] < 0 <= gap[1]:
            share = brentq(lambda t, gap=gap: gap[0] + t * (gap[1] - gap[0]), 0, 1)
            return float(fpr[k] + share * (fpr[k + 1] - fpr[k]))
    raise AssertionError("a ROC curve always crosses the antidiagonal")


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("decimals", [1, 2, 12])
def test_everything_equals_scikit_learn_with_sample_weights(seed: int, decimals: int) -> None:
    labels, scores, weights = simulated(300, seed, decimals)
    ours = measure(labels, scores, 0.5, weights)
    called, extra = scores > 0.5, {"sample_weight": weights}
    fpr, tpr, _ = sk.roc_curve(labels, scores, **extra)
    expected = {
        "roc_auc": sk.roc_auc_score(labels, scores, **extra),
        "pr_auc": sk.average_precision_score(labels, scores, **extra),
        "eer": brute_force_eer(labels, scores, weights),
        "tpr_at_1_fpr": tpr[fpr <= 0.01 + 1e-12].max(),
        "brier": sk.brier_score_loss(labels, scores, **extra),
        "accuracy": sk.accuracy_score(labels, called, **extra),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, called, **extra),
        "precision": sk.precision_score(labels, called, **extra),
        "recall": sk.recall_score(labels, called, **extra),
        "f1": sk.f1_score(labels, called, **extra),
    }
    assert ours.values == pytest.approx(expected, abs=1e-12)
    assert list(ours.values) == list(METRICS)
    assert ours.confusion == Confusion(*(int(n) for n in sk.confusion_matrix(labels, called, **extra).ravel()))


def test_eer_by_interpolation_on_a_curve_made_by_hand() -> None:
    # Points (FPR, TPR): (0, 0), (0, .5), (.5, 1), (1, 1), the middle step a tie of one fake and one real.
    metrics = measure(np.array([1, 1, 0, 0]), np.array([0.9, 0.6, 0.6, 0.1]), 0.5)
    assert metrics.values["eer"] == pytest.approx(0.25)
    assert metrics.values["roc_auc"] == pytest.approx(0.875)


def test_eer_threshold_lies_in_the_middle_of_the_gap_and_is_worth_what_it_says() -> None:
    labels, scores = np.array([0, 0, 1, 1]), np.array([0.1, 0.3, 0.7, 0.8])
    assert measure(labels, scores, 0.5).eer_threshold == pytest.approx(0.5)
    labels, scores, _ = simulated(400, 3)
    threshold = measure(labels, scores, 0.5).eer_threshold
    assert threshold is not None

    def gap(cut: float) -> float:
        return float(abs((scores[labels == 0] > cut).mean() - (scores[labels == 1] <= cut).mean()))

    assert gap(threshold) == pytest.approx(min(gap(cut) for cut in [-1.0, *scores]))


@pytest.mark.parametrize(
    ("scores", "threshold"), [([0.4, 0.4], 0.4), ([0.9, 0.1], 0.5), ([0.0, np.nextafter(0.0, 1.0)], 0.0)]
)
def test_eer_threshold_where_scores_tie_are_reversed_or_have_no_number_between(scores: list, threshold: float) -> None:
    assert measure(np.array([0, 1]), np.array(scores), 0.5).eer_threshold == threshold


def test_tpr_at_one_percent_allows_one_false_alarm_in_a_hundred_but_not_in_ninety_nine() -> None:
    def tpr(n_real: int) -> float | None:
        labels = np.array([0, 1, 1, *[0] * (n_real - 1)])
        scores = np.array([0.8, 0.9, 0.7, *[0.1] * (n_real - 1)])
        return measure(labels, scores, 0.5).values["tpr_at_1_fpr"]

    assert (tpr(99), tpr(100)) == (0.5, 1.0)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_gives_none_and_never_zero(label: int) -> None:
    metrics = measure(np.full(3, label), np.array([0.2, 0.6, 0.9]), 0.5)
    assert {name for name in NEED_BOTH_CLASSES if metrics.values[name] is not None} == set()
    assert metrics.eer_threshold is None
    assert metrics.values["accuracy"] == pytest.approx(2 / 3 if label else 1 / 3)
    assert roc_curve(np.full(3, label), np.array([0.2, 0.6, 0.9])) is None


def test_what_is_zero_over_zero_is_none_and_what_is_zero_is_zero() -> None:
    metrics = measure(np.array([0, 1]), np.array([0.2, 0.3]), 0.5)
    assert metrics.values["precision"] is None
    assert (metrics.values["recall"], metrics.values["f1"]) == (0.0, 0.0)
    assert measure(np.array([0, 0]), np.array([0.2, 0.3]), 0.5).values["f1"] is None


def test_no_items_at_all_is_none_throughout() -> None:
    metrics = measure(np.array([]), np.array([]), 0.5)
    assert set(metrics.values.values()) == {None}
    assert metrics.confusion == Confusion(0, 0, 0, 0)


def test_a_score_at_the_threshold_is_called_real() -> None:
    assert measure(np.array([0, 1]), np.array([0.5, 0.5]), 0.5).confusion == Confusion(tn=1, fp=0, fn=1, tp=0)


def test_scores_that_are_no_probabilities_rank_but_have_no_brier_score() -> None:
    values = measure(np.array([0, 1]), np.array([-3.0, 4.0]), 0.0).values
    assert (values["roc_auc"], values["brier"]) == (1.0, None)


@pytest.mark.parametrize(
    ("labels", "scores", "word"),
    [([0, 1], [0.1, np.nan], "finite"), ([0, 2], [0.1, 0.2], "labels 0"), ([0, 1], [0.1], "one label and one score")],
)
def test_bad_input_is_refused_in_words(labels: list, scores: list, word: str) -> None:
    with pytest.raises(DataError, match=word):
        rank(np.array(labels), np.array(scores))


@LAW
@given(BOTH_CLASSES)
def test_multiplicity_is_repetition(items: list) -> None:
    labels, scores, weights = columns(items)
    counted = measure(labels, scores, 0.5, weights)
    repeated = measure(np.repeat(labels, weights), np.repeat(scores, weights), 0.5)
    assert counted.values == pytest.approx(repeated.values, abs=1e-12)
    assert counted.confusion == repeated.confusion


@LAW
@given(BOTH_CLASSES)
def test_zero_weight_is_absence(items: list) -> None:
    labels, scores, weights = columns(items)
    padded = measure(np.append(labels, [0, 1]), np.append(scores, [0.51, 0.49]), 0.5, np.append(weights, [0, 0]))
    assert padded == measure(labels, scores, 0.5, weights)


@LAW
@given(BOTH_CLASSES)
def test_ranking_metrics_survive_a_strictly_rising_transform(items: list) -> None:
    labels, scores, _ = columns(items)
    before, after = measure(labels, scores, 0.5), measure(labels, np.exp(3 * scores), 0.5)
    for name in ("roc_auc", "pr_auc", "eer", "tpr_at_1_fpr"):
        assert before.values[name] == pytest.approx(after.values[name], abs=1e-12)


@LAW
@given(BOTH_CLASSES)
def test_swapping_classes_and_direction_changes_neither_auc_nor_eer(items: list) -> None:
    labels, scores, _ = columns(items)
    before, after = measure(labels, scores, 0.5).values, measure(1 - labels, -scores, 0.5).values
    assert before["roc_auc"] == pytest.approx(after["roc_auc"], abs=1e-12)
    assert before["eer"] == pytest.approx(after["eer"], abs=1e-12)


@LAW
@given(BOTH_CLASSES)
def test_values_stay_between_zero_and_one_and_eer_is_the_brute_force_one(items: list) -> None:
    labels, scores, weights = columns(items)
    values = measure(labels, scores, 0.5, weights).values
    assert all(value is None or 0 <= value <= 1 for value in values.values())
    assert values["eer"] == pytest.approx(brute_force_eer(labels, scores, weights), abs=1e-12)


@settings(LAW, max_examples=25)
@given(BOTH_CLASSES, st.integers(0, 2**32 - 1))
def test_many_weightings_at_once_are_each_weighting_alone(items: list, seed: int) -> None:
    labels, scores, _ = columns(items)
    weights = np.random.default_rng(seed).integers(0, 3, (6, len(labels)))
    many = measure_many(rank(labels, scores), weights.astype(float), 0.5)
    for row, weight in enumerate(weights):
        alone = measure(labels, scores, 0.5, weight).values
        together = {name: None if np.isnan(many[name][row]) else many[name][row] for name in METRICS}
        assert together == pytest.approx(alone, abs=1e-12)


def test_a_thousand_resamples_of_1320_items_take_less_than_two_seconds() -> None:
    labels, scores, _ = simulated(1320, 0, decimals=12)
    weights = np.random.default_rng(0).integers(0, 3, (1000, 1320)).astype(float)
    start_s = time.process_time()
    many = measure_many(rank(labels, scores), weights, 0.5)
    assert time.process_time() - start_s < 2
    assert all(np.isfinite(values).all() for values in many.values())
