"""Splits: groups stay whole whatever the data, strata stay balanced, and overlaps come with names."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from mmdf.cache.errors import DataError
from mmdf.cache.manifest import GROUP_COLUMNS, SPLITS, Item, Manifest
from mmdf.cache.splits import (
    DEFAULT_FRACTIONS,
    assign_splits,
    check_manifest,
    check_overlap,
    describe,
    groups_of,
    split_counts,
)

names = st.none() | st.sampled_from("abcdefgh")
rows = st.lists(
    st.tuples(names, names, names, st.sampled_from([0, 1, None]), st.sampled_from([None, "m", "n"])),
    min_size=1,
    max_size=40,
)


def _manifest(groups: list[tuple[str | None, ...]]) -> Manifest:
    return Manifest.of(
        [
            Item(f"d/{k}", f"{k}.wav", "audio", None, label, method=method, identity=a, source=b, pair_key=c)
            for k, (a, b, c, label, method) in enumerate(groups)
        ],  # type: ignore[misc, arg-type]
        Path(),
    )


def _people(n_people: int, items_each: int = 4) -> Manifest:
    return Manifest.of(
        [
            Item(f"d/{p}-{k}", f"{p}-{k}.wav", "audio", label=k % 2, method=("m", "n")[p % 2], identity=f"p{p}")
            for p in range(n_people)
            for k in range(items_each)
        ],
        Path(),
    )


@settings(deadline=None)
@given(rows)
def test_groups_are_the_connected_components(groups: list[tuple[str | None, ...]]) -> None:
    links = [
        (i, j)
        for i in range(len(groups))
        for j in range(i)
        if any(groups[i][c] is not None and groups[i][c] == groups[j][c] for c in range(3))
    ]
    left, right = np.array(links, int).reshape(-1, 2).T
    graph = coo_matrix((np.ones(len(links)), (left, right)), (len(groups), len(groups)))
    expected = connected_components(graph, directed=False)[1]
    ours = groups_of(_manifest(groups))
    assert sorted(set(ours.tolist())) == list(range(len(set(ours.tolist()))))
    np.testing.assert_array_equal(ours[:, None] == ours, expected[:, None] == expected)


@settings(deadline=None)
@given(rows, st.integers(0, 5))
def test_any_data_are_split_without_overlap_or_refused(groups: list[tuple[str | None, ...]], seed: int) -> None:
    manifest = _manifest(groups)
    if len(set(groups_of(manifest).tolist())) < 3:
        with pytest.raises(DataError, match=r"hang together in [12] group"):
            assign_splits(manifest, seed)
        return
    done = assign_splits(manifest, seed)
    check_overlap(done)
    assert set(done.column("split")) == set(SPLITS)
    assert done.column("split") == assign_splits(manifest, seed).column("split")
    assert done.column("item_id") == manifest.column("item_id")
    for group in np.unique(groups_of(manifest)):
        assert len({s for s, g in zip(done.column("split"), groups_of(manifest), strict=True) if g == group}) == 1


def test_another_seed_gives_another_split() -> None:
    assert assign_splits(_people(30), 0).column("split") != assign_splits(_people(30), 1).column("split")


@pytest.mark.parametrize("seed", range(5))
def test_labels_and_methods_are_balanced(seed: int) -> None:
    manifest = assign_splits(_people(60), seed)
    labels, methods = manifest.labels(), np.array(manifest.column("method"))
    splits = np.array(manifest.column("split"))
    for label in (0, 1):
        for method in ("m", "n"):
            stratum = (labels == label) & (methods == method)
            for split, fraction in DEFAULT_FRACTIONS.items():
                assert (splits[stratum] == split).mean() == pytest.approx(fraction, abs=0.08)


def test_a_rare_method_is_spread_before_its_split_is_full() -> None:
    people = [(f"p{k}", None, None, 0, None) for k in range(90)] + [(f"q{k}", None, None, 1, "rare") for k in range(10)]
    manifest = assign_splits(_manifest(people), 0)
    rare = [item.split for item in manifest.items() if item.method == "rare"]
    assert rare.count("train") == 6
    assert {rare.count("val"), rare.count("test")} in ({2}, {1, 3})


def test_one_big_group_does_not_empty_a_split() -> None:
    manifest = assign_splits(
        _manifest([("a", None, None, 0, None)] * 50 + [("b", None, None, 1, None), ("c", None, None, 1, None)]), 0
    )
    assert {split: row["groups"] for split, row in split_counts(manifest).items()} == {"train": 1, "val": 1, "test": 1}


def test_fractions_can_be_chosen() -> None:
    manifest = assign_splits(_people(50), 0, {"train": 0.2, "val": 0.2, "test": 0.6})
    assert split_counts(manifest)["test"]["items"] == pytest.approx(120, abs=8)


@pytest.mark.parametrize("column", GROUP_COLUMNS)
def test_overlap_is_named_by_column_value_and_splits(column: str) -> None:
    manifest = Manifest.of(
        [
            Item("a", "a.wav", "audio", split="test", **{column: "anna"}),
            Item("b", "b.wav", "audio", split="train", **{column: "anna"}),
            Item("c", "c.wav", "audio", split="val", **{column: "bert"}),
        ],
        Path(),
    )
    with pytest.raises(DataError, match=rf"1 value\(s\) of {column}: 'anna' in train and test\. .*--resplit"):
        check_overlap(manifest)


def test_many_offenders_are_counted_and_five_named() -> None:
    manifest = Manifest.of(
        [Item(f"{p}{s}", "x", "audio", split=s, identity=f"p{p}") for p in range(8) for s in ("train", "val")], Path()
    )
    with pytest.raises(
        DataError, match=r"8 value\(s\) of identity: 'p0' in train and val; .*'p4' in train and val and 3 more"
    ):
        check_overlap(manifest)


def test_unknown_values_and_unsplit_items_do_not_overlap() -> None:
    # Returns without a complaint; a check that took null for a value, or "no split" for a split, raises here.
    assert None is check_overlap(  # type: ignore[func-returns-value]
        Manifest.of(
            [
                Item("a", "a", "audio", split="train"),
                Item("b", "b", "audio", split="test"),
                Item("c", "c", "audio", split="test", identity="anna"),
                Item("d", "d", "audio", identity="anna"),
            ],
            Path(),
        )
    )


def test_counts_and_their_table() -> None:
    manifest = Manifest.of(
        [
            Item("a", "a", "audio", label=0, split="train", identity="x"),
            Item("b", "b", "audio", label=1, split="train", identity="x"),
            Item("c", "c", "audio", split="test"),
            Item("d", "d", "audio", label=1),
        ],
        Path(),
    )
    assert split_counts(manifest) == {
        "train": {"items": 2, "groups": 1, "real": 1, "fake": 1, "unknown": 0},
        "test": {"items": 1, "groups": 1, "real": 0, "fake": 0, "unknown": 1},
        "none": {"items": 1, "groups": 1, "real": 0, "fake": 1, "unknown": 0},
    }
    lines = describe(manifest).splitlines()
    assert lines[1].split() == ["train", "2", "1", "1", "1", "0"]
    assert lines[-2:] == [
        "Warning: split 'val' has no real and no fake items.",
        "Warning: split 'test' has no real and no fake items.",
    ]


def test_a_manifest_is_checked_for_files_and_overlap(tmp_path: Path) -> None:
    items = [Item(f"d/{k}", f"{k}.wav", "audio", split=SPLITS[k % 3], identity=f"p{k}") for k in range(7)]
    (tmp_path / "0.wav").touch()
    with pytest.raises(DataError, match=r"6 of 7 files are not under .*: 1\.wav, .*5\.wav and 1 more.*--root"):
        check_manifest(Manifest.of(items, tmp_path))
    for k in range(7):
        (tmp_path / f"{k}.wav").touch()
    check_manifest(Manifest.of(items, tmp_path))
    overlapping = Manifest.of([*items, Item("d/x", "0.wav", "audio", split="test", identity="p0")], tmp_path)
    with pytest.raises(DataError, match="'p0' in train and test"):
        check_manifest(overlapping)
