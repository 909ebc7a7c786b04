"""Assess one score table: every metric with its interval, overall and by method, and what could not be assessed.

Items that were not scored count against coverage and are named by reason; they are in no metric, and the notes say so.
Knows score tables, and nothing of how scores are made, drawn or laid out on a page.
"""

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mmdf.cache.scores import ScoreTable
from mmdf.evaluate.intervals import Interval, bootstrap, clusters_of
from mmdf.evaluate.items import Scored, decision_threshold, place, scored_items
from mmdf.evaluate.metrics import METRICS, NEED_BOTH_CLASSES, Confusion, measure

FEW_CLUSTERS = 20
FEW_REALS = 100
_TEXT_BLOCKS = (
    ("roc_auc", "pr_auc", "eer", "tpr_at_1_fpr", "brier"),
    ("accuracy", "balanced_accuracy", "precision", "recall", "f1"),
)
_NAME_COLUMNS = 24
_TEXT_COLUMNS = 160


@dataclass(frozen=True)
class Estimate:
    """A metric and its 95 % interval; what is None has its reason in `note`."""

    value: float | None
    low: float | None
    high: float | None
    note: str | None


@dataclass(frozen=True)
class Row:
    """The metrics of one group of scored items.

    Attributes
    ----------
    name
        "overall", or the method whose fakes are measured against all real items.
    n_real, n_fake, n_clusters
        Scored items, and how many clusters (identities, and items without one) the interval was resampled from.
    estimates
        An `Estimate` for each name in `mmdf.evaluate.metrics.METRICS`.
    eer_threshold
        Where the error rates are nearest to equal on these very items: to be read, never to be used as a threshold.
    confusion
        Counts at the detector's threshold.
    """

    name: str
    n_real: int
    n_fake: int
    n_clusters: int
    estimates: Mapping[str, Estimate]
    eer_threshold: float | None
    confusion: Confusion


