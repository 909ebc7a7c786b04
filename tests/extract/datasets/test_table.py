"""The layout `table`: file types, other names of columns and classes, and errors that name the row."""

import json
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmdf.cache.errors import DataError, UsageError
from mmdf.cache.manifest import Item, Segment
from mmdf.cache.splits import check_overlap, split_counts
from mmdf.extract.datasets.build import build_manifest
from mmdf.extract.datasets.table import ALIASES, build
from mmdf.extract.datasets.words import CLASS_WORDS, SPLIT_WORDS

SHARED = Path(__file__).parents[4] / "shared" / "data"


def _csv(root: Path, text: str, name: str = "meta.csv", files: tuple[str, ...] = ("a.wav", "b.wav")) -> Path:
    for file in files:
        (root / file).write_bytes(b"123")
    (root / name).write_text(text, encoding="utf-8")
    return root


def _first(root: Path, text: str, **options: Any) -> Item:
    return next(build(_csv(root, text), **options).items())


def test_a_plain_table(tmp_path: Path) -> None:
    root = tmp_path / "corpus"
    root.mkdir()
    items = list(
        build(
            _csv(
                root,
                "path,label,method,family,identity,source,pair_key,split,duration_s\n"
                "a.wav,bonafide,,,007,,p,dev,1.5\n./b.wav,spoof,wavenet,tts,008,a,p,eval,\n",
            )
        ).items()
    )
    assert items[0] == Item(
        item_id="corpus/a.wav",
        path="a.wav",
        modality="audio",
        dataset="corpus",
        label=0,
        identity="007",
        pair_key="p",
        split="val",
        duration_s=1.5,
        size_bytes=3,
    )
    assert (items[1].path, items[1].family, items[1].split, items[1].duration_s) == ("b.wav", "tts", "test", None)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_all_file_types_say_the_same(tmp_path: Path, suffix: str) -> None:
    rows = [
        {"path": "a.wav", "label": 0, "identity": "7", "fake_segments": None},
        {"path": "b.wav", "label": 1, "identity": None, "fake_segments": [[0.5, 1.0]]},
    ]
    _csv(tmp_path, 'path,label,identity,fake_segments\na.wav,0,7,\nb.wav,1,,"[[0.5, 1.0]]"\n', "t.csv")
    (tmp_path / "t.jsonl").write_text("\n\n".join(json.dumps(row) for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    manifest = build(tmp_path / f"t.{suffix}", "d")
    assert manifest.root == tmp_path
    assert manifest.column("label") == [0, 1]
    assert manifest.column("identity") == ["7", None]
    assert manifest.column("fake_segments") == [[], [{"start_s": 0.5, "end_s": 1.0, "stream": "sound"}]]


def test_a_byte_order_mark_and_blanks_do_no_harm(tmp_path: Path) -> None:
    item = _first(tmp_path, "\ufeffPath , Label\n a.wav , Fake \n")
    assert (item.path, item.label) == ("a.wav", 1)


@pytest.mark.parametrize(("target", "alias"), [(t, a) for t, aliases in ALIASES.items() for a in aliases])
def test_other_names_of_columns(tmp_path: Path, target: str, alias: str) -> None:
    values = {"path": "a.wav", "label": "1", "identity": "anna", "source": "s", "method": "m", "split": "test"}
    renamed = {alias if name == target else name: value for name, value in values.items()}
    item = _first(tmp_path, f"{','.join(renamed)}\n{','.join(renamed.values())}\n")
    expected = 1 if target == "label" else values[target]
    assert getattr(item, target) == expected


def test_a_columns_own_name_goes_first(tmp_path: Path) -> None:
    assert _first(tmp_path, "id,identity,file,path\n1,anna,b.wav,a.wav\n").identity == "anna"


@pytest.mark.parametrize("word", sorted(CLASS_WORDS))
def test_class_words(tmp_path: Path, word: str) -> None:
    item = _first(tmp_path, f"path,label,video_label,audio_label\na.wav,{word.upper()},{word},{word}\n")
    assert (item.label, item.video_label, item.audio_label) == (CLASS_WORDS[word],) * 3


@pytest.mark.parametrize("word", sorted(SPLIT_WORDS))
def test_split_words(tmp_path: Path, word: str) -> None:
    assert _first(tmp_path, f"path,split\na.wav,{word.title()}\n").split == SPLIT_WORDS[word]


@pytest.mark.parametrize(
    ("column", "value", "fake_is", "label"),
    [
        ("label", "1", 1, 1),
        ("label", "0.0", 1, 0),
        ("label", "1", 0, 0),
        ("label", "0", 0, 1),
        ("y", "0", 0, 1),
        ("is_fake", "1", 0, 1),
        ("is_fake", "True", 1, 1),
        ("is_fake", "false", 1, 0),
        ("label", "spoof", 0, 1),
    ],
)
def test_numbers_and_truth(tmp_path: Path, column: str, value: str, fake_is: int, label: int) -> None:
    assert _first(tmp_path, f"path,{column}\na.wav,{value}\n", fake_is=fake_is).label == label


def test_fake_is_another_number(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="fake_is is '2'"):
        _first(tmp_path, "path,label\na.wav,1\n", fake_is=2)


@pytest.mark.parametrize("typed", [True, False])
def test_a_typed_boolean_is_as_ambiguous_as_a_word(tmp_path: Path, typed: bool) -> None:
    _csv(tmp_path, json.dumps({"path": "a.wav", "label": typed}), "meta.jsonl")
    with pytest.raises(DataError, match=r"Row 1, column 'label'.*real or fake"):
        build(tmp_path, table="meta.jsonl")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na.wav,real\nb.wav,maybe\n", r"Row 2, column 'label': cannot read 'maybe'\. Known: real, .*spoof"),
        ("path,label\na.wav,true\n", r"Row 1, column 'label': cannot read 'true'.*call the column 'is_fake'"),
        ("path,label\na.wav,2\n", r"Row 1, column 'label': cannot read '2'"),
        ("path,is_fake\na.wav,spoof\n", r"column 'is_fake': cannot read 'spoof'\. Known: true"),
        ("path,split\na.wav,hidden\n", r"Row 1, column 'split': cannot read 'hidden'\. Known: train"),
        ("path,duration_s\na.wav,long\n", r"Row 1, column 'duration_s': cannot read 'long'"),
        ("path,duration_s\na.wav,inf\n", r"column 'duration_s': cannot read 'inf'"),
        ("path,family\na.wav,magic\n", r"family 'magic'"),
        ("path,modality\na.wav,smell\n", r"modality 'smell'"),
        ("pth,label\na.wav,real\n", r"lacks the column 'path'\. Did you mean 'pth'\?"),
        ("path,label\na.wav,real,extra\n", r"Row 1 of .* more values than there are columns"),
        ("path,label\n,real\n", r"Row 1 has no path"),
        ("path,label\na.xyz,real\n", r"Row 1: the type of 'a.xyz' is not known"),
        ("path,label\n", r"has no rows"),
        ("path\na.wav\na.wav\n", r"stands in two rows"),
        ("path\n../a.wav\n", r"'\.\./a\.wav' points outside"),
        ("path\n/etc/passwd.wav\n", r"points outside"),
        ("path,mask_path\na.wav,../m.png\n", r"'\.\./m\.png' points outside"),
        ('path,fake_segments\na.wav,"[[1]]"\n', r"Row 1, column 'fake_segments'.*JSON list"),
        ('path,fake_segments\na.wav,"[[0,1,""sound"",4]]"\n', r"column 'fake_segments'"),
        ("path,fake_segments\na.wav,soon\n", r"column 'fake_segments'"),
        ("path,fake_segments\na.wav,3\n", r"column 'fake_segments'"),
        ('path,fake_segments\na.wav,"[[2, 1]]"\n', r"0 <= start_s < end_s"),
    ],
)
def test_errors_name_the_place_and_the_remedy(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        build(_csv(tmp_path, text))


@pytest.mark.parametrize(
    ("columns", "value", "expected"),
    [
        ({}, "[[0, 1.5]]", [("picture", 0, 1.5)]),
        ({"audio_label": "fake"}, "[[0, 1]]", [("sound", 0, 1)]),
        ({"video_label": "1", "audio_label": "1"}, "[[0, 1]]", [("picture", 0, 1), ("sound", 0, 1)]),
        ({"video_label": "1"}, '[[0, 1, "sound"]]', [("sound", 0, 1)]),
        ({}, '[{"start_s": 1, "end_s": 2, "stream": "sound"}, [3, 4]]', [("sound", 1, 2), ("picture", 3, 4)]),
        ({}, "[]", []),
    ],
)
def test_segments(
    tmp_path: Path, columns: dict[str, str], value: str, expected: list[tuple[str, float, float]]
) -> None:
    (tmp_path / "v.mp4").touch()
    (tmp_path / "meta.jsonl").write_text(json.dumps({"path": "v.mp4", "fake_segments": value, **columns}))
    item = next(build(tmp_path / "meta.jsonl").items())
    assert item.fake_segments == tuple(Segment(start_s, end_s, stream) for stream, start_s, end_s in expected)


@pytest.mark.parametrize(
    ("video", "audio", "label"), [("fake", "", 1), ("real", "fake", 1), ("real", "real", 0), ("real", "", None)]
)
def test_a_missing_label_follows_from_the_streams(tmp_path: Path, video: str, audio: str, label: int | None) -> None:
    assert _first(tmp_path, f"path,video_label,audio_label\na.wav,{video},{audio}\n").label == label


def test_people_who_are_unknown_are_not_one_person(tmp_path: Path) -> None:
    files = ("a.wav", "b.wav", "c.wav", "d.wav")
    text = "path,identity\na.wav,nan\nb.wav,corpus:nan\nc.wav,Unknown\nd.wav,corpus:nancy\n"
    assert build(_csv(tmp_path, text, files=files)).column("identity") == [None, None, None, "corpus:nancy"]


def test_ids_that_pandas_made_floats_of(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    rows = [{"path": "a.wav", "identity": 12.0, "method": float("nan")}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "manifest.parquet")
    item = next(build(tmp_path).items())
    assert (item.identity, item.method) == ("12", None)


def test_two_datasets_in_one_table(tmp_path: Path) -> None:
    manifest = build(_csv(tmp_path, "path,dataset\na.wav,first\nb.wav,\n"), "other")
    assert manifest.column("item_id") == ["first/a.wav", "other/b.wav"]


def test_missing_files_are_listed_or_dropped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _csv(tmp_path, "path\na.wav\n" + "".join(f"gone{k}.wav\n" for k in range(7)))
    with pytest.raises(DataError, match=r"7 of 8 files are missing .*gone0\.wav, .*gone4\.wav …\. .*--allow-missing"):
        build(tmp_path)
    with caplog.at_level(logging.INFO):
        assert build(tmp_path, allow_missing=True).column("path") == ["a.wav"]
    assert any("dropped 7 of 8 rows" in message for message in caplog.messages)


def test_nothing_left_is_an_error_even_when_files_may_miss(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 of 1 files are missing"):
        build(_csv(tmp_path, "path\ngone.wav\n"), allow_missing=True)


def test_a_link_that_leaves_the_root_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.wav").touch()
    (root / "link.wav").symlink_to(tmp_path / "secret.wav")
    with pytest.raises(DataError, match=r"'link\.wav' points outside"):
        build(_csv(root, "path\nlink.wav\n"))


def test_paths_are_relative_to_the_root_not_to_a_table_below_it(tmp_path: Path) -> None:
    (tmp_path / "protocols").mkdir()
    _csv(tmp_path, "file,y\na.wav,1\n", "protocols/eval.csv")
    manifest = build(tmp_path, table="protocols/eval.csv")
    assert manifest.root == tmp_path
    assert manifest.column("path") == ["a.wav"]


def test_finding_the_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"should hold one table, found: none\. Name one of: meta\.csv"):
        build(tmp_path)
    _csv(tmp_path, "path\na.wav\n")
    _csv(tmp_path, "path\nb.wav\n", "metadata.csv")
    _csv(tmp_path, "path\nb.wav\n", "other.txt")
    with pytest.raises(DataError, match=r"found: meta\.csv, metadata\.csv"):
        build(tmp_path)
    assert build(tmp_path, table="metadata.csv").column("path") == ["b.wav"]
    with pytest.raises(DataError, match=r"No table 'metdata\.csv'.* Did you mean 'metadata\.csv'"):
        build(tmp_path, table="metdata.csv")
    with pytest.raises(DataError, match=r"other\.txt is not a table"):
        build(tmp_path, table="other.txt")
    with pytest.raises(DataError, match="does not exist"):
        build(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.jsonl", b'{"path": "a.wav"}\n{"path":\n', "Line 2 of .* is not JSON"),
        ("t.jsonl", b"[1]\n", "Line 1 of .* is not a JSON object"),
        ("t.parquet", b"no parquet", "cannot be read as .parquet"),
        ("t.csv", b"path\n\xff.wav\n", "cannot be read as .csv"),
    ],
)
def test_damaged_tables(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        build(tmp_path / name)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="shared/data is not here")
@pytest.mark.parametrize(("name", "n_items"), [("digits", 1320), ("faces", 600), ("speech", 635), ("video", 58)])
def test_the_real_tables_read(name: str, n_items: int) -> None:
    manifest = build_manifest("table", SHARED / name)
    assert len(manifest) == n_items
    assert None not in manifest.column("label")
    check_overlap(manifest)
    assert all(counts["real"] and counts["fake"] for counts in split_counts(manifest).values())
