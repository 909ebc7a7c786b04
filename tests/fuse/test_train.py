"""Training: what can be learned is learned, what can't isn't, the test split is never seen, a seed is a promise."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from mmdf.cache.errors import CacheError, DataError, UsageError
from mmdf.fuse.batches import load_features
from mmdf.fuse.detector import Detector
from mmdf.fuse.train import train

NAMES = ("probe", "early", "late")


# Few and quick epochs: these problems are small, and the machine may be busy.
QUICK = {"epochs": 15, "lr": 0.03}


def auc_on_test(detector: Detector, corpus) -> float:
    table = detector.predict(corpus.store, corpus.manifest.split("test"))
    return roc_auc_score(table.numbers("label"), table.numbers("score"))


def weights(detector: Detector) -> dict[str, torch.Tensor]:
    return detector.head.state_dict()


def same(one: Detector, other: Detector) -> bool:
    equal = all(torch.equal(value, weights(other)[name]) for name, value in weights(one).items())
    return equal and (one.calibration, one.threshold, one.record) == (other.calibration, other.threshold, other.record)


@pytest.mark.parametrize("head", NAMES)
def test_separable_embeddings_are_separated(head: str, separable) -> None:
    detector = train(head, separable.store, separable.manifest, config=QUICK)
    assert auc_on_test(detector, separable) > 0.95
    assert detector.record["validation"]["auc"] > 0.95
    table = detector.predict(separable.store, separable.manifest.split("test"))
    assert np.mean((table.numbers("score") > table.threshold) == table.numbers("label")) > 0.85


@pytest.mark.parametrize("head", NAMES)
def test_noise_stays_near_chance(head: str, make_corpus, noisy) -> None:
    labels = np.tile([0, 1], 600)
    corpus = make_corpus(labels.tolist(), {"toy-picture/frame": noisy(labels, 0, seed=5)})
    assert abs(auc_on_test(train(head, corpus.store, corpus.manifest, config=QUICK), corpus) - 0.5) < 0.1


def test_the_probe_cannot_tell_fakes_by_who_has_sound(make_corpus, noisy) -> None:
    labels = np.tile([0, 1], 600)
    sound = noisy(labels, 0, seed=7)
    features = {
        "toy-picture/frame": noisy(labels, 0, seed=8),
        "toy-sound/speech": [steps if label else None for steps, label in zip(sound, labels, strict=True)],
    }
    corpus = make_corpus(labels.tolist(), features)
    assert abs(auc_on_test(train("probe", corpus.store, corpus.manifest, config=QUICK), corpus) - 0.5) < 0.1


def test_the_probe_is_logistic_regression(make_corpus, noisy) -> None:
    labels = np.tile([0, 1], 750)
    corpus = make_corpus(labels.tolist(), {"toy-picture/frame": noisy(labels, 0.7, dim=4, seed=3)})
    config = {"epochs": 200, "lr": 0.1, "weight_decay": 0.0, "batch_size": 10_000, "min_steps": 1, "patience": 200}
    detector = train("probe", corpus.store, corpus.manifest, config=config)
    sides = {name: load_features(corpus.store, corpus.manifest.split(name)) for name in ("train", "test")}
    x = {name: side.x["toy-picture/frame"].numpy() for name, side in sides.items()}
    scale = StandardScaler().fit(x["train"])
    oracle = LogisticRegression(C=1e4, max_iter=1000, class_weight="balanced")
    oracle.fit(scale.transform(x["train"]), sides["train"].labels.numpy())
    found = detector.predict(corpus.store, corpus.manifest.split("test")).numbers("logit")
    assert spearmanr(found, oracle.decision_function(scale.transform(x["test"]))).statistic > 0.98


@pytest.mark.parametrize("head", NAMES)
def test_nine_fakes_for_each_real_are_no_reason_to_call_everything_fake(head: str, make_corpus, noisy) -> None:
    labels = (np.arange(1000) % 10 != 0).astype(int)
    corpus = make_corpus(labels.tolist(), {"toy-picture/frame": noisy(labels, 2.5, seed=6)})
    detector = train(head, corpus.store, corpus.manifest, config=QUICK)
    table = detector.predict(corpus.store, corpus.manifest.split("test"))
    called, fake = table.numbers("score") > table.threshold, table.numbers("label") == 1
    assert called[fake].mean() > 0.85
    assert called[~fake].mean() < 0.3
    # The probability keeps to the share of fakes, which the threshold makes up for.
    assert table.numbers("score").mean() == pytest.approx(0.9, abs=0.05)


@pytest.mark.parametrize("head", NAMES)
def test_the_same_seed_gives_the_same_detector_to_the_last_bit(head: str, separable) -> None:
    config = {"epochs": 3}
    before = torch.random.get_rng_state()
    first = train(head, separable.store, separable.manifest, seed=4, config=config)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(3)
    again = train(head, separable.store, separable.manifest, seed=4, config=config)
    other = train(head, separable.store, separable.manifest, seed=5, config=config)
    assert same(first, again)
    assert any(not torch.equal(value, weights(other)[name]) for name, value in weights(first).items())
    table = first.predict(separable.store, separable.manifest)
    assert table.table.equals(again.predict(separable.store, separable.manifest).table)
    assert not np.array_equal(
        table.numbers("score"), other.predict(separable.store, separable.manifest).numbers("score")
    )


@pytest.mark.parametrize("head", NAMES)
def test_the_test_split_is_never_looked_at(head: str, make_corpus, noisy) -> None:
    labels = np.tile([0, 1], 100)
    clean = make_corpus(labels.tolist(), {"toy-picture/frame": noisy(labels, 1.5)}, name="clean")
    splits = clean.manifest.column("split")
    is_test = np.array([split == "test" for split in splits])
    steps = [v * 1e6 if poison else v for v, poison in zip(noisy(labels, 1.5), is_test, strict=True)]
    flipped = np.where(is_test, 1 - labels, labels)
    # Test items also have a feature that nobody else has, and no dataset name in common.
    alone = [np.ones((1, 2), np.float32) if poison else None for poison in is_test]
    poisoned = make_corpus(
        flipped.tolist(), {"toy-picture/frame": steps, "alone/frame": alone}, splits, name="poisoned"
    )
    config = {"epochs": 4}
    one = train(head, clean.store, clean.manifest, config=config)
    other = train(head, poisoned.store, poisoned.manifest, config=config)
    other = dataclasses.replace(other, record={**other.record, "manifest": one.record["manifest"]})
    assert same(one, other)
    assert one.specs == other.specs


def test_standardisation_knows_the_training_items_only(separable) -> None:
    detector = train("probe", separable.store, separable.manifest, ["toy-picture"], config={"epochs": 1})
    x = load_features(separable.store, separable.manifest.split("train")).x["toy-picture/frame"]
    torch.testing.assert_close(detector.head.scalers[0].mean, x.mean(0), atol=1e-5, rtol=0)


def test_the_best_epoch_is_kept_and_the_curve_says_which(separable) -> None:
    seen = []
    config = {"epochs": 30, "lr": 0.1, "patience": 4}
    detector = train(
        "early", separable.store, separable.manifest, config=config, progress=lambda name, row: seen.append((name, row))
    )
    curve = detector.record["curves"]["head"]
    assert [row["epoch"] for _, row in seen] == [row["epoch"] for row in curve] == list(range(len(curve)))
    best = [row for row in curve if row["best"]]
    assert len(best) == 1
    assert best[0]["val_loss"] == min(row["val_loss"] for row in curve)
    assert len(curve) == min(30, best[0]["epoch"] + 4 + 1) < 30
    val = load_features(separable.store, separable.manifest.split("val")).balanced()
    with torch.no_grad():
        assert float(detector.head.loss(detector.head(val), val)) == pytest.approx(best[0]["val_loss"], abs=1e-6)


def test_late_fusion_has_a_curve_for_every_feature(separable) -> None:
    detector = train("late", separable.store, separable.manifest, config={"epochs": 2})
    assert {name: len(rows) for name, rows in detector.record["curves"].items()} == {
        "toy-picture/frame": 2,
        "toy-sound/speech": 2,
    }


def test_items_without_label_or_embeddings_are_left_out_and_counted(make_corpus, noisy) -> None:
    labels = [0, 1] * 50 + [None] * 3
    steps = noisy(np.tile([0, 1], 52)[:103], 2)
    steps[0] = steps[5] = None
    splits = [*(["train"] * 60 + ["val"] * 40), "train", "train", "val"]
    corpus = make_corpus(labels, {"toy-picture/frame": steps}, splits)
    record = train("probe", corpus.store, corpus.manifest, config={"epochs": 1}).record
    assert record["items"] == {"train": {"real": 29, "fake": 29}, "val": {"real": 20, "fake": 20}}
    assert record["left_out"]["train"] == {"unknown_label": 2, "no_embeddings": 2}
    assert record["left_out"]["val"] == {"unknown_label": 1, "no_embeddings": 0}
    assert record["coverage"]["train"] == {"toy-picture/frame": 1.0}


def test_a_feature_that_says_nothing_does_not_crash(make_corpus) -> None:
    labels = [0, 1] * 50
    corpus = make_corpus(labels, {"toy-picture/frame": [np.ones((1, 3), np.float32)] * 100})
    for head in NAMES:
        detector = train(head, corpus.store, corpus.manifest, config={"epochs": 2})
        assert auc_on_test(detector, corpus) == 0.5


@pytest.mark.parametrize(
    ("splits", "complaint"),
    [
        (["train"] * 40, "no items in split 'val'.*resplit"),
        (["val"] * 40, "no items in split 'train'"),
        ([None] * 40, "no items in split 'train'"),
        (["train", "val"] * 20, "Split 'train' of the manifest has 20 real and 0 fake.*resplit"),
        (["train"] * 39 + ["val"], "Split 'val' of the manifest has 0 real and 1 fake"),
    ],
)
def test_splits_that_cannot_teach_are_refused(splits, complaint, make_corpus, noisy) -> None:
    labels = np.tile([0, 1], 20)
    corpus = make_corpus(labels.tolist(), {"toy-picture/frame": noisy(labels, 1)}, splits)
    with pytest.raises(DataError, match=complaint):
        train("probe", corpus.store, corpus.manifest)


def test_overlapping_splits_are_refused(make_corpus, noisy) -> None:
    labels = np.tile([0, 1], 20)
    splits = ["train"] * 20 + ["val"] * 20
    corpus = make_corpus(labels.tolist(), {"toy-picture/frame": noisy(labels, 1)}, splits, identity=["one"] * 40)
    with pytest.raises(DataError, match="The splits overlap"):
        train("probe", corpus.store, corpus.manifest)


def test_a_class_without_embeddings_is_refused(make_corpus, noisy) -> None:
    labels = np.tile([0, 1], 20)
    steps = [v if label else None for v, label in zip(noisy(labels, 1), labels, strict=True)]
    corpus = make_corpus(labels.tolist(), {"toy-picture/frame": steps})
    with pytest.raises(DataError, match=r"as far as it has embeddings, has 0 real.*mmdf extract"):
        train("probe", corpus.store, corpus.manifest)


def test_a_named_feature_without_training_items_is_refused(separable, make_spec, add) -> None:
    add(separable.store, make_spec("other/frame", 2), ["item0"], [None])
    with pytest.raises(CacheError, match=r"no embeddings of other/frame .*-b other"):
        train("probe", separable.store, separable.manifest, ["toy-picture", "other"])


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"head_name": "prob"}, "Unknown head"),
        ({"features": ["toy-pictur"]}, "Did you mean"),
        ({"config": {"learning": 1}}, "Unknown option 'learning'"),
        ({"config": {"epochs": 0}}, "'epochs' should be a whole number from 1"),
        ({"seed": -1}, "seed should be from 0"),
    ],
)
def test_names_and_options_that_do_not_exist_are_refused(changes, complaint, separable) -> None:
    arguments = {"head_name": "probe", "store": separable.store, "manifest": separable.manifest} | changes
    with pytest.raises(UsageError, match=complaint):
        train(**arguments)
