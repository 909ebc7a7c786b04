import numpy as np
import pytest
import timm
import torch
from PIL import Image

from mmdf.cache.errors import WeightsError
from mmdf.extract.backbones import card_of
from mmdf.extract.backbones.base import LoadContext
from mmdf.extract.backbones.convolutional import load_timm
from mmdf.extract.backbones.load import load_backbones
from mmdf.extract.device import Compute
from mmdf.extract.media.decode import Decoded
from mmdf.extract.media.sampling import DEFAULT_SAMPLING
from mmdf.extract.media.video import Frames
from mmdf.extract.views import make_views
from mmdf.extract.weights import find_weights

CPU = torch.device("cpu")


@pytest.fixture
def photograph() -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((400, 300), Image.Resampling.BICUBIC))
    return np.clip(smooth + rng.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8)


def test_embeddings_equal_timm_s_own_path(photograph: np.ndarray) -> None:
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    stored = torch.load(find_weights(card_of("efficientnet-lite0")), weights_only=True)
    model.load_state_dict(dict(zip(model.state_dict(), stored.values(), strict=True)))
    model.reset_classifier(0)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    with torch.inference_mode():
        expected = model.eval()(transform(Image.fromarray(photograph))[None])[0]
        backbone = load_backbones(["efficientnet-lite0"], Compute(CPU, torch.float32, "test"), DEFAULT_SAMPLING)[0]
        frames = Frames.single(photograph, 16)
        found = backbone.forward(backbone.rows(make_views(Decoded(frames), CPU)).inputs)[0]
    assert found.shape == (1280,)
    assert torch.nn.functional.cosine_similarity(found, expected, dim=0) > 0.999


def test_tensors_of_another_model_are_refused(tmp_path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "model.pth")
    context = LoadContext(
        card_of("efficientnet-lite0"), tmp_path / "model.pth", "digest", CPU, torch.float32, DEFAULT_SAMPLING
    )
    with pytest.raises(WeightsError, match="does not hold the tensors"):
        load_timm(context)
