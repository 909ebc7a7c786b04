"""Assessments: rows, notes, plain values and text."""

import json
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mmdf.cache.errors import DataError
from mmdf.cache.scores import ScoreTable
from mmdf.evaluate.assess import Estimate, assess, format_estimate, to_text
from mmdf.evaluate.metrics import METRICS


def test_overall_and_each_method_against_all_reals(toy_table: ScoreTable) -> None:
    found = assess(toy_table, n_resamples=200)
    labels, scores = toy_table.numbers("label"), toy_table.numbers("score")
    methods = np.array(toy_table.column("method"))
    assert [row.name for row in found.methods] == ["swap", "voice"]
    for row, chosen in [
        (found.overall, labels >= 0),
        *((r, (labels == 0) | (methods == r.name)) for r in found.methods),
    ]:
        auc = row.estimates["roc_auc"]
        assert auc.value == pytest.approx(roc_auc_score(labels[chosen], scores[chosen]))
        assert auc.value is not None
        assert auc.low is not None
        assert auc.high is not None
        assert auc.low < auc.value < auc.high
        assert (row.n_real, row.n_fake) == (60, int(labels[chosen].sum()))
        assert row.n_clusters == 30
        assert sum(vars(row.confusion).values()) == row.n_real + row.n_fake


def test_the_threshold_and_its_origin_come_from_the_table(toy_table: ScoreTable) -> None:
    found = assess(toy_table, n_resamples=10)
    assert (found.detector, found.place, found.trained_on) == ("early", "test split of toy", "toy")
    assert (found.threshold, found.threshold_from) == (0.5, "equal error rate on validation")
    assert found.n_identities == 30


@pytest.mark.parametrize(
    ("trained_on", "words"),
    [(["a", "b"], "a, b"), ({"b": 1, "a": 2}, '{"a": 2, "b": 1}'), (None, "not recorded"), ("toy", "toy")],
)
def test_what_it_was_trained_on_is_put_in_words(
    make_table: Callable[..., ScoreTable], trained_on: object, words: str
) -> None:
    table = make_table([0, 1], [0.1, 0.9], info={"threshold": 0.5, "trained_on": trained_on})
    assert assess(table, n_resamples=5).trained_on == words


def test_items_without_a_score_count_against_coverage_and_are_named(make_table: Callable[..., ScoreTable]) -> None:
    table = make_table(
        [0, 1, 1, 1, None], [0.1, 0.9, None, None, 0.3], reason=[None, None, "no sound", "no sound", None]
    )
    found = assess(table, n_resamples=20)
    assert (found.n_items, found.n_labelled, found.n_scored, found.n_unlabelled) == (5, 4, 2, 1)
    assert found.coverage == 0.5
    assert found.not_scored == {"no sound": 2}
    text = " ".join(found.notes)
    assert "1 item(s) of unknown label are left out." in text
    assert "2 labelled item(s) were not scored and are in no metric, only in coverage: 2 x no sound." in text


@pytest.mark.parametrize(("label", "only"), [(0, "real"), (1, "fake")])
def test_one_class_has_notes_instead_of_numbers(make_table: Callable[..., ScoreTable], label: int, only: str) -> None:
    found = assess(make_table([label] * 3, [0.1, 0.2, 0.3]), n_resamples=20)
    auc = found.overall.estimates["roc_auc"]
    assert auc == Estimate(None, None, None, f"only {only} items: ROC-AUC needs both classes")
    assert f"Only {only} items: ROC-AUC needs both classes." in found.notes
    assert found.overall.estimates["accuracy"].value == 1 - label
    precision = found.overall.estimates["precision"].note
    assert precision == ("nothing was called fake: Precision is 0/0" if label else "no fake items: Precision is 0/0")


def test_one_identity_has_values_without_intervals(make_table: Callable[..., ScoreTable]) -> None:
    found = assess(make_table([0, 1, 1], [0.2, 0.4, 0.9], identity=["p"] * 3), n_resamples=20)
    accuracy = found.overall.estimates["accuracy"]
    assert accuracy.value == pytest.approx(2 / 3)
    assert (accuracy.low, accuracy.high) == (None, None)
    assert accuracy.note is not None
    assert "one identity" in accuracy.note
    assert found.n_identities == 1


def test_two_items_all_tied_are_assessed_with_every_warning_they_need(make_table: Callable[..., ScoreTable]) -> None:
    found = assess(make_table([0, 1], [0.5, 0.5]), n_resamples=20)
    assert found.overall.estimates["roc_auc"].value == 0.5
    text = " ".join(found.notes)
    assert "2 real items" not in text
    for words in ("one false alarm is more than 1 %", "Only 2 independent", "2 scored item(s) name no identity"):
        assert words in text


def test_nothing_labelled_and_nothing_scored_are_errors(make_table: Callable[..., ScoreTable]) -> None:
    with pytest.raises(DataError, match="has a label"):
        assess(make_table([], []))
    with pytest.raises(DataError, match="has a score"):
        assess(make_table([0, 1], [None, float("nan")]))


def test_plain_values_survive_json_and_are_the_same_each_time(toy_table: ScoreTable) -> None:
    first = json.dumps(assess(toy_table, 50, seed=3).to_dict(), allow_nan=False)
    assert first == json.dumps(assess(toy_table, 50, seed=3).to_dict(), allow_nan=False)
    assert first != json.dumps(assess(toy_table, 50, seed=4).to_dict(), allow_nan=False)
    values = json.loads(first)
    assert list(values["overall"]["estimates"]) == list(METRICS)
    assert values["methods"][1]["name"] == "voice"


def test_text_is_aligned_narrow_and_shows_every_metric(toy_table: ScoreTable) -> None:
    text = to_text(assess(toy_table, n_resamples=50))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 160
    for title in ("ROC-AUC", "PR-AUC", "EER %", "TPR@1%FPR", "Brier", "Accuracy", "Balanced acc.", "Precision", "F1"):
        assert title in text
    start = next(number for number, line in enumerate(lines) if "ROC-AUC" in line)
    column = lines[start].index("ROC-AUC")
    assert [line.split()[0] for line in lines[start + 1 : start + 4]] == ["overall", "swap", "voice"]
    assert all(line[column - 1] == " " and line[column].isdigit() for line in lines[start + 1 : start + 4])


def test_text_with_long_names_and_many_notes_keeps_its_width_and_no_control_characters(
    make_table: Callable[..., ScoreTable],
) -> None:
    table = make_table(
        [0, 0, 1, 1, 1], [0.1, 0.2, 0.8, 0.9, None], method=[None, None, "m" * 90, "\x1b[31mred", "x"],
        reason=[None] * 4 + ["because " * 60], info={"threshold": 0.5, "trained_on": "t " * 200},
    )  # fmt: skip
    text = to_text(assess(table, n_resamples=20))
    assert max(map(len, text.splitlines())) <= 160
    assert "\x1b" not in text
    assert "m" * 21 + "..." in text


@pytest.mark.parametrize(
    ("metric", "estimate", "text"),
    [
        ("f1", Estimate(0.5, 0.25, 0.75, None), "0.500 [0.250, 0.750]"),
        ("eer", Estimate(0.1234, 0.1, 0.2, None), "12.34 [10.00, 20.00]"),
        ("f1", Estimate(0.5, None, None, "why"), "0.500"),
        ("f1", Estimate(None, None, None, "why"), "-"),
    ],
)
def test_estimates_in_text(metric: str, estimate: Estimate, text: str) -> None:
    assert format_estimate(metric, estimate) == text
