"""Detection metrics from one sort: ranking, calibration, and decisions at a threshold.

Knows arrays of labels, scores and weights, and nothing of detectors, tables or intervals. Label 1 is fake, and an item
is called fake when its score is above the threshold. An undefined metric is None, or NaN inside arrays of many
weightings; it is never a zero.
"""

from dataclasses import dataclass

import numpy as np

from mmdf.cache.errors import DataError

METRICS = {
    "roc_auc": "ROC-AUC",
    "pr_auc": "PR-AUC",
    "eer": "EER",
    "tpr_at_1_fpr": "TPR@1%FPR",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced acc.",
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
    "brier": "Brier",
}
NEED_BOTH_CLASSES = frozenset({"roc_auc", "pr_auc", "eer", "tpr_at_1_fpr", "balanced_accuracy"})
FPR_LIMIT = 0.01


@dataclass(frozen=True)
class Confusion:
    """Counts of decisions: reals called real (tn) or fake (fp), fakes called real (fn) or fake (tp)."""

    tn: int
    fp: int
    fn: int
    tp: int


@dataclass(frozen=True)
class Metrics:
    """Every metric of one set of items.

    Attributes
    ----------
    values
        A value in [0, 1] for each name in `METRICS`, None where it is undefined.
    eer_threshold
        Threshold of the operating point nearest to the equal error rate, None where that is undefined.
    confusion
        Counts at the threshold.
    """

    values: dict[str, float | None]
    eer_threshold: float | None
    confusion: Confusion


@dataclass(frozen=True)
class Ranking:
    """Items sorted once by falling score, to be measured under any number of weightings.

    Attributes
    ----------
    order
        Positions in the input by falling score, (n,) int64.
    is_fake
        1 or 0 in that order, (n,) float64.
    cuts
        The m distinct scores, falling, (m,) float64.
    ends
        Last place in `order` of each group of equal scores, (m,) int64.
    squared_error
        (score - label)², in the order of the input, (n,) float64; NaN if a score is no probability.
    """

    order: np.ndarray
    is_fake: np.ndarray
    cuts: np.ndarray
    ends: np.ndarray
    squared_error: np.ndarray


def rank(labels: np.ndarray, scores: np.ndarray) -> Ranking:
    """Sort items by falling score.

    Parameters
    ----------
    labels
        0 for real, 1 for fake, (n,).
    scores
        Probability of fake, (n,). Other finite numbers are ranked as well, but have no Brier score.

    Raises
    ------
    DataError
        If the shapes differ, a label is not 0 or 1, or a score is not finite.
    """
    labels, scores = np.asarray(labels, np.float64), np.asarray(scores, np.float64)
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise DataError(f"Metrics need one label and one score an item; got {labels.shape} and {scores.shape}.")
    if not np.isin(labels, (0, 1)).all():
        raise DataError("Metrics need labels 0 (real) and 1 (fake). Leave out the items whose label is unknown.")
    if not np.isfinite(scores).all():
        raise DataError("Metrics need finite scores. Leave out the items that were not scored and report them.")
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    ends = np.flatnonzero(np.append(np.diff(falling) != 0, True)) if len(falling) else np.zeros(0, np.int64)
    is_probability = bool(((scores >= 0) & (scores <= 1)).all())
    squared_error = (scores - labels) ** 2 if is_probability else np.full(len(scores), np.nan)
    return Ranking(order, labels[order], falling[ends], ends, squared_error)


def measure(labels: np.ndarray, scores: np.ndarray, threshold: float, weights: np.ndarray | None = None) -> Metrics:
    """All metrics of one set of items.

    Parameters
    ----------
    labels, scores
        As in `rank`, (n,).
    threshold
        Scores above it are called fake.
    weights
        How often each item counts, (n,) whole numbers; once each if None.

    Notes
    -----
    Definitions are those of `measure_many`. The threshold of the equal error rate is that of the operating point with
    the least |FPR - FNR|, laid in the middle of the gap between the scores on either side.
    """
    labels, scores = np.asarray(labels), np.asarray(scores)
    if weights is not None:
        # An item that counts zero times is absent: its score must not shape a threshold either.
        counted = np.asarray(weights) > 0
        labels, scores, weights = labels[counted], scores[counted], np.asarray(weights)[counted]
    ranking = rank(labels, scores)
    row = np.ones((1, len(labels))) if weights is None else weights[None].astype(np.float64)
    values = {name: _plain(value[0]) for name, value in measure_many(ranking, row, threshold).items()}
    tp, fp = _counts(ranking, row)
    called = _n_cuts_above(ranking, threshold)
    true_fake, false_fake = round(tp[0, called]), round(fp[0, called])
    confusion = Confusion(round(fp[0, -1]) - false_fake, false_fake, round(tp[0, -1]) - true_fake, true_fake)
    return Metrics(values, _eer_threshold(ranking, tp[0], fp[0]), confusion)


