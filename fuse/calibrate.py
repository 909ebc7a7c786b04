"""From raw logits to log-odds, and from log-odds to a decision. Everything here is fitted on validation items only.

NumPy and scikit-learn on labels and logits; knows nothing of heads, tensors or files.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from mmdf.cache.errors import DataError

MIN_ITEMS_A_CLASS = 5
COMBINATION_C = 1.0
MAX_ROUNDS = 20
# Platt's smoothed targets are regularisation enough; scikit-learn's own penalty is switched off by a large C.
UNPENALISED_C = 1e6


@dataclass(frozen=True)
class Calibration:
    """log-odds = slope * logit + intercept, with slope >= 0, so that no ranking is ever turned around.

    Attributes
    ----------
    prior_log_odds
        Log-odds of fake among the items it was fitted on: what the calibrated log-odds are when nothing is known.
    """

    slope: float
    intercept: float
    prior_log_odds: float

    def log_odds(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated log-odds of logits, of any shape."""
        return self.slope * logits + self.intercept


@dataclass(frozen=True)
class Combination:
    """log-odds = bias + W * (mean of the present evidence, weighted by `weights`), W being the sum of the weights.

    Attributes
    ----------
    weights
        (S,) float64, none negative.
    """

    weights: np.ndarray
    bias: float


def probability(log_odds: np.ndarray) -> np.ndarray:
    """The probability of fake for log-odds, of any shape; exact where exp(-log_odds) would overflow, NaN for NaN."""
    # NumPy warns of the NaN that stands for a missing stream.
    with np.errstate(invalid="ignore"):
        return np.exp(-np.logaddexp(0.0, -log_odds))


def platt(labels: np.ndarray, logits: np.ndarray) -> Calibration:
    """Platt scaling: the logistic regression of labels (n,) on logits (n,), with Platt's smoothed targets.

    Platt 1999, "Probabilistic outputs for support vector machines", section 2.2: targets (N1 + 1) / (N1 + 2) and
    1 / (N0 + 2) keep perfectly separated logits from an infinite slope. Where we differ: a slope below zero (the head
    is worse than chance on validation) becomes zero, and every score the prior.
    """
    n_fake, n_real = int((labels == 1).sum()), int((labels == 0).sum())
    target = np.where(labels == 1, (n_fake + 1) / (n_fake + 2), 1 / (n_real + 2))
    prior = float(np.log(target.mean() / (1 - target.mean())))
    centre, spread = float(logits.mean()), float(logits.std())
    if spread <= 1e-9 * max(1.0, abs(centre)):
        return Calibration(0.0, prior, prior)
    # A soft target is a pair of weighted hard ones.
    x = np.tile((logits - centre) / spread, 2)[:, None]
    y = np.repeat([1, 0], len(logits))
    model = LogisticRegression(C=UNPENALISED_C, max_iter=1000, tol=1e-8)
    model.fit(x, y, sample_weight=np.concatenate([target, 1 - target]))
    slope = float(model.coef_[0, 0]) / spread
    if slope <= 0:
        return Calibration(0.0, prior, prior)
    return Calibration(slope, float(model.intercept_[0]) - slope * centre, prior)


def combine(labels: np.ndarray, evidence: np.ndarray, present: np.ndarray) -> Combination:
    """Learn how much each calibrated stream counts: L2-regularised logistic regression with C = 1.

    Parameters
    ----------
    labels
        (n,), 0 or 1.
    evidence
        (n, S) calibrated log-odds less their prior's: 0 says nothing.
    present
        (n, S) bool.

    Notes
    -----
    Weights are learned because plain averaging lets a weak member pull down a strong one (ssr-dfd, figure 5). Two
    additions of ours. A stream with a negative weight is taken out and the rest fitted again: such weights are noise of
    small validation sets, and would turn around the verdict on a file that has that stream alone. And where streams are
    missing, the present ones speak with the weight of all (`renormalised`); since that depends on the weights, the fit
    is repeated until both agree. With all streams present one round is enough.
    """
    active = np.ones(evidence.shape[1], dtype=bool)
    weights, bias = np.ones(evidence.shape[1]), 0.0
    for _ in range(MAX_ROUNDS):
        inputs = renormalised(np.where(active, evidence, 0.0), present, weights)
        model = LogisticRegression(C=COMBINATION_C, max_iter=1000).fit(inputs, labels)
        found, bias = np.where(active, model.coef_[0], 0.0), float(model.intercept_[0])
        negative = found < 0
        active &= ~negative
        settled = np.allclose(found, weights, rtol=1e-6, atol=1e-9)
        weights = np.where(negative, 0.0, found)
        if settled and not negative.any():
            break
    return Combination(weights, bias)


def renormalised(evidence: np.ndarray, present: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Evidence (n, S), 0 where missing, scaled by the sum of all weights over the sum of the present ones."""
    shares = (present * weights).sum(1) / max(float(weights.sum()), 1e-12)
    scale = np.where(shares > 1e-6, 1 / np.maximum(shares, 1e-6), 0.0)
    return np.where(present, evidence, 0.0) * scale[:, None]


def choose_threshold(labels: np.ndarray, scores: np.ndarray) -> float:
    """The threshold of equal error: scores above it are called fake.

    Halfway between two neighbouring scores, where the shares of reals called fake and of fakes called real differ
    least; of equals, where their sum is least. Constant scores are their own threshold: nothing is called fake.
    """
    values = np.unique(scores)
    if len(values) == 1:
        return float(values[0])
    fakes, reals = np.sort(scores[labels == 1]), np.sort(scores[labels == 0])
    missed = np.searchsorted(fakes, values[:-1], side="right") / len(fakes)
    false_alarms = 1 - np.searchsorted(reals, values[:-1], side="right") / len(reals)
    # Rounding first: 1 - 2/3 and 1/3 differ in their last bit, and ties must be ties.
    best = np.lexsort((np.round(missed + false_alarms, 12), np.round(np.abs(missed - false_alarms), 12)))[0]
    low, high = float(values[best]), float(values[best + 1])
    middle = (low + high) / 2
    return middle if low <= middle < high else low


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve; labels must hold both classes."""
    return float(roc_auc_score(labels, scores))


def check_classes(labels: np.ndarray, what: str, remedy: str, least: int = 1) -> None:
    """Refuse labels with fewer than `least` items in a class.

    Raises
    ------
    DataError
        That names `what` and the `remedy`.
    """
    n_real, n_fake = int((labels == 0).sum()), int((labels == 1).sum())
    if min(n_real, n_fake) < least:
        raise DataError(
            f"{what} has {n_real} real and {n_fake} fake items, at least {least} of each are needed. {remedy}"
        )


def error_rates(labels: np.ndarray, scores: np.ndarray, threshold: float) -> dict[str, float]:
    """The shares of reals called fake and of fakes called real at `threshold`."""
    called = scores > threshold
    return {
        "false_alarm_rate": float(called[labels == 0].mean()),
        "miss_rate": float((~called[labels == 1]).mean()),
    }
