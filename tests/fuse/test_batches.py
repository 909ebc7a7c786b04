"""What is read from a store: pooled in the manifest's order, with masks for what is missing."""

import numpy as np
import pytest
import torch

from mmdf.cache.errors import CacheError, UsageError
from mmdf.cache.ledger import Seen
from mmdf.cache.manifest import Item, Manifest
from mmdf.cache.store import Ragged
from mmdf.fuse.batches import choose_specs, item_features, load_features, pooled


@pytest.fixture
def mixed(make_corpus, noisy):
    """Four items; the second has no sound."""
    labels = [0, 1, 0, None]
    sound = noisy(np.zeros(4), 0, dim=2, seed=3)
    sound[1] = None
    features = {"toy-sound/speech": sound, "toy-picture/frame": noisy(np.zeros(4), 0, dim=3, seed=4)}
    return make_corpus(labels, features, video_label=[0, 0, None, None], audio_label=[0, 1, 1, None])


def test_pooling_is_mean_and_deviation_and_nan_where_there_are_no_steps() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((5, 3)).astype(np.float16)
    out, present = pooled(Ragged(values, np.array([0, 1, 1, 5]), np.zeros(5), np.arange(5)))
    assert present.tolist() == [True, False, True]
    assert np.isnan(out[1]).all()
    np.testing.assert_allclose(out[0], [*values[0], 0, 0, 0], atol=1e-6)
    steps = values[1:].astype(np.float64)
    np.testing.assert_allclose(out[2], [*steps.mean(0), *steps.std(0)], atol=1e-6)


def test_features_come_sorted_with_masks_labels_and_ids(mixed) -> None:
    features = load_features(mixed.store, mixed.manifest)
    assert features.names == ("toy-picture/frame", "toy-sound/speech")
    assert features.item_ids == ("item0", "item1", "item2", "item3")
    assert features.present.tolist() == [[True, True], [True, False], [True, True], [True, True]]
    assert features.x["toy-sound/speech"].shape == (4, 4)
    assert features.x["toy-sound/speech"].isnan().all(1).tolist() == [False, True, False, False]
    torch.testing.assert_close(features.labels, torch.tensor([0, 1, 0, torch.nan]), equal_nan=True)


def test_order_of_the_manifest_is_kept_when_it_is_not_that_of_the_store(mixed) -> None:
    straight = load_features(mixed.store, mixed.manifest)
    turned = load_features(mixed.store, mixed.manifest.take(np.array([3, 0])))
    assert turned.item_ids == ("item3", "item0")
    assert torch.equal(turned.x["toy-picture/frame"], straight.x["toy-picture/frame"][[3, 0]])


def test_each_stream_has_its_own_label_or_else_the_items(mixed) -> None:
    features = load_features(mixed.store, mixed.manifest)
    picture, sound = features.stream_labels("toy-picture/frame"), features.stream_labels("toy-sound/speech")
    torch.testing.assert_close(picture, torch.tensor([0, 0, 0, torch.nan]), equal_nan=True)
    torch.testing.assert_close(sound, torch.tensor([0, 1, 1, torch.nan]), equal_nan=True)
    only = features.only("toy-sound/speech")
    assert only.item_ids == ("item0", "item2")
    assert only.labels.tolist() == [0, 1]
    assert only.names == ("toy-sound/speech",)


def test_balanced_weights_give_each_class_half_of_the_loss(make_corpus, noisy) -> None:
    labels = [0] * 3 + [1] * 7
    corpus = make_corpus(labels, {"toy-picture/frame": noisy(np.zeros(10), 0)})
    weights = load_features(corpus.store, corpus.manifest).balanced().weights
    assert float(weights[:3].sum()) == pytest.approx(float(weights[3:].sum()))
    assert float(weights.mean()) == pytest.approx(1.0)


def test_names_may_be_aliases_backbones_or_fingerprints(mixed) -> None:
    spec = mixed.store.find("toy-sound")
    for name in ("toy-sound/speech", "toy-sound", spec.fingerprint[:8]):
        assert choose_specs(mixed.store, mixed.manifest, [name]) == (spec,)
    assert len(choose_specs(mixed.store, mixed.manifest, ["toy-sound", "toy-sound/speech"])) == 1
    with pytest.raises(UsageError, match="Did you mean 'toy-sound/speech'"):
        choose_specs(mixed.store, mixed.manifest, ["toy-sond/speech"])


def test_features_without_embeddings_of_the_manifest_are_not_taken(mixed, make_spec, add) -> None:
    mixed.store.ledger.add_samples([Seen("other", 1, 1, b"other".rjust(16, b"."))])
    add(mixed.store, make_spec("other/frame", 2), ["other"], [np.ones((1, 2), np.float32)])
    add(mixed.store, make_spec("mute/speech", 2), ["item0"], [None])
    assert [s.alias for s in choose_specs(mixed.store, mixed.manifest, None)] == [
        "toy-picture/frame",
        "toy-sound/speech",
    ]
    strange = Manifest.of([Item("stranger", "s.mp4", "video")], mixed.manifest.root)
    with pytest.raises(CacheError, match=r"no embeddings of these 1 items.*mmdf extract"):
        choose_specs(mixed.store, strange, None)


def test_two_features_of_one_alias_are_refused_unless_one_is_named(mixed, make_spec, add) -> None:
    half = make_spec("toy-picture/frame", 3, compute_dtype="float16")
    add(mixed.store, half, ["item0"], [np.ones((1, 3), np.float32)])
    with pytest.raises(UsageError, match=r"more than once.*float16.*fingerprint"):
        choose_specs(mixed.store, mixed.manifest, None)
    assert choose_specs(mixed.store, mixed.manifest, [half.fingerprint[:10]]) == (half,)


def test_an_item_from_memory_is_pooled_like_one_from_the_store(make_corpus, noisy, make_spec, add) -> None:
    corpus = make_corpus([0], {"toy-sound/speech": noisy(np.zeros(1), 0)}, [None])
    values = noisy(np.zeros(1), 0, dim=5, seed=9)[0]
    spec = make_spec("toy-picture/frame", 5, storage_dtype="float16")
    add(corpus.store, spec, ["item0"], [values])
    stored = load_features(corpus.store, corpus.manifest, ["toy-picture"])
    for name in (spec.alias, spec.fingerprint):
        item = item_features([spec], {name: (values, np.arange(3.0))})
        assert torch.equal(item.x[spec.alias], stored.x[spec.alias])
    missing = item_features([spec], {"unrelated/frame": (values, np.arange(3.0))})
    assert not missing.present.any()


@pytest.mark.parametrize(("shape", "n_times"), [((3, 4), 3), ((0, 5), 0), ((3, 5), 2), ((5,), 5)])
def test_arrays_of_another_shape_are_refused(make_spec, shape, n_times) -> None:
    spec = make_spec("toy-picture/frame", 5)
    with pytest.raises(UsageError, match="toy-picture/frame needs values"):
        item_features([spec], {spec.alias: (np.ones(shape), np.zeros(n_times))})
