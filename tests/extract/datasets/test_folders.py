"""The layout `folders`: what a path says, what is skipped, what is refused."""

import logging
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmdf.cache.errors import DataError, UsageError
from mmdf.cache.manifest import Item
from mmdf.extract.datasets import layouts
from mmdf.extract.datasets.build import build_manifest
from mmdf.extract.datasets.folders import build
from mmdf.extract.datasets.words import CLASS_WORDS, EXTENSIONS, SPLIT_WORDS


def _plant(root: Path, *paths: str) -> Path:
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"12345")
    return root


def _only(root: Path, path: str) -> Item:
    return next(build(_plant(root, path)).items())


@pytest.mark.parametrize(
    ("path", "label", "split", "method", "identity"),
    [
        ("real/a.jpg", 0, None, None, None),
        ("REAL/anna/a.jpg", 0, None, None, "anna"),
        ("fake/a.jpg", 1, None, None, None),
        ("fake/gan/a.jpg", 1, None, "gan", None),
        ("fake/gan/anna/a.jpg", 1, None, "gan", "anna"),
        ("fake/gan/anna/deep/deeper/a.jpg", 1, None, "gan", "anna"),
        ("train/fake/gan/a.jpg", 1, "train", "gan", None),
        ("fake/Training/gan/anna/a.jpg", 1, "train", "gan", "anna"),
        ("Validation/real/anna/a.jpg", 0, "val", None, "anna"),
        ("eval/spoof/A01/a.flac", 1, "test", "A01", None),
        ("bona-fide/dev/a.flac", 0, "val", None, None),
        ("sd14/train/ai/a.png", 1, "train", None, None),
        ("test/car/0_real/a.png", 0, "test", None, None),
        ("test/car/1_fake/a.png", 1, "test", None, None),
        ("real/fake/a.jpg", 0, None, None, "fake"),
        ("fake/gan/test/a.jpg", 1, None, "gan", "test"),
    ],
)
def test_folders_of_a_path(
    tmp_path: Path, path: str, label: int, split: str | None, method: str | None, identity: str | None
) -> None:
    item = _only(tmp_path / "set", path)
    assert (item.label, item.split, item.method, item.identity) == (label, split, method, identity)
    assert (item.item_id, item.path, item.dataset, item.size_bytes) == (f"set/{path}", path, "set", 5)


@pytest.mark.parametrize("extension", [e for extensions in EXTENSIONS.values() for e in extensions])
def test_extension_decides_the_modality(tmp_path: Path, extension: str) -> None:
    item = _only(tmp_path, f"real/a.{extension.upper()}")
    assert extension in EXTENSIONS[item.modality]


def test_dataset_names_the_items(tmp_path: Path) -> None:
    assert build(_plant(tmp_path, "real/a.jpg"), "mine").column("item_id") == ["mine/real/a.jpg"]


def test_hidden_and_foreign_files_are_skipped_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _plant(tmp_path, "real/a.jpg", "real/.b.jpg", ".git/real/c.jpg", "real/notes.txt", "real/README", "extra/d.jpg")
    with caplog.at_level(logging.INFO):
        manifest = build(tmp_path)
    assert manifest.column("path") == ["real/a.jpg"]
    assert "skipped 2 hidden files or folders" in caplog.messages
    assert "skipped 2 files of other types" in caplog.messages
    assert "skipped 1 media outside of a class folder" in caplog.messages


def test_no_class_folder_names_what_is_there_and_what_would_do(tmp_path: Path) -> None:
    _plant(tmp_path, "cats/a.jpg", "dogs/b.jpg")
    with pytest.raises(DataError, match=r"Folders at the top: cats, dogs\. Recognised: real, .*spoof"):
        build(tmp_path)


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no media \(found: nothing\).*mp4"):
        build(tmp_path)
    with pytest.raises(DataError, match="1 files of other types"):
        build(_plant(tmp_path, "real/a.txt"))


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        build(_plant(tmp_path, "a.jpg") / "a.jpg")


