"""Training on augmented views: which belong to which feature, and that only training sees them."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from mmdf.cache.spec import FeatureSpec
from mmdf.fuse.augmented import views_of, with_views, without_view
from mmdf.fuse.batches import choose_specs, load_features
from mmdf.fuse.train import train

SPLITS = ("train",) * 24 + ("val",) * 12 + ("test",) * 4
LABELS = [k % 2 for k in range(40)]


def view(spec: FeatureSpec, index: int) -> FeatureSpec:
    return replace(spec, variant=f"aug{index}", sampling={**spec.sampling, "augment": {"index": index, "seed": 0}})


def steps(seed: int, shift: float = 0.0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(2 * label - 1 + shift, 1, (3, 4)).astype(np.float32) for label in LABELS]


def add(corpus, spec: FeatureSpec, values: list[np.ndarray], split: str = "train") -> None:
    # Which items are there is known by the key that the test store gives them.
    writer = corpus.store.writer(spec, "run")
    for item, found in zip(corpus.manifest.items(), values, strict=True):
        if item.split == split:
            writer.add(item.item_id.encode().rjust(16, b"."), found, np.arange(len(found)) / 2)
    writer.commit()


@pytest.fixture
def corpus(make_corpus: Callable):
    made = make_corpus(LABELS, {"a/frame": steps(0), "b/speech": steps(1)}, SPLITS)
    add(made, view(made.store.find("a/frame"), 1), steps(10, 5.0))
    add(made, view(made.store.find("a/frame"), 2), steps(11, 6.0))
    add(made, view(made.store.find("b/speech"), 2), steps(12, 7.0))
    return made


def test_a_view_belongs_to_its_feature(corpus) -> None:
    a, b = corpus.store.find("a/frame"), corpus.store.find("b/speech")
    assert without_view(view(a, 3)) == a
    found = [[spec.alias for spec in chosen] for chosen in views_of(corpus.store, (a, b))]
    assert found == [["a/frame+aug1", "b/speech"], ["a/frame+aug2", "b/speech+aug2"]]


def test_views_are_not_features_of_their_own(corpus) -> None:
    chosen = choose_specs(corpus.store, corpus.manifest, None)
    assert [spec.alias for spec in chosen] == ["a/frame", "b/speech"]


def test_what_accompanies_others_is_taken_by_name_only(make_corpus: Callable) -> None:
    made = make_corpus(LABELS, {"a/face": steps(0), "face-geometry/face": steps(1)}, SPLITS)
    assert [s.alias for s in choose_specs(made.store, made.manifest, None)] == ["a/face"]
    assert [s.alias for s in choose_specs(made.store, made.manifest, ["face-geometry"])] == ["face-geometry/face"]


def test_views_follow_the_items_under_the_same_names(corpus) -> None:
    side = corpus.manifest.split("train")
    plain = load_features(corpus.store, side)
    found = with_views(plain, corpus.store, side)
    assert len(found) == 3 * 24
    assert found.names == plain.names
    assert torch.equal(found.x["a/frame"][:24], plain.x["a/frame"])
    assert torch.equal(found.x["b/speech"][24:48], plain.x["b/speech"]), "b has no first view"
    means = found.x["a/frame"][:, :4].mean(1).view(3, 24).mean(1).tolist()
    assert means == pytest.approx([0, 5, 6], abs=0.3)
    assert torch.equal(found.labels.view(3, 24)[2], plain.labels)


def test_training_sees_views_and_may_be_told_not_to(corpus) -> None:
    with_them = train("probe", corpus.store, corpus.manifest, ["a/frame"], config={"epochs": 2})
    without = train("probe", corpus.store, corpus.manifest, ["a/frame"], config={"epochs": 2, "augmented": 0})
    assert with_them.record["augmented_items"] == 48
    assert without.record["augmented_items"] == 0
    assert with_them.record["items"] == without.record["items"]
    states = [detector.head.state_dict() for detector in (with_them, without)]
    assert any(not torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_validation_stays_as_it_is(corpus) -> None:
    add(corpus, view(corpus.store.find("a/frame"), 3), steps(20, 9.0), "val")
    before = train("probe", corpus.store, corpus.manifest, ["a/frame"], config={"epochs": 1, "augmented": 0})
    after = train("probe", corpus.store, corpus.manifest, ["a/frame"], config={"epochs": 1})
    assert before.record["items"]["val"] == after.record["items"]["val"]
