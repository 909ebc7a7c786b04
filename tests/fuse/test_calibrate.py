"""Calibration against scikit-learn and against brute force; thresholds that ties and constants can't break."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from mmdf.cache.errors import DataError
from mmdf.fuse.calibrate import (
    auc,
    check_classes,
    choose_threshold,
    combine,
    error_rates,
    platt,
    probability,
    renormalised,
)


def sample(n: int, seed: int = 0, prior: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < prior).astype(float)
    return labels, 3 * labels + rng.normal(0, 2, n) + 7


def test_platt_agrees_with_scikit_learns_sigmoid_calibration() -> None:
    labels, logits = sample(120, prior=0.3)
    model = LogisticRegression().fit(logits[:, None], labels)
    oracle = CalibratedClassifierCV(FrozenEstimator(model), method="sigmoid", ensemble=False)
    oracle.fit(logits[:, None], labels)
    calibration = platt(labels, model.decision_function(logits[:, None]))
    found = probability(calibration.log_odds(model.decision_function(logits[:, None])))
    np.testing.assert_allclose(found, oracle.predict_proba(logits[:, None])[:, 1], atol=1e-4)


def test_calibration_lowers_the_loss_and_keeps_the_ranking() -> None:
    labels, logits = sample(400)
    calibrated = platt(labels, logits).log_odds(logits)
    assert log_loss(labels, probability(calibrated)) < 0.7 * log_loss(labels, probability(logits))
    assert roc_auc_score(labels, calibrated) == pytest.approx(roc_auc_score(labels, logits))


def test_separated_logits_get_a_finite_slope_and_honest_ends() -> None:
    labels = np.repeat([0.0, 1.0], 20)
    scores = probability(platt(labels, np.where(labels == 1, 1.0, -1.0)).log_odds(np.array([-1.0, 1.0])))
    np.testing.assert_allclose(scores, [1 / 22, 21 / 22], atol=1e-3)


@pytest.mark.parametrize("logits", [np.full(40, 3.0), np.zeros(40), -np.tile([0.0, 1.0], 20)])
def test_logits_that_say_nothing_or_the_opposite_become_the_prior(logits: np.ndarray) -> None:
    calibration = platt(np.tile([0.0, 1.0], 20), logits)
    assert calibration.slope == 0
    assert calibration.log_odds(logits) == pytest.approx(np.zeros(40))


def test_probability_is_finite_and_exact_at_both_ends() -> None:
    found = probability(np.array([-800.0, -40.0, 0.0, 800.0, np.nan]))
    np.testing.assert_allclose(found, [0, np.exp(-40.0), 0.5, 1, np.nan])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=2, max_size=40))
def test_no_threshold_has_a_smaller_gap_between_the_errors(pairs: list[tuple[bool, int]]) -> None:
    labels = np.array([float(fake) for fake, _ in pairs])
    if len(set(labels)) < 2:
        return
    scores = np.array([value / 8 for _, value in pairs])

    def gap(threshold: float) -> float:
        rates = error_rates(labels, scores, threshold)
        return abs(rates["false_alarm_rate"] - rates["miss_rate"])

    threshold = choose_threshold(labels, scores)
    assert gap(threshold) <= min(gap(t) for t in np.unique(scores)) + 1e-12


def test_threshold_of_separated_scores_lies_in_the_middle_of_the_gap() -> None:
    assert choose_threshold(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.6, 0.9])) == pytest.approx(0.4)


def test_threshold_of_constant_scores_calls_nothing_fake() -> None:
    labels, scores = np.array([0, 1]), np.array([0.5, 0.5])
    assert error_rates(labels, scores, choose_threshold(labels, scores)) == {"false_alarm_rate": 0.0, "miss_rate": 1.0}


def test_threshold_between_neighbouring_floats_still_parts_them() -> None:
    low = 0.5
    scores = np.array([low, np.nextafter(low, 1)])
    rates = error_rates(np.array([0, 1]), scores, choose_threshold(np.array([0, 1]), scores))
    assert rates == {"false_alarm_rate": 0.0, "miss_rate": 0.0}


def test_combination_agrees_with_logistic_regression_where_nothing_is_missing() -> None:
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1], 100)
    evidence = labels[:, None] * [2.0, 1.0] + rng.normal(0, 1.5, (200, 2)) - [1.0, 0.5]
    fit = combine(labels, evidence, np.ones((200, 2), bool))
    oracle = LogisticRegression(C=1.0).fit(evidence, labels)
    np.testing.assert_allclose(fit.weights, oracle.coef_[0], rtol=1e-3)
    assert fit.bias == pytest.approx(oracle.intercept_[0], abs=1e-3)


def test_a_stream_that_points_the_wrong_way_is_taken_out() -> None:
    rng = np.random.default_rng(1)
    labels = np.tile([0, 1], 100)
    evidence = np.stack([2.0 * labels - 1, 1 - 2.0 * labels], 1) + rng.normal(0, 2, (200, 2))
    fit = combine(labels, evidence, np.ones((200, 2), bool))
    alone = LogisticRegression(C=1.0).fit(evidence[:, :1], labels)
    assert fit.weights[1] == 0
    assert fit.weights[0] == pytest.approx(alone.coef_[0, 0], rel=1e-3)


def test_streams_that_never_meet_are_each_believed_in_full() -> None:
    rng = np.random.default_rng(2)
    labels = np.tile([0, 1], 400)
    logit = 2.0 * (2 * labels - 1) + rng.normal(0, 2, 800)
    present = np.repeat([[True, False], [False, True]], 400, axis=0)
    evidence = np.where(present, logit[:, None], 0.0)
    fit = combine(labels, evidence, present)
    combined = renormalised(evidence, present, fit.weights) @ fit.weights
    # Gaussian classes at ±2 with variance 4: the log-odds are the value itself.
    assert np.polyfit(logit, combined, 1)[0] == pytest.approx(1.0, abs=0.2)


def test_renormalisation_gives_the_present_streams_the_weight_of_all() -> None:
    evidence, present = np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]]), np.array([[1, 1], [1, 0], [0, 1]], bool)
    out = renormalised(evidence, present, np.array([3.0, 1.0])) @ [3.0, 1.0]
    assert out.tolist() == pytest.approx([4.0, 4.0, 4.0])
    assert renormalised(evidence, present, np.array([0.0, 1.0]))[1].tolist() == [0.0, 0.0]


def test_too_few_items_of_a_class_are_refused_with_the_remedy() -> None:
    check_classes(np.array([0, 1]), "val", "Do this.")
    with pytest.raises(DataError, match=r"val has 1 real and 9 fake items, at least 10 .* Do this"):
        check_classes(np.array([0] + [1] * 9), "val", "Do this.", 10)


def test_auc_grows_with_fakeness() -> None:
    assert auc(np.array([0, 1]), np.array([0.2, 0.8])) == 1.0
