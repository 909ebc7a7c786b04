"""What of a table can be assessed, and how the rest is counted."""

from collections.abc import Callable

import pytest

from mmdf.cache.errors import DataError
from mmdf.cache.scores import ScoreTable
from mmdf.evaluate.items import decision_threshold, place, scored_items


def test_only_labelled_and_scored_items_remain_and_the_rest_is_counted(make_table: Callable[..., ScoreTable]) -> None:
    table = make_table(
        [0, 1, 1, None, 1, 0, 1],
        [0.1, 0.9, None, 0.5, float("nan"), None, None],
        method=["swap", None, "swap", None, "swap", None, "swap"],
        reason=[None, None, "no sound", None, None, None, "no sound"],
    )
    items = scored_items(table)
    assert items.item_ids == ["item0000", "item0001"]
    assert items.methods == [None, "unnamed"]
    assert items.labels.tolist() == [0, 1]
    assert items.not_scored == {"no sound": 2, "no reason given": 1, "the score is not a finite number": 1}
    assert next(iter(items.not_scored)) == "no sound"
    assert items.n_unlabelled == 1


@pytest.mark.parametrize(
    ("labels", "scores", "columns", "words"),
    [
        ([], [], {}, "None of the 0 items has a label"),
        ([None, None], [0.1, 0.2], {}, "has a label.*column 'label'"),
        ([0, 1], [None, float("nan")], {}, "None of the 2 labelled items has a score.*mmdf extract"),
        ([0, 1], [0.1, 1.5], {}, r"no probabilities, such as 1\.5.*'logit'"),
        ([0, 2], [0.1, 0.5], {}, "Labels are 0.*has 2"),
        ([0, 1], [0.1, 0.5], {"item_id": ["a", "a"]}, "more than once.*'a'"),
    ],
)
def test_a_table_that_cannot_be_assessed_is_refused_in_words(
    make_table: Callable[..., ScoreTable], labels: list, scores: list, columns: dict, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        scored_items(make_table(labels, scores, **columns))


@pytest.mark.parametrize("info", [{}, {"threshold": None}, {"threshold": "high"}, {"threshold": float("nan")}])
def test_a_missing_threshold_is_never_invented(make_table: Callable[..., ScoreTable], info: dict) -> None:
    with pytest.raises(DataError, match="threshold"):
        decision_threshold(make_table([0], [0.1], info=info))


def test_the_place_names_splits_and_datasets(make_table: Callable[..., ScoreTable]) -> None:
    assert place(make_table([0], [0.1])) == "test split of toy"
    assert place(make_table([0, 1], [0.1, 0.2], split=["val", "test"])) == "test and val splits of toy"
    assert place(make_table([0], [0.1], split=[None], dataset=[None])) == "no split named"
