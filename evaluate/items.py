"""What of a score table can be assessed: the labelled and scored items, and the count of all others by reason.

Knows the score table's columns, and nothing of metrics.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from mmdf.cache.errors import DataError
from mmdf.cache.scores import ScoreTable

UNNAMED_METHOD = "unnamed"


@dataclass(frozen=True)
class Scored:
    """The labelled and scored items of a table, in its order: what metrics and figures are made of.

    Attributes
    ----------
    item_ids, methods, identities
        Per item; the method is None for real items.
    labels, scores
        (n,) int64 and (n,) float64.
    not_scored
        Labelled items without a score, counted by reason, the most frequent first.
    n_unlabelled
        Items whose label is unknown.
    """

    item_ids: list[str]
    methods: list[str | None]
    identities: list[str | None]
    labels: np.ndarray
    scores: np.ndarray
    not_scored: dict[str, int]
    n_unlabelled: int


def scored_items(table: ScoreTable) -> Scored:
    """Take from a table what can be assessed, and count what cannot.

    Raises
    ------
    DataError
        If nothing is labelled, nothing is scored, an item stands twice, or a score is no probability.
    """
    labels, scores = table.numbers("label"), table.numbers("score")
    item_ids = table.column("item_id")
    twice = [item_id for item_id, count in Counter(item_ids).items() if count > 1]
    if twice:
        raise DataError(
            f"{len(twice)} item(s) stand more than once in the score table, the first is '{twice[0]}'. "
            "Metrics need one score an item: write one table for each detector and seed."
        )
    known = np.isin(labels, (0, 1))
    usable = known & np.isfinite(scores)
    _check_usable(labels, known, usable, scores)
    reasons = Counter(
        reason or ("no reason given" if score is None else "the score is not a finite number")
        for reason, score, left_out in zip(table.column("reason"), table.column("score"), known & ~usable, strict=True)
        if left_out
    )
    rows = np.flatnonzero(usable)
    methods = [
        (name or UNNAMED_METHOD) if label == 1 else None
        for name, label in zip(table.column("method"), labels, strict=True)
    ]
    identities = table.column("identity")
    return Scored(
        [item_ids[row] for row in rows],
        [methods[row] for row in rows],
        [identities[row] for row in rows],
        labels[rows].astype(np.int64),
        scores[rows],
        dict(sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))),
        int((~known).sum()),
    )


def _check_usable(labels: np.ndarray, known: np.ndarray, usable: np.ndarray, scores: np.ndarray) -> None:
    strange = labels[~known & ~np.isnan(labels)]
    if len(strange):
        raise DataError(f"Labels are 0 (real), 1 (fake) or null; the score table has {strange[0]:g}.")
    if not known.any():
        raise DataError(
            f"None of the {len(labels)} items has a label, so nothing can be assessed. "
            "Give the manifest a column 'label' (0 real, 1 fake) and run `mmdf predict` again."
        )
    if not usable.any():
        raise DataError(
            f"None of the {int(known.sum())} labelled items has a score. The column 'reason' of the score table says "
            "why; usually the embeddings are missing: run `mmdf extract`, then `mmdf predict` again."
        )
    outside = usable & ((scores < 0) | (scores > 1))
    if outside.any():
        raise DataError(
            f"{int(outside.sum())} score(s) are no probabilities, such as {scores[outside][0]:g}. The column 'score' "
            "must lie in [0, 1]; log-odds belong into 'logit'."
        )


def decision_threshold(table: ScoreTable) -> float:
    """The threshold in the table's `info`; `DataError` if there is none."""
    try:
        threshold = table.threshold
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            "The score table names no threshold, so nothing can be called fake. It comes from the validation data: "
            "write the table with `mmdf predict`, or put 'threshold' into its info."
        ) from error
    if not np.isfinite(threshold):
        raise DataError(f"The score table's threshold is {threshold}; it must be a finite number.")
    return threshold


def place(table: ScoreTable) -> str:
    """Where the items are from, in words: "test split of faces"."""
    splits = sorted({str(value) for value in table.column("split") if value is not None})
    datasets = sorted({str(value) for value in table.column("dataset") if value is not None})
    where = f"{' and '.join(splits)} split{'s' if len(splits) > 1 else ''}" if splits else "no split named"
    return f"{where} of {', '.join(datasets)}" if datasets else where
