"""The manifest's contract: what is refused and in which words, and that Parquet gives back what went in."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdf.cache.errors import DataError, UsageError
from mmdf.cache.manifest import (
    FAMILIES,
    MODALITIES,
    SCHEMA,
    SPLITS,
    STREAMS,
    Item,
    Manifest,
    Segment,
    inside,
    validated,
)

ROW: dict[str, Any] = {"item_id": "d/a.wav", "path": "a.wav", "modality": "audio"}


def _raw(*rows: dict[str, Any]) -> Manifest:
    names = {name: None for row in rows for name in row}
    return validated(pa.Table.from_pylist([{**names, **ROW, **row} for row in rows]), Path("data"))


def _items(n: int) -> list[Item]:
    return [Item(f"d/{k}", f"{k}.wav", "audio", label=k % 2, split=SPLITS[k % 3]) for k in range(n)]


@st.composite
def items(draw: st.DrawFn) -> list[Item]:
    names = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    labels = st.sampled_from([None, 0, 1])
    amounts = st.none() | st.floats(0, 1e6)
    starts = st.floats(0, 100)
    segments = st.builds(lambda s, d, n: Segment(s, s + d, n), starts, st.floats(0.01, 9), st.sampled_from(STREAMS))
    return [
        Item(
            item_id=f"d/{k}",
            path=f"{k}.mp4",
            modality=draw(st.sampled_from(MODALITIES)),
            dataset=draw(names),
            label=draw(labels),
            video_label=draw(labels),
            audio_label=draw(labels),
            method=draw(names),
            family=draw(st.sampled_from([None, *FAMILIES])),
            identity=draw(names),
            split=draw(st.sampled_from([None, *SPLITS])),
            fake_segments=tuple(draw(st.lists(segments, max_size=3))),
            duration_s=draw(amounts),
            size_bytes=draw(st.none() | st.integers(0, 2**60)),
        )
        for k in range(draw(st.integers(1, 5)))
    ]


@settings(deadline=None)
@given(items())
def test_items_come_back_from_a_manifest(expected: list[Item]) -> None:
    assert list(Manifest.of(expected, Path("data")).items()) == expected


def test_parquet_round_trip(tmp_path: Path) -> None:
    expected = [
        Item("d/a", "a.mp4", "video", "d", 1, 1, 0, "m", "lip-sync", "anna", "s", "p", "val", "c23",
             (Segment(0.5, 1.25, "picture"),), "a.png", 2.5, 123),
        Item("d/ü", "ü.wav", "audio"),
    ]  # fmt: skip
    path = tmp_path / "deep" / "manifest.parquet"
    Manifest.of(expected, tmp_path / "media").write(path)
    read = Manifest.read(path)
    assert list(read.items()) == expected
    assert read.root == tmp_path / "media"
    assert read.table.schema.remove_metadata() == SCHEMA
    assert [entry.name for entry in path.parent.iterdir()] == ["manifest.parquet"]


def test_the_root_can_be_given_anew(tmp_path: Path) -> None:
    path = tmp_path / "manifest.parquet"
    Manifest.of(_items(1), tmp_path / "old").write(path)
    assert Manifest.read(path, tmp_path / "new").root == tmp_path / "new"
    pq.write_table(Manifest.of(_items(1), tmp_path).table, path)
    assert Manifest.read(path).root == tmp_path


def test_a_relative_root_is_stored_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Manifest.of(_items(1), Path("media")).write(Path("manifest.parquet"))
    assert Manifest.read(Path("manifest.parquet")).root == tmp_path / "media"


def test_a_missing_or_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "manifest.parquet"
    with pytest.raises(DataError, match=r"No manifest at .*mmdf manifest build --layout folders"):
        Manifest.read(path)
    path.write_bytes(b"PAR1 but not really")
    with pytest.raises(DataError, match="is not a Parquet manifest"):
        Manifest.read(path)


def test_a_read_manifest_is_checked_too(tmp_path: Path) -> None:
    path = tmp_path / "manifest.parquet"
    pq.write_table(pa.Table.from_pylist([ROW, ROW]), path)
    with pytest.raises(DataError, match="stands in two rows"):
        Manifest.read(path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"label": 2}, r"Row 1 has label '2'\. Known: 0, 1, or empty"),
        ({"label": "fake"}, r"Column 'label' should hold int8.*'fake'"),
        ({"label": 0.5}, r"Column 'label' should hold int8"),
        ({"video_label": -1}, r"video_label '-1'"),
        ({"audio_label": 300}, r"Column 'audio_label'"),
        ({"modality": "text"}, r"modality 'text'\. Known: image, audio, video"),
        ({"modality": None}, r"Column 'modality' has empty values"),
        ({"split": "dev"}, r"split 'dev'\. Known: train, val, test"),
        ({"family": "magic"}, r"family 'magic'\. Known: face-swap"),
        ({"item_id": None}, r"Column 'item_id' has empty values"),
        ({"path": ""}, r"Column 'path' has empty values"),
        ({"duration_s": "long"}, r"Column 'duration_s' should hold double"),
        ({"duration_s": -1.0}, r"Row 1 has duration_s -1\.0\. It is zero or more"),
        ({"duration_s": math.nan}, r"Row 1 has duration_s nan"),
        ({"size_bytes": -1}, r"Row 1 has size_bytes -1"),
        ({"fake_segments": [[0.0, 1.0]]}, r"Column 'fake_segments' should hold list"),
    ],
)
def test_bad_values_are_named(row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        _raw(row)


@pytest.mark.parametrize(
    ("start_s", "end_s", "stream"),
    [
        (1.0, 1.0, "sound"),
        (2.0, 1.0, "sound"),
        (-0.1, 1.0, "sound"),
        (math.nan, 1.0, "sound"),
        (0.0, math.inf, "sound"),
        (None, 1.0, "sound"),
        (0.0, None, "sound"),
        (0.0, 1.0, "video"),
        (0.0, 1.0, None),
    ],
)
def test_bad_segments_are_named(start_s: float | None, end_s: float | None, stream: str | None) -> None:
    segment = {"start_s": start_s, "end_s": end_s, "stream": stream}
    with pytest.raises(DataError, match=r"Item 'd/a\.wav' has the segment .*0 <= start_s < end_s"):
        _raw({"fake_segments": [segment]})


def test_the_row_in_the_message_is_the_row_of_the_table() -> None:
    with pytest.raises(DataError, match="Row 3 has label '7'"):
        _raw({"item_id": "a"}, {"item_id": "b"}, {"item_id": "c", "label": 7})


def test_an_id_stands_once() -> None:
    with pytest.raises(DataError, match="item_id 'b' stands in two rows"):
        _raw({"item_id": "a"}, {"item_id": "b"}, {"item_id": "b"})


def test_a_missing_column_comes_with_a_hint() -> None:
    table = pa.table({"item_id": ["a"], "paths": ["a.wav"], "modality": ["audio"]})
    with pytest.raises(DataError, match=r"lacks the column 'path'\. Did you mean 'paths'\? It has: item_id, paths"):
        validated(table, Path())


def test_no_rows() -> None:
    with pytest.raises(DataError, match="has no rows"):
        Manifest.of([], Path())


def test_other_columns_are_dropped_and_absent_ones_are_null() -> None:
    manifest = _raw({"colour": "red", "label": 1.0})
    assert manifest.table.schema == SCHEMA
    assert manifest.column("label") == [1]
    assert next(manifest.items()) == Item(**ROW, label=1)


def test_items_of_the_wrong_type() -> None:
    with pytest.raises(DataError, match="An item has a value of the wrong type"):
        Manifest.of([Item("a", "a.wav", "audio", label="fake")], Path())  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"not valid UTF-8: 'a\\udcff\.wav'"):
        Manifest.of([Item("a", "a\udcff.wav", "audio")], Path())


def test_labels_are_numbers_with_nan_for_unknown() -> None:
    manifest = _raw({"item_id": "a", "label": 1}, {"item_id": "b", "label": None}, {"item_id": "c", "label": 0})
    np.testing.assert_array_equal(manifest.labels(), [1, np.nan, 0])
    assert manifest.labels("video_label").dtype == np.float64


def test_take_by_number_and_by_mask() -> None:
    manifest = Manifest.of(_items(4), Path("data"))
    assert manifest.take(np.array([3, 0])).column("item_id") == ["d/3", "d/0"]
    assert manifest.take(np.array([False, True, False, True])).column("item_id") == ["d/1", "d/3"]
    assert len(manifest.take(np.zeros(4, bool))) == 0
    assert manifest.take(np.array([0])).root == Path("data")


def test_splits_are_chosen_and_replaced() -> None:
    manifest = Manifest.of(_items(4), Path())
    assert manifest.split("train").column("item_id") == ["d/0", "d/3"]
    assert manifest.with_splits(["test", None, "val", "val"]).column("split") == ["test", None, "val", "val"]


def test_a_required_split_is_there_or_named() -> None:
    manifest = Manifest.of(_items(2), Path())
    assert manifest.require_split(None) is manifest
    assert manifest.require_split("val").column("item_id") == ["d/1"]
    with pytest.raises(UsageError, match=r"Unknown split 'tst'\. Did you mean 'test'"):
        manifest.require_split("tst")
    with pytest.raises(DataError, match=r"no items in split 'test'\. It has: train, val"):
        manifest.require_split("test")


@pytest.mark.parametrize(
    "path", ["../secret.wav", "a/../../secret.wav", "/etc/hostname", "link.wav", "folder/secret.wav"]
)
def test_paths_that_leave_the_root_are_refused(tmp_path: Path, path: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.wav").touch()
    (root / "link.wav").symlink_to(tmp_path / "secret.wav")
    (root / "folder").symlink_to(tmp_path)
    manifest = Manifest.of([Item("a", path, "audio")], root)
    with pytest.raises(DataError, match=f"'{path}' points outside of the root"):
        manifest.file(next(manifest.items()))


def test_an_absolute_path_is_refused_even_below_the_root(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="points outside"):
        inside(tmp_path, str(tmp_path / "a.wav"))


def test_paths_inside_of_the_root_are_found(tmp_path: Path) -> None:
    root = tmp_path / "link"
    (tmp_path / "root" / "b").mkdir(parents=True)
    root.symlink_to(tmp_path / "root")
    assert inside(root, "b/../b/a.wav") == (tmp_path / "root" / "b" / "a.wav").resolve()
