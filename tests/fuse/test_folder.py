"""The detector folder: whole or not at all, replaced only by a detector, and checked byte for byte."""

import json
from pathlib import Path

import pytest

from mmdf.cache.errors import CacheError, UsageError
from mmdf.fuse import folder as module
from mmdf.fuse.folder import model_card, read_folder, write_folder


@pytest.fixture
def document() -> dict:
    return {
        "mmdf": "0.0",
        "head": {"name": "probe", "config": {}},
        "features": [{"backbone": "clip", "view": "frame", "stream": "picture"}],
        "threshold": 0.25,
        "threshold_from": "equal error on 2 real and 3 fake validation items",
        "record": {
            "datasets": ["toy"],
            "seed": 7,
            "items": {"val": {"real": 2, "fake": 3}},
            "validation": {"auc": 0.875, "false_alarm_rate": 0.5, "miss_rate": 1 / 3},
        },
    }


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_is_written_is_read(document, tmp_path: Path) -> None:
    write_folder(tmp_path / "deep" / "detector", document, b"weights")
    found, weights = read_folder(tmp_path / "deep" / "detector")
    assert weights == b"weights"
    assert {name: found[name] for name in document} == document
    assert names(tmp_path / "deep") == {"detector"}


def test_an_older_detector_and_an_empty_folder_are_replaced(document, tmp_path: Path) -> None:
    target = tmp_path / "detector"
    target.mkdir()
    write_folder(target, document, b"one")
    (target / "left-over.txt").write_text("from before")
    write_folder(target, document, b"two")
    assert read_folder(target)[1] == b"two"
    assert names(target) == {"detector.json", "head.safetensors", "README.md"}
    assert names(tmp_path) == {"detector"}


@pytest.mark.parametrize("content", [None, "no json", "[]", '{"format": "mmdf-store"}'])
def test_what_is_no_detector_is_left_alone(content: str | None, document, tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.mkdir()
    (target / "photo.jpg").write_bytes(b"photo")
    if content is not None:
        (target / "detector.json").write_text(content)
    before = names(target)
    with pytest.raises(UsageError, match=r"is not a detector, so it is left alone.*-o another folder"):
        write_folder(target, document, b"weights")
    assert names(target) == before
    assert names(tmp_path) == {"precious"}


def test_a_file_is_no_folder_to_replace(document, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(UsageError, match="is not a detector"):
        write_folder(tmp_path / "notes", document, b"weights")
    assert (tmp_path / "notes").read_text() == "mine"


def test_a_failure_in_the_middle_leaves_the_older_detector(document, tmp_path: Path, monkeypatch) -> None:
    target = tmp_path / "detector"
    write_folder(target, document, b"one")

    def full(path: Path) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(module, "sync_tree", full)
    with pytest.raises(OSError, match="no space"):
        write_folder(target, document, b"two")
    assert read_folder(target)[1] == b"one"
    assert names(tmp_path) == {"detector"}


def test_a_failure_between_the_renames_brings_the_older_detector_back(document, tmp_path: Path, monkeypatch) -> None:
    target = tmp_path / "detector"
    write_folder(target, document, b"one")
    rename = Path.rename

    def fail_for_new(path: Path, to: Path) -> Path:
        if path.suffix == ".new":
            raise OSError("interrupted")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", fail_for_new)
    with pytest.raises(OSError, match="interrupted"):
        write_folder(target, document, b"two")
    assert read_folder(target)[1] == b"one"
    assert names(tmp_path) == {"detector"}


def test_numbers_that_json_does_not_know_are_never_written(document, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        write_folder(tmp_path / "detector", document | {"threshold": float("nan")}, b"weights")
    assert names(tmp_path) == set()


def test_a_flipped_bit_in_the_weights_is_found(document, tmp_path: Path) -> None:
    write_folder(tmp_path, document, b"weights")
    (tmp_path / "head.safetensors").write_bytes(b"weighty")
    with pytest.raises(CacheError, match=r"checksum.*Copy it again"):
        read_folder(tmp_path)


@pytest.mark.parametrize("name", ["head.safetensors", "detector.json"])
def test_a_missing_file_is_named_with_what_to_do(name: str, document, tmp_path: Path) -> None:
    write_folder(tmp_path, document, b"weights")
    (tmp_path / name).unlink()
    with pytest.raises(CacheError, match="mmdf train"):
        read_folder(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": "mmdf-detector", "version": "one"}', "\udcff"])
def test_a_document_that_cannot_be_read_is_damage(text: str, document, tmp_path: Path) -> None:
    write_folder(tmp_path, document, b"weights")
    (tmp_path / "detector.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(CacheError, match="is damaged"):
        read_folder(tmp_path)


@pytest.mark.parametrize("change", [{"version": 2}, {"format": "mmdf-other"}])
def test_another_format_asks_for_an_upgrade(change: dict, document, tmp_path: Path) -> None:
    write_folder(tmp_path, document, b"weights")
    path = tmp_path / "detector.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CacheError, match=r"reads mmdf-detector up to 1\. Upgrade mmdf"):
        read_folder(tmp_path)


def test_the_card_tells_what_it_is_how_good_and_what_not_to_do(document) -> None:
    card = model_card(document)
    for part in ("`clip/frame` (picture)", "toy (val: 2 real, 3 fake), seed 7", "0.875", "50.0%", "33.3%", "## Limits"):
        assert part in card
