"""The plain loop computes what we compute: a ratio of two different things would mean nothing."""

from pathlib import Path

import numpy as np
import pytest

from mmdf.cache.manifest import Manifest
from mmdf.cache.store import FeatureStore
from mmdf.extract.bench import media
from mmdf.extract.bench.checkpoints import save_checkpoints
from mmdf.extract.bench.plain import plain_model, plain_seconds, run_plain
from mmdf.extract.media.sampling import Sampling
from mmdf.extract.options import ExtractOptions
from mmdf.extract.run import run_extract

FRAMES = 4


def ours(folder: Path, manifest: Manifest, names: list[str], weights: Path) -> dict[str, np.ndarray]:
    options = ExtractOptions(weights, dtype="float32", n_workers=0, sampling=Sampling(frames=FRAMES))
    run_extract(manifest, folder / "store", names, options)
    store = FeatureStore.open(folder / "store")
    return {name: store.read(store.find(name), manifest).values.astype(np.float32) for name in names}


def plain(manifest: Manifest, names: list[str], weights: Path) -> list:
    files = [manifest.file(item) for item in manifest.items()]
    models = {name: plain_model(name, weights) for name in names}
    return run_plain(next(manifest.items()).modality, files, models, FRAMES)


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    assert ((found * expected).sum(1) / norms).min() > 0.999
    # Rows of one store tell their inputs apart, so being near the right one says something.
    centred = expected - expected.mean(0)
    assert ((found - expected.mean(0) - centred) ** 2).sum() < 0.05 * (centred**2).sum()


def test_images(tmp_path: Path) -> None:
    weights = save_checkpoints(tmp_path / "weights", ["clip-vit-b32"], tiny=True)
    manifest = media.images(tmp_path, 3, 300)
    found = ours(tmp_path, manifest, ["clip-vit-b32"], weights)
    assert_same(found["clip-vit-b32"], np.concatenate(plain(manifest, ["clip-vit-b32"], weights)))


def test_sounds(tmp_path: Path) -> None:
    weights = save_checkpoints(tmp_path / "weights", ["wav2vec2-base"], tiny=True)
    manifest = media.sounds(tmp_path, 2, 4.0, 7.0)
    expected = plain(manifest, ["wav2vec2-base"], weights)
    assert [len(windows) for windows in expected] == [1, 3]
    assert_same(ours(tmp_path, manifest, ["wav2vec2-base"], weights)["wav2vec2-base"], np.concatenate(expected))


def test_films_through_three_libraries(tmp_path: Path) -> None:
    names = ["clip-vit-b32", "dinov2-s", "efficientnet-lite0"]
    weights = save_checkpoints(tmp_path / "weights", names, tiny=True)
    manifest = media.films(tmp_path, 2, 0.7, 320, 240)
    expected = plain(manifest, names, weights)
    found = ours(tmp_path, manifest, names, weights)
    for name in names:
        assert_same(found[name], np.concatenate([film[name] for film in expected]))


@pytest.mark.slow
def test_it_is_timed_in_a_process_of_its_own(tmp_path: Path) -> None:
    weights = save_checkpoints(tmp_path / "weights", ["clip-vit-b32"], tiny=True)
    manifest = media.images(tmp_path, 2, 64)
    files = [manifest.file(item) for item in manifest.items()]
    assert 0 < plain_seconds("image", files, {"clip-vit-b32": weights}, FRAMES) < 60