@dataclass(frozen=True)
class Assessment:
    """What is known of one detector on one set of items.

    Attributes
    ----------
    detector, threshold, threshold_from, trained_on
        As the score table's `info` names them.
    place
        The split and the datasets in words: "test split of faces".
    n_items, n_unlabelled
        Rows of the table, and those left out because nobody knows what they are.
    n_labelled, n_scored, coverage
        Labelled rows, those of them with a score, and the share.
    not_scored
        Labelled items without a score, counted by reason.
    n_identities
        Different identities among the scored items.
    overall, methods
        One row for all items and one for each method, by name.
    notes
        Sentences a reader needs beside the numbers.
    """

    detector: str
    place: str
    threshold: float
    threshold_from: str
    trained_on: str
    n_items: int
    n_unlabelled: int
    n_labelled: int
    n_scored: int
    coverage: float
    not_scored: Mapping[str, int]
    n_identities: int
    n_resamples: int
    seed: int
    overall: Row
    methods: tuple[Row, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, in the order of the fields."""
        return asdict(self) | {"methods": [asdict(row) for row in self.methods], "notes": list(self.notes)}


def assess(table: ScoreTable, n_resamples: int = 1000, seed: int = 0) -> Assessment:
    """Measure a detector on the items of `table`, overall and for each method's fakes against all real items.

    Parameters
    ----------
    table
        One row an item; the threshold is read from its `info`, never chosen here.
    n_resamples, seed
        Of the bootstrap over identities, see `mmdf.evaluate.intervals.bootstrap`.

    Raises
    ------
    DataError
        If nothing is labelled or scored, the table has no threshold, or a value makes no sense.
    """
    scored = scored_items(table)
    threshold = decision_threshold(table)
    everything = np.ones(len(scored.labels), bool)
    overall = _row("overall", scored, everything, threshold, n_resamples, seed)
    of_method = np.array([name or "" for name in scored.methods])
    names = sorted({name for name in scored.methods if name is not None})
    methods = tuple(
        _row(name, scored, (scored.labels == 0) | (of_method == name), threshold, n_resamples, seed) for name in names
    )
    n_labelled = table.table.num_rows - scored.n_unlabelled
    return Assessment(
        detector=str(table.info.get("detector") or "unnamed detector"),
        place=place(table),
        threshold=threshold,
        threshold_from=_words(table.info.get("threshold_from")),
        trained_on=_words(table.info.get("trained_on")),
        n_items=table.table.num_rows,
        n_unlabelled=scored.n_unlabelled,
        n_labelled=n_labelled,
        n_scored=len(scored.labels),
        coverage=len(scored.labels) / n_labelled,
        not_scored=scored.not_scored,
        n_identities=len(set(scored.identities) - {None}),
        n_resamples=n_resamples,
        seed=seed,
        overall=overall,
        methods=methods,
        notes=_notes(scored, overall),
    )


def to_text(assessment: Assessment) -> str:
    """Two aligned tables in plain text of at most 160 columns: metrics of the ranking, then those at the threshold."""
    a = assessment
    lines = [
        f"{a.detector} on the {a.place}",
        f"{a.n_items} items, {a.n_labelled} labelled, {a.n_scored} scored (coverage {a.coverage:.1%}), "
        f"{a.n_identities} identities",
        f"threshold {a.threshold:.4f} from {a.threshold_from}; trained on {a.trained_on}",
        f"in brackets: 95 % intervals, {a.n_resamples} resamples of identities, seed {a.seed}",
    ]
    for names in _TEXT_BLOCKS:
        heads = ["", "real", "fake", *(heading(name) for name in names)]
        rows = [
            [row.name, str(row.n_real), str(row.n_fake), *(format_estimate(n, row.estimates[n]) for n in names)]
            for row in (a.overall, *a.methods)
        ]
        lines += ["", *_aligned([heads, *rows])]
    lines += ["", *(f"note: {note}" for note in a.notes)] if a.notes else []
    wrapped = [part for line in lines for part in _wrapped(_printable(line))]
    return "\n".join(wrapped) + "\n"


def heading(metric: str) -> str:
    """The title of a column of `format_estimate`: error rates are shown in percent."""
    return "EER %" if metric == "eer" else METRICS[metric]


def format_estimate(metric: str, estimate: Estimate) -> str:
    """An estimate as "0.912 [0.874, 0.941]", without brackets where it has no interval, "-" where it has no value."""
    factor, digits = (100, 2) if metric == "eer" else (1, 3)
    if estimate.value is None:
        return "-"
    value = f"{factor * estimate.value:.{digits}f}"
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} [{factor * estimate.low:.{digits}f}, {factor * estimate.high:.{digits}f}]"


def _wrapped(line: str) -> list[str]:
    if len(line) <= _TEXT_COLUMNS:
        return [line]
    return textwrap.wrap(line, _TEXT_COLUMNS, subsequent_indent="      ")


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    cut = [[_short(row[0]), *row[1:]] for row in rows]
    widths = [max(len(row[column]) for row in cut) for column in range(len(cut[0]))]
    # Names and estimates start at one column, counts end at one.
    return [
        "  ".join(
            cell.rjust(width) if column in (1, 2) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cut
    ]


def _short(name: str) -> str:
    return name if len(name) <= _NAME_COLUMNS else name[: _NAME_COLUMNS - 3] + "..."


def _printable(line: str) -> str:
    # A method's name comes from a folder's name: control characters must not reach the terminal.
    return "".join(character if character.isprintable() else "?" for character in line)


def _row(name: str, scored: Scored, chosen: np.ndarray, threshold: float, n_resamples: int, seed: int) -> Row:
    labels, scores = scored.labels[chosen], scored.scores[chosen]
    clusters = clusters_of([scored.identities[row] for row in np.flatnonzero(chosen)])
    metrics = measure(labels, scores, threshold)
    intervals = bootstrap(labels, scores, threshold, clusters, n_resamples, seed)
    n_fake = int(labels.sum())
    n_real = len(labels) - n_fake
    estimates = {key: _estimate(key, metrics.values[key], intervals[key], n_real, n_fake) for key in METRICS}
    return Row(name, n_real, n_fake, int(clusters.max()) + 1, estimates, metrics.eer_threshold, metrics.confusion)


def _estimate(metric: str, value: float | None, interval: Interval, n_real: int, n_fake: int) -> Estimate:
    title = METRICS[metric]
    if value is not None:
        return Estimate(
            value, interval.low, interval.high, interval.note and f"{title} has no interval: {interval.note}"
        )
    if metric in NEED_BOTH_CLASSES:
        return Estimate(None, None, None, f"only {'real' if n_real else 'fake'} items: {title} needs both classes")
    if n_fake == 0:
        return Estimate(None, None, None, f"no fake items: {title} is 0/0")
    return Estimate(None, None, None, f"nothing was called fake: {title} is 0/0")


def _notes(scored: Scored, overall: Row) -> tuple[str, ...]:
    n_missing = sum(scored.not_scored.values())
    n_anonymous = scored.identities.count(None)
    notes = []
    if scored.n_unlabelled:
        notes.append(f"{scored.n_unlabelled} item(s) of unknown label are left out.")
    if n_missing:
        shown = "; ".join(f"{count} x {reason}" for reason, count in scored.not_scored.items())
        notes.append(f"{n_missing} labelled item(s) were not scored and are in no metric, only in coverage: {shown}.")
    notes += sorted({f"{e.note[0].upper()}{e.note[1:]}." for e in overall.estimates.values() if e.note})
    if 0 < overall.n_real < FEW_REALS:
        notes.append(
            f"{overall.n_real} real items: one false alarm is more than 1 %, so TPR@1%FPR is the TPR without any."
        )
    if 1 < overall.n_clusters < FEW_CLUSTERS:
        notes.append(f"Only {overall.n_clusters} independent identities or items: the intervals are too narrow.")
    if n_anonymous:
        notes.append(f"{n_anonymous} scored item(s) name no identity and are resampled as if nobody appeared twice.")
    if any(e.low is not None and e.low == e.high for e in overall.estimates.values()):
        notes.append("An interval without width means that every resample agreed, not that the value is certain.")
    return tuple(notes)


def _words(value: object) -> str:
    if value is None:
        return "not recorded"
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return ", ".join(str(part) for part in value)
    return json.dumps(value, sort_keys=True, default=str)
