"""The ledger: later sightings win, failures are rows, and a damaged record is named."""

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdf.cache.errors import CacheError
from mmdf.cache.ledger import Failure, Ledger, Samples, Seen, sample_key

OLD, NEW = b"o" * 16, b"n" * 16


def failure(message: str, key: bytes | None = OLD) -> Failure:
    return Failure(key, "a", "a.mp4", "f" * 32, "decode", "MediaError", message)


def test_a_ledger_that_holds_nothing_is_empty(tmp_path: Path) -> None:
    assert Ledger(tmp_path).samples().latest == {}
    assert Ledger(tmp_path).failures().num_rows == 0


def test_a_later_sighting_wins(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.add_samples([Seen("a", 10, 1, OLD), Seen("b", 10, 1, OLD)])
    ledger.add_samples([Seen("a", 20, 2, NEW)])
    assert ledger.samples().latest == {"a": Seen("a", 20, 2, NEW), "b": Seen("b", 10, 1, OLD)}


def test_of_two_sightings_in_one_commit_the_later_wins(tmp_path: Path) -> None:
    Ledger(tmp_path).add_samples([Seen("a", 10, 1, OLD), Seen("a", 20, 2, NEW)])
    assert Ledger(tmp_path).samples().latest["a"].sample_key == NEW


def test_a_size_that_differs_from_the_manifest_hides_the_key() -> None:
    samples = Samples({"a": Seen("a", 10, 1, OLD)})
    assert samples.key("a", None) == OLD
    assert samples.key("a", 10) == OLD
    assert samples.key("a", 11) is None
    assert samples.key("b", None) is None


def test_a_file_is_unchanged_only_if_size_and_time_are() -> None:
    samples = Samples({"a": Seen("a", 10, 1, OLD)})
    assert samples.unchanged("a", 10, 1) == OLD
    assert samples.unchanged("a", 10, 2) is None
    assert samples.unchanged("a", 11, 1) is None
    assert samples.unchanged("b", 10, 1) is None


def test_failures_keep_their_order_and_all_fields(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.add_failures([failure("first"), failure("second", None)], "run-1")
    ledger.add_failures([failure("third")], "run-2")
    rows = ledger.failures().to_pylist()
    assert [row["message"] for row in rows] == ["first", "second", "third"]
    assert [row["run_id"] for row in rows] == ["run-1", "run-1", "run-2"]
    assert [row["sample_key"] for row in rows] == [OLD, None, OLD]
    assert {rows[0][name] for name in ("item_id", "path", "fingerprint", "stage", "error")} == {
        "a",
        "a.mp4",
        "f" * 32,
        "decode",
        "MediaError",
    }


def test_a_message_is_cut_at_500_characters(tmp_path: Path) -> None:
    Ledger(tmp_path).add_failures([failure("é" * 501), failure("x" * 500)], "run")
    assert Ledger(tmp_path).failures().column("message").to_pylist() == ["é" * 500, "x" * 500]


def test_a_message_with_a_file_name_that_is_no_utf8_is_kept(tmp_path: Path) -> None:
    Ledger(tmp_path).add_failures([failure("bad \udcff.mp4")], "run")
    assert Ledger(tmp_path).failures().column("message").to_pylist() == ["bad \\udcff.mp4"]


def test_nothing_to_add_writes_nothing(tmp_path: Path) -> None:
    Ledger(tmp_path).add_samples([])
    Ledger(tmp_path).add_failures([], "run")
    assert list(tmp_path.iterdir()) == []


def test_a_commit_leaves_nothing_in_tmp(tmp_path: Path) -> None:
    Ledger(tmp_path).add_samples([Seen("a", 10, 1, OLD)])
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_run_is_readable_json(tmp_path: Path) -> None:
    path = Ledger(tmp_path).add_run("run-1", {"args": ["-b", "toy"], "root": Path("/data")})
    assert path == tmp_path / "runs" / "run-1.json"
    assert json.loads(path.read_text()) == {"args": ["-b", "toy"], "root": "/data"}


@pytest.mark.parametrize("name", ["samples", "failures"])
def test_a_damaged_record_is_named_with_the_remedy(tmp_path: Path, name: str) -> None:
    ledger = Ledger(tmp_path)
    ledger.add_samples([Seen("a", 10, 1, OLD)])
    ledger.add_failures([failure("first")], "run")
    path = next((tmp_path / name).iterdir())
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CacheError, match=r"Delete it and run `mmdf extract` again") as caught:
        getattr(ledger, name)()
    assert str(path) in str(caught.value)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(content=st.binary(max_size=300_000))
def test_the_key_of_a_sample_is_blake2b_128_of_its_bytes(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("key") / "file"
    path.write_bytes(content)
    assert sample_key(path) == hashlib.blake2b(content, digest_size=16).digest()
