"""One model in memory for all views of a backbone, and forward passes through `torch.compile`."""

import gc
import os
import shutil
from pathlib import Path

import pytest
import torch
import transformers

from mmdf.extract.backbones.load import load_backbones
from mmdf.extract.backbones.pretrained import _LOADED
from mmdf.extract.device import Compute
from mmdf.extract.media.sampling import DEFAULT_SAMPLING

CPU = torch.device("cpu")
FLOAT32 = Compute(CPU, torch.float32, "test")
TINY = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture
def weights(tmp_path: Path, randomised) -> Path:
    model = transformers.Dinov2Model(transformers.Dinov2Config(**TINY, image_size=56))
    randomised(model).save_pretrained(tmp_path / "dinov2-s")
    processor = transformers.BitImageProcessor(size={"shortest_edge": 64}, crop_size={"height": 56, "width": 56})
    processor.save_pretrained(tmp_path / "dinov2-s")
    return tmp_path


def test_views_share_a_model_that_is_freed_after_them(weights: Path, pictures) -> None:
    backbones = load_backbones(["dinov2-s", "dinov2-s/face", "dinov2-s/mouth"], FLOAT32, DEFAULT_SAMPLING, weights)
    digest = backbones[0].spec.weights_digest
    models = [model for key, model in _LOADED.items() if key[0] == digest]
    assert [b.spec.alias for b in backbones] == [
        "dinov2-s/frame", "dinov2-s/face", "dinov2-s/mouth", "face-geometry/face",
    ]  # fmt: skip
    assert len(models) == 1
    inputs = backbones[0].rows(pictures()).inputs
    with torch.inference_mode():
        before = [backbone.forward(inputs) for backbone in backbones[:3]]
        for parameter in models[0].parameters():
            parameter.mul_(1.5)
        after = [backbone.forward(inputs) for backbone in backbones[:3]]
    assert all(torch.equal(found, before[0]) for found in before)
    assert all(torch.equal(found, after[0]) for found in after)
    assert (after[0] - before[0]).abs().max() > 1e-2, "it is this model that runs"
    other = load_backbones(["dinov2-s"], Compute(CPU, torch.bfloat16, "test"), DEFAULT_SAMPLING, weights)
    assert sum(key[0] == digest for key in _LOADED) == 2
    del models, backbones, other, parameter
    gc.collect()
    assert not any(key[0] == digest for key in _LOADED)


@pytest.mark.slow
@pytest.mark.skipif(
    not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++")),
    reason="torch.compile needs a C++ compiler on CPUs, and there is none",
)
# Dynamo's remarks on transformers' code.
@pytest.mark.filterwarnings("ignore")
def test_compiled_equals_eager_for_batches_of_any_size(weights: Path, pictures) -> None:
    eager, compiled = (
        load_backbones(["dinov2-s"], FLOAT32, DEFAULT_SAMPLING, weights, compiled=names)[0] for names in ((), ("all",))
    )
    assert compiled.spec == eager.spec
    inputs = eager.rows(pictures(7)).inputs
    torch._dynamo.utils.counters.clear()
    with torch.inference_mode():
        for n in (4, 4, 3, 2, 7):
            difference = compiled.forward(inputs[:n]) - eager.forward(inputs[:n])
            assert difference.abs().max() < 1e-5
    # One for the first size and one for all others: a slice may end with any number of rows.
    assert 1 <= torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2