def measure_many(ranking: Ranking, weights: np.ndarray, threshold: float) -> dict[str, np.ndarray]:
    """All metrics under B weightings at once, which is how the bootstrap is computed.

    Parameters
    ----------
    ranking, threshold
        Of n items; scores above the threshold are called fake.
    weights
        How often each item counts, (B, n), in the order of the input.

    Returns
    -------
    dict
        (B,) float64 for each name in `METRICS`, NaN where undefined.

    Notes
    -----
    roc_auc
        Chance that a fake scores above a real, ties count half (Hanley and McNeil 1982).
    pr_auc
        Average precision: sum of precision times the rise in recall over the distinct scores, not interpolated, as in
        scikit-learn. It is trivially 1 with only fakes, and therefore undefined here without both classes.
    eer
        The error rate where FPR equals FNR, on the ROC curve with straight lines between operating points. Neither
        the convex hull (ROCCH-EER, Brümmer and de Villiers 2011) nor the mean of both rates at the nearest operating
        point (the ASVspoof scripts); with many items the three agree.
    tpr_at_1_fpr
        The greatest TPR of an operating point with FPR of at most 1 %, not interpolated. With fewer than 100 reals a
        single false alarm is above 1 %, so that this is the TPR without any false alarm.
    brier
        Mean squared error of the probability (Brier 1950).
    precision, recall, f1, accuracy, balanced_accuracy
        At the threshold, with fake as the positive class; undefined where they are 0/0.
    """
    tp, fp = _counts(ranking, weights)
    n_fake, n_real = tp[:, -1], fp[:, -1]
    rise = np.diff(tp, axis=1)
    at_cut = _ratio(tp[:, 1:], tp[:, 1:] + fp[:, 1:], otherwise=0.0)
    both = n_fake * n_real > 0
    allowed = fp <= (FPR_LIMIT * (1 + 1e-9) * n_real)[:, None]
    values = {
        "roc_auc": _ratio((np.diff(fp, axis=1) * (tp[:, 1:] + tp[:, :-1])).sum(1), 2 * n_fake * n_real),
        "pr_auc": np.where(both, _ratio((rise * at_cut).sum(1), n_fake), np.nan),
        "eer": _eer(tp, fp),
        "tpr_at_1_fpr": np.where(both, _ratio((tp * allowed).max(1), n_fake), np.nan),
        "brier": _ratio(weights @ ranking.squared_error, n_fake + n_real),
    }
    called = _n_cuts_above(ranking, threshold)
    decided = _decisions(tp[:, called], fp[:, called], n_fake, n_real)
    return {name: (values | decided)[name] for name in METRICS}


def roc_curve(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """FPR and TPR of all operating points, (m + 1,) each, from (0, 0) to (1, 1); None without both classes."""
    ranking = rank(labels, scores)
    tp, fp = _counts(ranking, np.ones((1, len(ranking.order))))
    if tp[0, -1] == 0 or fp[0, -1] == 0:
        return None
    return fp[0] / fp[0, -1], tp[0] / tp[0, -1]


def _counts(ranking: Ranking, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fakes and reals at or above each cut, (B, m + 1) each; column 0 is "nothing is called fake"."""
    ordered = weights[:, ranking.order]
    shape = (len(weights), len(ranking.cuts) + 1)
    tp, fp = np.zeros(shape), np.zeros(shape)
    tp[:, 1:] = np.cumsum(ordered * ranking.is_fake, axis=1)[:, ranking.ends]
    fp[:, 1:] = np.cumsum(ordered, axis=1)[:, ranking.ends] - tp[:, 1:]
    return tp, fp


def _eer(tp: np.ndarray, fp: np.ndarray) -> np.ndarray:
    n_fake, n_real = tp[:, -1:], fp[:, -1:]
    fpr = _ratio(fp, n_real, otherwise=0.0)
    # From -1 (nothing is called fake) to 1 (everything is), never falling.
    gap = fpr + _ratio(tp, n_fake, otherwise=0.0) - 1
    after = np.maximum((gap >= 0).argmax(1), 1)
    rows = np.arange(len(gap))
    if gap.shape[1] == 1:
        return np.full(len(gap), np.nan)
    low, high = gap[rows, after - 1], gap[rows, after]
    step = _ratio(-low, high - low, otherwise=0.0)
    before = fpr[rows, after - 1]
    eer = before + step * (fpr[rows, after] - before)
    return np.where((n_fake * n_real)[:, 0] > 0, eer, np.nan)


def _eer_threshold(ranking: Ranking, tp: np.ndarray, fp: np.ndarray) -> float | None:
    if tp[-1] == 0 or fp[-1] == 0:
        return None
    point = int(np.abs(fp / fp[-1] + tp / tp[-1] - 1).argmin())
    if point == 0:
        return float(ranking.cuts[0])
    if point == len(ranking.cuts):
        return float(np.nextafter(ranking.cuts[-1], -np.inf))
    above, below = ranking.cuts[point - 1], ranking.cuts[point]
    middle = below + (above - below) / 2
    # Between neighbouring floats there is no middle; the lower one still calls exactly the same items fake.
    return float(middle if middle < above else below)


def _n_cuts_above(ranking: Ranking, threshold: float) -> int:
    return int((ranking.cuts > threshold).sum())


def _decisions(tp: np.ndarray, fp: np.ndarray, n_fake: np.ndarray, n_real: np.ndarray) -> dict[str, np.ndarray]:
    recall, specificity = _ratio(tp, n_fake), _ratio(n_real - fp, n_real)
    return {
        "accuracy": _ratio(tp + n_real - fp, n_fake + n_real),
        "balanced_accuracy": (recall + specificity) / 2,
        "precision": _ratio(tp, tp + fp),
        "recall": recall,
        "f1": _ratio(2 * tp, tp + fp + n_fake),
    }


def _ratio(numerator: np.ndarray, denominator: np.ndarray, otherwise: float = np.nan) -> np.ndarray:
    shape = np.broadcast_shapes(numerator.shape, denominator.shape)
    return np.divide(numerator, denominator, out=np.full(shape, otherwise), where=denominator > 0)


def _plain(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)
