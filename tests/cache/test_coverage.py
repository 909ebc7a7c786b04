"""coverage: what is counted, what is missing of a manifest, and who ran last."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmdf.cache.compact import compact
from mmdf.cache.coverage import by_stream, coverage
from mmdf.cache.errors import CacheError
from mmdf.cache.ledger import Failure, Seen
from mmdf.cache.manifest import Item, Manifest
from mmdf.cache.spec import FeatureSpec
from mmdf.cache.store import FeatureStore

DIM = 3
SPEC = FeatureSpec("toy", "frame", "picture", DIM, None, "ab" * 32, "last", "mean", "none", "float32", "float16")
SPEECH = replace(SPEC, backbone="voice", view="speech", stream="sound")
AUGMENTED = replace(SPEC, variant="aug1", sampling={"augment": {"index": 1}})
MODALITIES = {"a": "image", "b": "video", "c": "audio", "d": "video"}
ITEMS = Manifest.of(
    [Item(n, f"{n}.x", m, split="train" if n in "ab" else "test") for n, m in MODALITIES.items()], Path("/data")
)


def key(name: str) -> bytes:
    return name.encode() * 16


def add(store: FeatureStore, names: str, run_id: str, spec: FeatureSpec = SPEC, absent: str = "") -> None:
    writer = store.writer(spec, run_id)
    for name in names:
        writer.add(key(name), np.ones((2, DIM)), np.arange(2.0))
    for name in absent:
        writer.absent(key(name), "no face")
    writer.commit()


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    found = FeatureStore.open(tmp_path / "store", create=True)
    found.ledger.add_samples([Seen(name, 1, 1, key(name)) for name in "abc"])
    add(found, "a", "run-1")
    add(found, "ax", "run-2", absent="b")
    add(found, "b", "run-3", SPEECH)
    found.writer(AUGMENTED, "run-4")
    return found


def test_samples_steps_and_bytes_are_counted_once(store: FeatureStore) -> None:
    one = next(f for f in coverage(store).features if f.name == "toy/frame")
    assert (one.n_samples, one.n_absent, one.n_steps, one.n_parts, one.dim) == (2, 1, 4, 2, DIM)
    assert one.bytes_ == 4 * DIM * 2
    assert (one.fingerprint, one.weights_digest, one.compute_dtype) == (SPEC.fingerprint, "ab" * 32, "float32")
    assert (one.n_wanted, one.missing, one.n_failed) == (None, (), 0)


def test_what_a_manifest_lacks_is_told_by_feature(store: FeatureStore) -> None:
    store.ledger.add_failures([Failure(key("d"), "d", "d.x", SPEC.fingerprint, "decode", "MediaError", "cut")], "run-2")
    store.ledger.add_failures([Failure(key("a"), "a", "a.x", SPEC.fingerprint, "decode", "MediaError", "cut")], "run-0")
    found = coverage(store, ITEMS)
    told = {f.name: (f.n_wanted, f.missing, f.n_failed) for f in found.features}
    # c is a recording and d was never seen; a failed once and is there now; of augmented views only train items count.
    assert told == {
        "toy/frame": (3, ("d",), 1),
        "toy/frame+aug1": (2, ("a", "b"), 0),
        "voice/speech": (3, ("c", "d"), 0),
    }
    assert not found.is_complete
    assert "1 of 3" in found.to_text()
    assert "1 of the missing failed before" in found.to_text()
    rows = json.loads(json.dumps(found.to_dict()))["features"]
    assert (rows[0]["missing"], rows[0]["n_missing"]) == (["d"], 1)


def test_what_is_wanted_can_be_said(store: FeatureStore) -> None:
    found = coverage(
        store, ITEMS, lambda spec, modality, split: modality == "image" and by_stream(spec, modality, split)
    )
    assert [f.n_wanted for f in found.features] == [1, 1, 0]


def test_the_last_run_is_the_one_that_committed_last(store: FeatureStore) -> None:
    runs = {f.name: f.last_run for f in coverage(store).features}
    assert runs == {"toy/frame": "run-2", "toy/frame+aug1": "", "voice/speech": "run-3"}
    commits = {f.name: f.last_commit for f in coverage(store).features}
    assert commits["toy/frame+aug1"] == ""
    assert commits["toy/frame"].endswith("Z")
    compact(store, SPEC)
    assert next(f for f in coverage(store).features if f.name == "toy/frame").last_run == "run-2"


def test_a_long_list_of_missing_items_is_cut_in_json(store: FeatureStore) -> None:
    many = Manifest.of([Item(str(n), "x.png", "image") for n in range(150)], Path("/data"))
    row = coverage(store, many).to_dict()["features"][0]
    assert (len(row["missing"]), row["n_missing"]) == (100, 150)


def test_an_empty_store_is_complete(tmp_path: Path) -> None:
    found = coverage(FeatureStore.open(tmp_path / "store", create=True), ITEMS)
    assert found.is_complete
    assert found.to_text().startswith("feature")


def test_a_damaged_record_is_told(store: FeatureStore) -> None:
    next((store.root / "index" / SPEC.fingerprint).iterdir()).write_bytes(b"PAR1")
    with pytest.raises(CacheError, match="is damaged"):
        coverage(store)
