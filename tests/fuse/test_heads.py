"""Heads one by one: masks hold, options are checked, late fusion tells which stream is forged."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from mmdf.cache.errors import DataError, UsageError
from mmdf.fuse.batches import Features, load_features
from mmdf.fuse.heads import heads
from mmdf.fuse.heads.base import configured
from mmdf.fuse.heads.early import EarlyConfig
from mmdf.fuse.train import TrainConfig, fit, split_config

NAMES = ("probe", "early", "late")


@pytest.fixture
def features(separable) -> Features:
    return load_features(separable.store, separable.manifest)


def build(name: str, features: Features, **options):
    kind = heads.get(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = kind({s.alias: 2 * s.dim for s in features.specs}, configured(kind.Config, options))
        half = len(features) // 2
        train, val = features.take(torch.arange(half)), features.take(torch.arange(half, len(features)))
        fit(head, train, val, TrainConfig(epochs=8, lr=0.01 if name == "early" else 0.1))
    return head.eval()


def hide(features: Features, column: int, rows: slice) -> Features:
    """The same items without one feature in some rows."""
    present = features.present.clone()
    present[rows, column] = False
    x = dict(features.x)
    name = features.names[column]
    x[name] = torch.where(present[:, column : column + 1], x[name], torch.nan)
    unchanged = {f: getattr(features, f) for f in ("labels", "video_labels", "audio_labels", "weights", "item_ids")}
    return Features(features.specs, x, present, **unchanged)


def test_the_registry_loads_no_torch_and_describes_every_head() -> None:
    code = (
        "import sys; from mmdf.fuse.heads import heads; "
        "assert list(heads) == ['probe', 'early', 'late'] and all(heads.describe(n) for n in heads); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", NAMES)
def test_missing_streams_change_no_other_item_and_give_finite_logits(name: str, features: Features) -> None:
    head = build(name, features)
    with torch.no_grad():
        whole, partly = head(features), head(hide(features, 1, slice(0, 50)))
    assert whole.logit.shape == (400,)
    assert partly.logit.isfinite().all()
    torch.testing.assert_close(partly.logit[50:], whole.logit[50:])
    assert not torch.allclose(partly.logit[:50], whole.logit[:50])
    assert partly.streams["toy-sound/speech"].isnan().tolist() == [True] * 50 + [False] * 350
    assert partly.streams["toy-picture/frame"].isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_what_lies_behind_a_mask_is_never_looked_at(name: str, features: Features) -> None:
    head = build(name, features)
    hidden = hide(features, 0, slice(0, 50))
    loud = {n: torch.where(hidden.has(n)[:, None], values, 1e6) for n, values in hidden.x.items()}
    poisoned = Features(
        hidden.specs,
        loud,
        hidden.present,
        hidden.labels,
        hidden.video_labels,
        hidden.audio_labels,
        hidden.weights,
        hidden.item_ids,
    )
    with torch.no_grad():
        assert torch.equal(head(hidden).logit, head(poisoned).logit)


@pytest.mark.parametrize("name", ["probe", "early"])
def test_a_stream_logit_is_the_logit_of_the_item_with_that_stream_alone(name: str, features: Features) -> None:
    head = build(name, features)
    with torch.no_grad():
        alone = head(hide(features, 1, slice(None)))
        torch.testing.assert_close(head(features).streams["toy-picture/frame"], alone.logit)


def test_the_probe_is_the_mean_of_its_streams(features: Features) -> None:
    head = build("probe", features)
    with torch.no_grad():
        output = head(features)
    torch.testing.assert_close(output.logit, torch.stack(list(output.streams.values())).mean(0))


def test_late_fusion_gives_a_lone_stream_the_weight_of_both(features: Features) -> None:
    head = build("late", features)
    with torch.no_grad():
        output = head(hide(features, 1, slice(None)))
    evidence = output.streams["toy-picture/frame"] - head.prior[0]
    torch.testing.assert_close(output.logit, head.bias + head.weight.sum() * evidence)
    assert (head.weight > 0).all()


def test_an_item_without_any_stream_gets_the_prior_of_late_fusion(features: Features) -> None:
    head = build("late", features)
    with torch.no_grad():
        output = head(hide(hide(features, 0, slice(None)), 1, slice(None)))
    torch.testing.assert_close(output.logit, head.bias.expand(400))


def test_late_fusion_tells_which_stream_is_forged(make_corpus, noisy) -> None:
    video, audio = np.tile([0, 0, 1, 1], 100), np.tile([0, 1, 0, 1], 100)
    corpus = make_corpus(
        (video | audio).tolist(),
        {"toy-picture/frame": noisy(video, 4, seed=1), "toy-sound/speech": noisy(audio, 4, seed=2)},
        video_label=video.tolist(),
        audio_label=audio.tolist(),
    )
    features = load_features(corpus.store, corpus.manifest)
    head = build("late", features)
    with torch.no_grad():
        output = head(features)
    assert output.streams_calibrated
    called = torch.stack([output.streams["toy-picture/frame"] > 0, output.streams["toy-sound/speech"] > 0], 1)
    assert (called.numpy() == np.stack([video, audio], 1)).mean() > 0.95


def test_late_fusion_asks_for_five_validation_items_of_each_class(features: Features) -> None:
    kind = heads.get("late")
    head = kind({s.alias: 2 * s.dim for s in features.specs}, kind.Config())
    with pytest.raises(DataError, match=r"toy-picture/frame has 4 real and 4 fake.*another head"):
        fit(head, features, features.take(torch.arange(8)), TrainConfig(epochs=1))


def test_late_fusion_refuses_a_stream_whose_own_label_is_always_the_same(make_corpus, noisy) -> None:
    labels = np.tile([0, 1], 50)
    corpus = make_corpus(
        labels.tolist(),
        {"toy-picture/frame": noisy(labels, 3), "toy-sound/speech": noisy(labels, 0)},
        audio_label=[0] * 100,
    )
    features = load_features(corpus.store, corpus.manifest)
    with pytest.raises(DataError, match=r"toy-sound/speech with the labels of its stream.*Leave the feature out"):
        build("late", features)


def test_early_fusion_drops_features_in_training_only(features: Features) -> None:
    head = build("early", features, dropout=0.0, feature_dropout=0.5)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert torch.equal(head(features).logit, head(features).logit)
        head.train()
        assert not torch.equal(head(features).logit, head(features).logit)


def test_options_find_their_place_and_wrong_ones_are_named() -> None:
    loop, own = split_config(heads.get("early"), {"lr": 0.1, "hidden": 7})
    assert (loop.lr, loop.weight_decay, own.hidden, own.width) == (0.1, 0.05, 7, 128)
    with pytest.raises(UsageError, match=r"'hiden'\. Did you mean 'hidden'"):
        split_config(heads.get("early"), {"hiden": 7})
    with pytest.raises(UsageError, match=r"Unknown head 'prob'\. Did you mean 'probe'"):
        heads.get("prob")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"width": 1.5}, "a whole number"),
        ({"width": 0}, "from 1 to 4096, got 0"),
        ({"dropout": "much"}, "a number from 0 to 0.9, got 'much'"),
        ({"dropout": True}, "got True"),
        ({"dropout": float("nan")}, "got nan"),
        ({"depth": 3}, "Unknown option 'depth'"),
    ],
)
def test_values_that_cannot_be_are_refused(options, complaint) -> None:
    with pytest.raises(UsageError, match=complaint):
        configured(EarlyConfig, options)


def test_options_of_heads_and_of_the_loop_never_share_a_name() -> None:
    for name in heads:
        assert not set(vars(TrainConfig())) & set(vars(heads.get(name).Config()))