def test_two_splits_in_one_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train/real/test/a\.jpg.*train and test"):
        build(_plant(tmp_path, "train/real/test/a.jpg"))


@pytest.mark.parametrize("link", ["file", "folder"])
def test_links_that_leave_the_root_are_refused(tmp_path: Path, link: str) -> None:
    outside = _plant(tmp_path / "outside", "secret.jpg")
    root = _plant(tmp_path / "root", "real/a.jpg")
    (root / "real" / "b.jpg").symlink_to(outside / "secret.jpg" if link == "file" else outside)
    with pytest.raises(DataError, match=r"real/b\.jpg' points outside"):
        build(root)


def test_links_inside_of_the_root(tmp_path: Path) -> None:
    root = _plant(tmp_path, "real/a.jpg")
    (root / "real" / "b.jpg").symlink_to(root / "real" / "a.jpg")
    (root / "real" / "loop").symlink_to(root)
    (root / "real" / "gone.jpg").symlink_to(root / "nowhere.jpg")
    manifest = build(root)
    assert manifest.column("path") == ["real/a.jpg", "real/b.jpg"]
    assert manifest.column("size_bytes") == [5, 5]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    split=st.sampled_from([None, *SPLIT_WORDS]),
    word=st.sampled_from(sorted(CLASS_WORDS)),
    below=st.lists(st.sampled_from(["m1", "anna", "x-y_z"]), max_size=3),
    split_first=st.booleans(),
)
def test_any_path_is_read_as_documented(
    tmp_path_factory: pytest.TempPathFactory, split: str | None, word: str, below: list[str], split_first: bool
) -> None:
    head = [word] if split is None else [split, word] if split_first else [word, split]
    item = _only(tmp_path_factory.mktemp("set"), "/".join([*head, *below, "a.wav"]))
    named = [*below, None, None]
    expected = (named[0], named[1]) if CLASS_WORDS[word] else (None, named[0])
    assert (item.method, item.identity) == expected
    assert item.split == (split and SPLIT_WORDS[split])


def test_build_makes_splits_where_there_are_none(tmp_path: Path) -> None:
    _plant(tmp_path, *(f"{word}/{k}.jpg" for word in ("real", "fake") for k in range(20)))
    first = build_manifest("folders", tmp_path, seed=3)
    assert first.column("split") == build_manifest("folders", tmp_path, seed=3).column("split")
    assert first.column("split") != build_manifest("folders", tmp_path, seed=4).column("split")
    assert set(first.column("split")) == {"train", "val", "test"}


def test_build_keeps_given_splits_unless_told_otherwise(tmp_path: Path) -> None:
    _plant(tmp_path, *(f"{split}/real/{k}.jpg" for split in ("train", "val", "test") for k in range(5)))
    kept = build_manifest("folders", tmp_path)
    assert all(item.split == item.path.split("/")[0] for item in kept.items())
    assert build_manifest("folders", tmp_path, resplit=True).column("split") != kept.column("split")


def test_build_refuses_half_given_splits(tmp_path: Path) -> None:
    _plant(tmp_path, "train/real/a.jpg", "fake/b.jpg")
    with pytest.raises(DataError, match=r"1 of 2 items have no split, item '.*fake/b\.jpg'"):
        build_manifest("folders", tmp_path)


def test_build_refuses_a_person_in_two_splits(tmp_path: Path) -> None:
    _plant(tmp_path, "train/real/anna/a.jpg", "test/real/anna/b.jpg")
    with pytest.raises(DataError, match="'anna' in train and test"):
        build_manifest("folders", tmp_path)


def test_unknown_layouts_and_options(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean 'folders'"):
        build_manifest("folder", tmp_path)
    with pytest.raises(UsageError, match="'folders' takes no option 'table'"):
        build_manifest("folders", tmp_path, table="x.csv")
    assert sorted(layouts) == ["folders", "table"]
