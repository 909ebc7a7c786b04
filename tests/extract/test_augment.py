"""Augmented views: on the train split alone, seeded, a feature of their own each, from one decode."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mmdf.cache.manifest import Item, Manifest
from mmdf.cache.store import FeatureStore
from mmdf.extract import workers
from mmdf.extract.backbones.load import augmented, load_backbones
from mmdf.extract.device import Compute
from mmdf.extract.media.sampling import DEFAULT_SAMPLING
from mmdf.extract.options import ExtractOptions
from mmdf.extract.perturb.plan import draw, time_scale
from mmdf.extract.stage import Extraction
from mmdf.extract.summary import Summary

CPU = torch.device("cpu")
NAMES = ("toy-picture", "toy-sound", "motion", "logmel")


@pytest.fixture
def corpus(tmp_path: Path, make_image, make_sound, make_video) -> Manifest:
    make = {".png": make_image, ".wav": make_sound, ".mp4": make_video}
    kinds = {".png": "image", ".wav": "audio", ".mp4": "video"}
    items = []
    for suffix, modality in kinds.items():
        for seed, split in enumerate(("train", "train", "test")):
            path = make[suffix](f"m/{seed}{suffix}", seed=seed)
            items.append(Item(path.name, path.name, modality, split=split, size_bytes=path.stat().st_size))
    return Manifest.of(items, tmp_path / "m")


def run(manifest: Manifest, store: Path, n_views: int, seed: int = 0, **config) -> Summary:
    loaded = load_backbones(NAMES, Compute(CPU, torch.float32, "test"), DEFAULT_SAMPLING)
    options = ExtractOptions(**({"n_workers": 0, "augment_seed": seed} | config))
    opened = FeatureStore.open(store, create=True)
    return Extraction(manifest, opened, augmented(loaded, n_views, seed), CPU, options, "run").run()


def read(store: Path, manifest: Manifest) -> dict[str, tuple[list[int], bytes]]:
    opened = FeatureStore.open(store)
    found = {spec.alias: opened.read(spec, manifest) for spec in opened.specs()}
    return {alias: (ragged.n_steps.tolist(), ragged.values.tobytes()) for alias, ragged in found.items()}


def test_train_items_get_views_and_test_items_none(corpus: Manifest, tmp_path: Path) -> None:
    assert run(corpus, tmp_path / "store", 2).failures == {}
    found = read(tmp_path / "store", corpus)
    assert set(found) == {f"{n}{v}" for n in ("toy-picture/frame", "toy-sound/speech", "motion/clip", "logmel/sound")
                          for v in ("", "+aug1", "+aug2")}  # fmt: skip
    plain, first, second = (found[f"toy-picture/frame{v}"] for v in ("", "+aug1", "+aug2"))
    assert plain[0] == [1, 1, 1, 0, 0, 0, 16, 16, 16]
    assert first[0] == [1, 1, 0, 0, 0, 0, 16, 16, 0]
    assert len({plain[1], first[1], second[1]}) == 3


def test_more_views_later_keep_those_that_are_there(corpus: Manifest, tmp_path: Path) -> None:
    run(corpus, tmp_path / "store", 1)
    before = read(tmp_path / "store", corpus)
    summary = run(corpus, tmp_path / "store", 2)
    after = read(tmp_path / "store", corpus)
    assert {alias: after[alias] for alias in before} == before
    # Two train items of each kind: pictures 4, sound 4, motion 2, log-mel 4.
    assert summary.n_computed == 14
    assert run(corpus, tmp_path / "store", 2).n_computed == 0


def test_the_draw_depends_on_seed_and_content_alone(corpus: Manifest, tmp_path: Path) -> None:
    run(corpus, tmp_path / "a", 1)
    run(corpus, tmp_path / "b", 1, n_workers=2, slice_items=3)
    run(corpus, tmp_path / "c", 1, seed=1)
    a, b, c = (FeatureStore.open(tmp_path / name) for name in "abc")
    for spec in a.specs():
        one, other = a.read(spec, corpus), b.read(spec, corpus)
        assert np.allclose(one.values.astype(float), other.values.astype(float), atol=2e-3)
        assert np.array_equal(one.times_s, other.times_s)
    assert c.find("toy-picture/frame") == a.find("toy-picture/frame")
    seeded = (store.read(store.find("toy-picture/frame+aug1"), corpus).values for store in (a, c))
    assert not np.array_equal(*seeded)


def test_one_decode_gives_all_views(corpus: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    decode = workers.decode
    monkeypatch.setattr(workers, "decode", lambda request: decoded.append(request.path.name) or decode(request))
    run(corpus, tmp_path / "store", 3)
    assert sorted(decoded) == sorted(corpus.column("item_id"))


def test_stretched_sound_keeps_the_clock_of_its_file(corpus: Manifest, tmp_path: Path) -> None:
    run(corpus, tmp_path / "store", 4)
    store = FeatureStore.open(tmp_path / "store")
    sounds = corpus.take(np.flatnonzero([name == "0.wav" for name in corpus.column("item_id")]))
    key = store.keys(sounds)[0]
    assert key is not None
    scales = [time_scale(draw(0, key, k, "sound")) for k in range(1, 5)]
    assert any(scale != 1 for scale in scales), "one of the draws stretches"
    for k, scale in enumerate(scales, 1):
        times_s = store.read(store.find(f"logmel/sound+aug{k}"), sounds).times_s
        assert np.diff(times_s) == pytest.approx(0.01 / scale)
        assert times_s[-1] == pytest.approx(1.0, abs=0.02)


def test_a_failing_file_fails_for_its_views_too(corpus: Manifest, tmp_path: Path) -> None:
    bad = tmp_path / "m" / "0.png"
    bad.write_bytes(bad.read_bytes()[:50])
    items = [replace(i, size_bytes=None) for i in corpus.items()]
    summary = run(Manifest.of(items, tmp_path / "m"), tmp_path / "store", 1)
    assert list(summary.failures) == ["0.png"]
    plain, views = 5 + 6 + 3 + 6, 3 + 4 + 2 + 4
    assert summary.n_computed == plain + views
