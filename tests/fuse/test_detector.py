"""Detectors: what is saved comes back and scores the same; an item without a score says why; damage is named."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from mmdf.cache.errors import CacheError, UsageError
from mmdf.cache.ledger import Failure
from mmdf.cache.manifest import Item, Manifest
from mmdf.cache.scores import SCHEMA, ScoreTable
from mmdf.cache.store import FeatureStore
from mmdf.fuse.batches import load_features
from mmdf.fuse.calibrate import probability
from mmdf.fuse.detector import Detector
from mmdf.fuse.heads import heads
from mmdf.fuse.train import train

NAMES = ("probe", "early", "late")


@pytest.fixture(params=NAMES, scope="module")
def detector(request, separable_to_read) -> Detector:
    corpus = separable_to_read
    return train(request.param, corpus.store, corpus.manifest, seed=3, config={"epochs": 2})


@pytest.fixture(scope="module")
def probe(separable_to_read) -> Detector:
    return train("probe", separable_to_read.store, separable_to_read.manifest, config={"epochs": 2})


@pytest.fixture(scope="module")
def picture_probe(separable_to_read) -> Detector:
    corpus = separable_to_read
    return train("probe", corpus.store, corpus.manifest, ["toy-picture"], config={"epochs": 2})


@pytest.fixture
def patchy(make_corpus, noisy):
    """Four items to be scored: whole, without sound, without both, and never extracted."""
    picture, sound = noisy(np.zeros(4), 0, dim=8, seed=9), noisy(np.zeros(4), 0, dim=6, seed=8)
    features = {"toy-picture/frame": [*picture[:2], None, None], "toy-sound/speech": [sound[0], None, None, None]}
    corpus = make_corpus([0, 1, 0, 1], features, name="patchy")
    items = [*list(corpus.manifest.items())[:3], Item("stranger", "s.mp4", "video", "toy", 1)]
    return replace(corpus, manifest=Manifest.of(items, corpus.manifest.root))


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "detector.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_a_loaded_detector_is_the_one_that_was_saved(detector: Detector, separable_to_read, tmp_path: Path) -> None:
    detector.save(tmp_path / "detector")
    loaded = Detector.load(tmp_path / "detector")
    assert loaded.specs == detector.specs
    assert (loaded.head_name, loaded.config) == (detector.head_name, detector.config)
    assert (loaded.calibration, loaded.threshold) == (detector.calibration, detector.threshold)
    assert loaded.record == detector.record
    one, other = (d.predict(separable_to_read.store, separable_to_read.manifest) for d in (detector, loaded))
    assert one.table.equals(other.table)
    assert one.info == other.info


def test_the_folder_holds_json_safetensors_and_a_card_with_the_facts(detector: Detector, tmp_path: Path) -> None:
    detector.save(tmp_path / "detector")
    assert {p.name for p in (tmp_path / "detector").iterdir()} == {"detector.json", "head.safetensors", "README.md"}
    document = json.loads((tmp_path / "detector" / "detector.json").read_text())
    assert (document["format"], document["version"]) == ("mmdf-detector", 1)
    assert [f["fingerprint"] for f in document["features"]] == [spec.fingerprint for spec in detector.specs]
    assert document["record"]["training"]["epochs"] == 2
    assert set(safetensors.torch.load_file(tmp_path / "detector" / "head.safetensors")) == set(
        detector.head.state_dict()
    )
    card = (tmp_path / "detector" / "README.md").read_text()
    assert f"ROC-AUC on its own validation items: {detector.record['validation']['auc']:.3f}" in card
    assert "train: 120 real, 120 fake; val: 40 real, 40 fake" in card
    assert "Not for verdicts about people" in card


def test_a_score_table_has_every_column_and_says_who_scored(
    detector: Detector, separable_to_read, tmp_path: Path
) -> None:
    test = separable_to_read.manifest.split("test")
    table = detector.predict(separable_to_read.store, test)
    assert table.table.schema == SCHEMA
    for name in ("item_id", "dataset", "label", "method", "identity", "split"):
        assert table.column(name) == test.column(name)
    assert set(table.column("head")) == {detector.head_name}
    assert set(table.column("seed")) == {3}
    assert table.column("reason") == [None] * len(test)
    np.testing.assert_allclose(table.numbers("score"), probability(table.numbers("logit")), rtol=1e-12)
    assert {tuple(name for name, _ in row) for row in table.column("stream_scores")} == {
        ("toy-picture/frame", "toy-sound/speech")
    }
    assert dict(table.info) == {
        "detector": f"{detector.head_name} on toy-picture/frame + toy-sound/speech",
        "threshold": detector.threshold,
        "threshold_from": "equal error on 40 real and 40 fake validation items",
        "trained_on": "toy",
        "head": detector.head_name,
        "seed": 3,
    }
    table.write(tmp_path / "scores.parquet")
    assert ScoreTable.read(tmp_path / "scores.parquet").table.equals(table.table)


def test_the_head_column_can_be_called_otherwise(probe: Detector, separable_to_read) -> None:
    table = probe.predict(separable_to_read.store, separable_to_read.manifest.split("test"), head_name_label="probe-b")
    assert set(table.column("head")) == {"probe-b"}


def test_items_that_cannot_be_scored_keep_their_row_and_say_why(detector: Detector, patchy) -> None:
    broken = detector.specs[1].fingerprint
    failure = Failure(None, "stranger", "s.mp4", broken, "decode", "MediaError", "the file ends early")
    patchy.store.ledger.add_failures([failure], "run")
    table = detector.predict(patchy.store, patchy.manifest)
    assert table.column("item_id") == ["item0", "item1", "item2", "stranger"]
    assert np.isfinite(table.numbers("score")).tolist() == [True, True, False, False]
    assert np.isfinite(table.numbers("logit")).tolist() == [True, True, False, False]
    assert [[name for name, _ in row] for row in table.column("stream_scores")] == [
        ["toy-picture/frame", "toy-sound/speech"],
        ["toy-picture/frame"],
        [],
        [],
    ]
    assert table.column("reason") == [
        None,
        None,
        "the file has no picture; the file has no sound",
        "no embeddings of toy-picture/frame: run mmdf extract; toy-sound/speech failed in decode: the file ends early",
    ]


def test_stream_scores_are_calibrated_once(detector: Detector, patchy) -> None:
    """Item 1 has pictures alone: its stream is the whole item, save in late fusion, which calibrates its streams."""
    table = detector.predict(patchy.store, patchy.manifest)
    name, found = table.column("stream_scores")[1][0]
    expected = table.numbers("score")[1]
    if detector.head_name == "late":
        features = load_features(patchy.store, patchy.manifest)
        expected = probability(detector.head(features).streams[name].detach().double().numpy())[1]
    assert found == pytest.approx(expected, abs=1e-6)
    assert 0 < found < 1


def test_an_empty_manifest_gives_an_empty_table(probe: Detector, separable_to_read) -> None:
    nothing = separable_to_read.manifest.take(np.array([], int))
    assert len(probe.predict(separable_to_read.store, nothing).table) == 0


def test_an_item_scores_the_same_from_memory_and_from_the_store(detector: Detector, separable_to_read) -> None:
    one = separable_to_read.manifest.take(np.array([7]))
    row = detector.predict(separable_to_read.store, one).table.to_pylist()[0]
    read = {spec: separable_to_read.store.read(spec, one) for spec in detector.specs}
    by_fingerprint = {spec.fingerprint: (r.values, r.times_s) for spec, r in read.items()}
    by_alias = {spec.alias: (r.values, r.times_s) for spec, r in read.items()} | {"unknown/frame": (None, None)}
    for embeddings in (by_fingerprint, by_alias):
        item = detector.score_embeddings(embeddings)
        assert (item.score, item.logit, item.reason) == (row["score"], row["logit"], None)
        assert list(item.stream_scores.items()) == row["stream_scores"]


def test_an_item_in_memory_without_any_feature_gets_a_reason_instead_of_a_score(probe: Detector) -> None:
    item = probe.score_embeddings({})
    assert (item.score, item.logit, dict(item.stream_scores)) == (None, None, {})
    assert item.reason == "no embeddings of toy-picture/frame, toy-sound/speech"


def test_embeddings_of_another_width_are_refused(probe: Detector) -> None:
    with pytest.raises(UsageError, match=r"toy-picture/frame needs values \(T >= 1, 8\)"):
        probe.score_embeddings({"toy-picture/frame": (np.zeros((2, 5)), np.zeros(2))})


def test_scores_of_many_items_do_not_depend_on_the_batch(probe: Detector, separable_to_read, monkeypatch) -> None:
    whole = probe.predict(separable_to_read.store, separable_to_read.manifest).numbers("logit")
    monkeypatch.setattr("mmdf.fuse.detector._SCORE_BATCH", 7)
    np.testing.assert_allclose(
        probe.predict(separable_to_read.store, separable_to_read.manifest).numbers("logit"), whole, atol=1e-5
    )


def test_a_store_without_a_needed_feature_is_refused_with_the_command(probe: Detector, tmp_path, make_corpus) -> None:
    corpus = make_corpus([0, 1], {"toy-picture/frame": [np.ones((1, 8), np.float32)] * 2}, name="half")
    with pytest.raises(CacheError, match=r"lacks toy-sound/speech, .*mmdf extract MANIFEST -s .* -b toy-sound$"):
        probe.predict(corpus.store, corpus.manifest)
    empty = FeatureStore.open(tmp_path / "empty", create=True)
    with pytest.raises(CacheError, match=r"toy-picture/frame, toy-sound/speech.* -b toy-picture,toy-sound$"):
        probe.predict(empty, corpus.manifest)


def test_a_feature_of_other_weights_is_not_taken_for_the_needed_one(probe: Detector, make_corpus, make_spec, add):
    corpus = make_corpus([0, 1], {"toy-sound/speech": [np.ones((1, 6), np.float32)] * 2}, name="other")
    ids, steps = corpus.manifest.column("item_id"), [np.ones((1, 8), np.float32)] * 2
    add(corpus.store, make_spec("toy-picture/frame", 8, weights_digest="ab" * 32), ids, steps)
    with pytest.raises(CacheError, match="It has toy-picture/frame, but computed from other weights"):
        probe.predict(corpus.store, corpus.manifest)


def test_another_compute_precision_will_do_but_the_exact_feature_comes_first(
    picture_probe, separable, make_spec, add
) -> None:
    test = separable.manifest.split("test")
    ids = test.column("item_id")
    exact = picture_probe.predict(separable.store, test).numbers("logit")
    half = make_spec("toy-picture/frame", 8, compute_dtype="float16")
    shifted = [np.full((1, 8), 5.0, np.float32)] * len(ids)
    # A fingerprint is a hash: whichever of the two sorts first, the exact one must win.
    add(separable.store, half, ids, shifted)
    np.testing.assert_array_equal(picture_probe.predict(separable.store, test).numbers("logit"), exact)
    only_half = replace(picture_probe, specs=(make_spec("toy-picture/frame", 8, compute_dtype="bfloat16"),))
    assert np.isfinite(only_half.predict(separable.store, test).numbers("logit")).all()


def test_a_precision_that_holds_the_items_beats_an_exact_one_that_is_empty(
    picture_probe, separable, make_spec, add
) -> None:
    wanted = make_spec("toy-picture/frame", 8, compute_dtype="float16")
    add(separable.store, wanted, ["somebody-else"], [np.ones((1, 8), np.float32)])
    test = separable.manifest.split("test")
    found = replace(picture_probe, specs=(wanted,)).predict(separable.store, test)
    np.testing.assert_array_equal(found.numbers("logit"), picture_probe.predict(separable.store, test).numbers("logit"))


def test_the_summary_is_json_and_the_text_says_the_same(detector: Detector) -> None:
    summary = detector.summary()
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert (summary["head"], summary["seed"]) == (detector.head_name, 3)
    assert summary["features"] == ["toy-picture/frame", "toy-sound/speech"]
    assert summary["items"]["train"] == {"real": 120, "fake": 120}
    text = detector.to_text()
    for part in (
        f"{detector.head_name} on toy-picture/frame + toy-sound/speech, trained on toy",
        "val: 40 real, 40 fake; left out 0 without label, 0 without embeddings",
        f"ROC-AUC {summary['validation']['auc']:.4f}",
        f"at threshold {summary['threshold']:.4f}",
    ):
        assert part in text


def test_nothing_at_a_path_is_no_detector(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"No detector at .*nothing.*mmdf train HEAD"):
        Detector.load(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda d: d["features"][0].update(weights_digest="0"), "spec of toy-picture/frame was altered"),
        (lambda d: d["features"].pop(), "size mismatch|Unexpected key"),
        (lambda d: d["head"].update(name="none-such"), "Unknown head"),
        (lambda d: d["head"].update(config={"depth": 3}), "Unknown option 'depth'"),
        (lambda d: d["head"].update(config=[1]), "damaged"),
        (lambda d: d.update(head="probe"), "damaged"),
        (lambda d: d.update(features=["toy-picture/frame"]), "damaged"),
        (lambda d: d.update(calibration={"slope": 1.0}), "Calibration"),
        (lambda d: d["calibration"].update(slope="steep"), "could not convert"),
        (lambda d: d.update(threshold="high"), "could not convert"),
        (lambda d: d.pop("threshold"), "threshold"),
        (lambda d: d.pop("record"), "record"),
        (lambda d: d["record"].pop("items"), "items"),
        (lambda d: d["head"].update(name="early"), "Missing key"),
    ],
)
def test_an_altered_document_is_damage_with_what_to_do(change, complaint, probe: Detector, tmp_path: Path) -> None:
    folder = tmp_path / "detector"
    probe.save(folder)
    edit(folder, change)
    with pytest.raises(CacheError, match=complaint) as caught:
        Detector.load(folder)
    assert "train it anew: mmdf train" in str(caught.value)


def test_scoring_leaves_the_head_as_it_was(detector: Detector, separable_to_read) -> None:
    before = {name: value.clone() for name, value in detector.head.state_dict().items()}
    detector.predict(separable_to_read.store, separable_to_read.manifest)
    assert not detector.head.training
    assert all(torch.equal(value, before[name]) for name, value in detector.head.state_dict().items())


def test_every_registered_head_is_tested_here() -> None:
    assert set(heads) == set(NAMES)
