"""Checkpoints have the published number of parameters, and load as weights do."""

from pathlib import Path

import pytest
import torch

from mmdf.cache.errors import UsageError
from mmdf.extract.backbones.load import load_backbones
from mmdf.extract.bench import checkpoints
from mmdf.extract.device import Compute
from mmdf.extract.media.sampling import DEFAULT_SAMPLING
from mmdf.extract.weights import digest_of

# Millions of the encoder, as `model.num_parameters()` gives them for the hub's weights.
PUBLISHED = {
    "clip-vit-b32": 87.8,
    "dinov2-s": 22.1,
    "wav2vec2-base": 94.4,
    "hubert-base": 94.4,
    "videomae-base": 86.2,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_full_size_is_the_published_one(name: str) -> None:
    # Without memory: what it holds is of no interest here.
    with torch.device("meta"):
        model, _ = checkpoints._MAKERS[name](False)
    assert model.num_parameters() / 1e6 == pytest.approx(PUBLISHED[name], abs=0.06)


def test_the_folder_serves_as_weights_and_is_the_same_every_time(tmp_path: Path) -> None:
    names = ["clip-vit-b32", "dinov2-s", "wav2vec2-base", "hubert-base", "videomae-base", "toy-picture"]
    folder = checkpoints.save_checkpoints(tmp_path / "a", names, tiny=True)
    assert sorted(path.name for path in folder.iterdir()) == sorted(names[:-1])
    again = checkpoints.save_checkpoints(tmp_path / "b", names[:1], tiny=True)
    file = Path("clip-vit-b32") / "model.safetensors"
    assert digest_of(folder / file) == digest_of(again / file)
    compute = Compute(torch.device("cpu"), torch.float32, "test")
    found = load_backbones(names, compute, DEFAULT_SAMPLING, folder)
    # Not the cards' numbers, which are those of the published weights.
    assert [backbone.spec.dim for backbone in found] == [24, 32, 32, 32, 32, 32]


def test_a_net_of_timm_is_saved_whole_and_keeps_the_size_of_what_goes_through(tmp_path: Path) -> None:
    checkpoints.save_checkpoints(tmp_path, ["efficientnet-b0"], tiny=True)
    compute = Compute(torch.device("cpu"), torch.float32, "test")
    backbone = load_backbones(["efficientnet-b0"], compute, DEFAULT_SAMPLING, tmp_path)[0]
    with torch.inference_mode():
        found = backbone.forward(torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0)))
    assert found.shape == (1, 1280)
    assert found.abs().max() > 1e-6


def test_what_cannot_be_made_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot make a checkpoint of 'clip-vit-l14'"):
        checkpoints.save_checkpoints(tmp_path, ["clip-vit-l14"])
