"""Sizes that are told before a run, held against the sizes of the run itself."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mmdf.cache.errors import UsageError
from mmdf.cache.manifest import Item, Manifest
from mmdf.cache.store import FeatureStore
from mmdf.extract.backbones import CARDS
from mmdf.extract.backbones.load import augmented, load_backbones
from mmdf.extract.device import Compute
from mmdf.extract.estimate import estimate
from mmdf.extract.media.sampling import Sampling
from mmdf.extract.options import ExtractOptions
from mmdf.extract.outputs import Outputs
from mmdf.extract.stage import Extraction

CPU = torch.device("cpu")
NAMES = ("toy-picture", "toy-sound", "motion", "logmel", "spectrum", "toy-picture/mouth")


@pytest.fixture
def corpus(tmp_path: Path, make_image, make_sound, make_video) -> Manifest:
    paths = [make_image("m/0.png"), make_sound("m/0.wav", 9.0), make_video("m/0.mp4", 120), make_video("m/1.mp4", 40)]
    kinds = {".png": "image", ".wav": "audio", ".mp4": "video"}
    items = [
        Item(p.name, p.name, kinds[p.suffix], split="train" if n % 2 else "test", size_bytes=p.stat().st_size)
        for n, p in enumerate(paths)
    ]
    return Manifest.of(items, tmp_path / "m")


@pytest.mark.parametrize(
    "options",
    [
        ExtractOptions(),
        ExtractOptions(sampling=Sampling(frames=5, window_s=2.0, window_hop_s=1.0)),
        ExtractOptions(sampling=Sampling(frame_rate_hz=5.0)),
        ExtractOptions(augment=2),
    ],
)
def test_what_is_told_before_is_what_comes(corpus: Manifest, tmp_path: Path, options: ExtractOptions) -> None:
    names = [name for name in NAMES if not name.endswith("mouth")]
    told = estimate(corpus, tmp_path / "store", names, options)
    backbones = load_backbones(names, Compute(CPU, torch.float32, "test"), options.sampling)
    store = FeatureStore.open(tmp_path / "store", create=True)
    run = replace(options, n_workers=0)
    Extraction(corpus, store, augmented(backbones, options.augment, 0), CPU, run, "run").run()
    for alias, size in told.bytes_.items():
        specs = [spec for spec in store.specs() if spec.alias.partition("+")[0] == alias]
        came = sum(int(np.sum(store.index(spec).n_steps)) * (2 * spec.dim + 8) for spec in specs)
        # Views are counted by their share of all items, and a draw may shorten a sound: some room for both.
        assert size == pytest.approx(came, rel=0.35 if options.augment else 0.1), alias
    assert estimate(corpus, tmp_path / "store", names, options).cached["toy-picture/frame"] == 3


def size(corpus: Manifest, name: str, **changes) -> int:
    told = estimate(corpus, Path("nowhere"), [name], ExtractOptions(**changes))
    return next(iter(told.bytes_.values()))


def test_layers_and_tokens_multiply_the_size(corpus: Manifest) -> None:
    steps = size(corpus, "hubert-base") // (768 * 2 + 8)
    assert size(corpus, "hubert-base", outputs=Outputs.parse("all")) == steps * (13 * 768 * 2 + 8)
    frames = size(corpus, "clip-vit-b32") // (512 * 2 + 8)
    # Tokens come without the projection.
    assert size(corpus, "clip-vit-b32", outputs=Outputs.parse("last", "cls,mean,grid4")) == frames * (18 * 768 * 2 + 8)


def test_mouths_come_at_the_rate_of_the_film_or_slower(corpus: Manifest, make_video: Callable) -> None:
    seconds = 120 / 25 + 40 / 25
    assert size(corpus, "toy-picture/mouth") == pytest.approx(seconds * 25 * (32 * 2 + 8), rel=0.1)


def test_faces_bring_their_geometry(corpus: Manifest, tmp_path: Path) -> None:
    told = estimate(corpus, tmp_path / "store", ["toy-picture/face"], ExtractOptions())
    assert set(told.bytes_) == {"toy-picture/face", "face-geometry/face"}


def test_missing_weights_are_told_and_do_not_stop_it(corpus: Manifest, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    options = ExtractOptions(weights_dir=tmp_path / "none")
    told = estimate(corpus, tmp_path / "store", ["dinov2-s", "lfcc"], options)
    assert set(told.missing_weights) == {"dinov2-s/frame"}
    assert "Weights missing" in told.to_text()


def test_unknown_names_and_options_are_told(corpus: Manifest, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean"):
        estimate(corpus, tmp_path, ["dinov2s"], ExtractOptions())
    with pytest.raises(UsageError, match="none of lfcc has layers"):
        estimate(corpus, tmp_path, ["lfcc"], ExtractOptions(outputs=Outputs.parse("all")))
    assert CARDS["lfcc"].n_layers == 0
