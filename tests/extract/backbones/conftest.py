"""Tiny checkpoints with random weights, saved to disk as the libraries save them, and pictures and sound to look at."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from mmdf.extract.backbones.base import Backbone
from mmdf.extract.backbones.load import load_backbones
from mmdf.extract.device import Compute
from mmdf.extract.media.decode import Decoded
from mmdf.extract.media.sampling import DEFAULT_SAMPLING
from mmdf.extract.media.sound import Sound
from mmdf.extract.media.video import Frames
from mmdf.extract.outputs import Outputs
from mmdf.extract.views import Views, make_views

CPU = torch.device("cpu")
VIT = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 99}
SMALL = {"height": 64, "width": 64}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tiny models wait for their second thread most of the time, and for ever where another process has its core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def randomised() -> Callable[[torch.nn.Module], Any]:
    """Give every tensor of a model seeded random numbers, norms and running statistics too, and return it."""

    def randomise(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            # What is saved, so no masks that are made anew.
            for name, tensor in model.state_dict().items():
                if not tensor.is_floating_point():
                    continue
                noise = torch.randn(tensor.shape, generator=generator)
                if tensor.dim() > 1:
                    tensor.copy_(noise * (0.05 if tensor.dim() < 3 else math.sqrt(2 / tensor[0].numel())))
                elif name.endswith("running_var"):
                    tensor.copy_(1 + 0.2 * noise.abs())
                else:
                    tensor.add_(0.1 * noise)
        return model.eval()

    return randomise


@pytest.fixture(scope="session")
def load() -> Callable[..., Backbone]:
    """One backbone in float32, with layers, tokens and sampling as people would type them."""

    def load_one(
        name: str, weights_dir: Path | None = None, layers: str = "last", tokens: str = "", **sampling: Any
    ) -> Backbone:
        chosen = replace(DEFAULT_SAMPLING, **sampling)
        outputs = Outputs.parse(layers, tokens)
        return load_backbones([name], Compute(CPU, torch.float32, "test"), chosen, weights_dir, outputs=outputs)[0]

    return load_one


@pytest.fixture(scope="session")
def embed() -> Callable[[Backbone, Views], np.ndarray]:
    """What a backbone gives for the rows of one item."""

    def embed_rows(backbone: Backbone, views: Views) -> np.ndarray:
        with torch.inference_mode():
            return backbone.forward(backbone.rows(views).inputs).numpy()

    return embed_rows


@pytest.fixture(scope="session")
def pictures() -> Callable[..., Views]:
    """Frames as photographs have them, smooth with fine noise on top; clips of 16 of them where asked for."""

    def make(n_frames: int = 2, height: int = 300, width: int = 400, clips: int = 0, n_clip: int = 16) -> Views:
        rng = np.random.default_rng(0)
        n = max(n_frames, n_clip * clips)
        coarse = rng.integers(0, 256, (n, 12, 16, 3), dtype=np.uint8)
        smooth = [np.asarray(Image.fromarray(c).resize((width, height), Image.Resampling.BICUBIC)) for c in coarse]
        pixels = np.clip(np.stack(smooth) + rng.normal(0, 8, (n, height, width, 3)), 0, 255).astype(np.uint8)
        rows = np.arange(n_clip * clips).reshape(clips, n_clip)
        return make_views(Decoded(Frames(pixels, np.arange(n) / 25, np.arange(n_frames), rows, np.arange(n))), CPU)

    return make


@pytest.fixture(scope="session")
def sound() -> Callable[..., Views]:
    """A sound that differs from one moment to the next."""

    def make(duration_s: float, voiced: tuple[int, int] | None = None) -> Views:
        rng = np.random.default_rng(1)
        t = np.arange(round(duration_s * 16000)) / 16000
        samples = 0.1 * np.sin(2 * np.pi * (200 + 60 * t) * t) + 0.02 * rng.standard_normal(len(t))
        return make_views(Decoded(sound=Sound(samples.astype(np.float32), 16000, voiced=voiced)), CPU)

    return make


def siglip() -> transformers.PreTrainedModel:
    vision = VIT | {"image_size": 64, "patch_size": 16}
    return transformers.SiglipModel(transformers.SiglipConfig(text_config=TEXT, vision_config=vision))


def clip() -> transformers.PreTrainedModel:
    text, vision = TEXT | {"bos_token_id": 1, "eos_token_id": 2}, VIT | {"image_size": 64, "patch_size": 16}
    return transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24))


def vit() -> transformers.PreTrainedModel:
    return transformers.ViTModel(transformers.ViTConfig(**VIT, image_size=64, patch_size=16))


def timesformer() -> transformers.PreTrainedModel:
    config = transformers.TimesformerConfig(**VIT, image_size=64, patch_size=16, num_frames=16)
    return transformers.TimesformerModel(config)


def videomae() -> transformers.PreTrainedModel:
    return transformers.VideoMAEModel(transformers.VideoMAEConfig(**VIT, image_size=64, patch_size=16))


def convnext() -> transformers.PreTrainedModel:
    return transformers.ConvNextV2Model(
        transformers.ConvNextV2Config(hidden_sizes=[8, 12, 16, 24], depths=[1, 1, 1, 1])
    )


def resnet() -> transformers.PreTrainedModel:
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 24], depths=[1, 1], layer_type="basic")
    return transformers.ResNetModel(config)


def swin() -> transformers.PreTrainedModel:
    config = transformers.SwinConfig(embed_dim=8, depths=[1, 1], num_heads=[1, 2], image_size=64, window_size=4)
    return transformers.SwinModel(config)


HUB: dict[str, tuple[Callable[[], transformers.PreTrainedModel], Any]] = {
    "vit": (vit, transformers.ViTImageProcessor(size=SMALL)),
    "siglip": (siglip, transformers.SiglipImageProcessor(size=SMALL)),
    "clip": (clip, transformers.CLIPImageProcessor(size={"shortest_edge": 64}, crop_size=SMALL)),
    "convnext": (convnext, transformers.ConvNextImageProcessor(size={"shortest_edge": 64})),
    "resnet": (resnet, transformers.ConvNextImageProcessor(size={"shortest_edge": 64}, crop_pct=0.9)),
    "swin": (swin, transformers.ViTImageProcessor(size=SMALL)),
    "videomae": (videomae, transformers.VideoMAEImageProcessor(size={"shortest_edge": 64}, crop_size=SMALL)),
    "timesformer": (timesformer, transformers.VideoMAEImageProcessor(size={"shortest_edge": 64}, crop_size=SMALL)),
}


@pytest.fixture(scope="module")
def save(randomised) -> Callable[..., tuple[transformers.PreTrainedModel, Any]]:
    """Save a model of `HUB`, or one that is made by a function, with a processor; and return the two."""

    def save_model(
        folder: Path, what: str | Callable, processor: Any = None
    ) -> tuple[transformers.PreTrainedModel, Any]:
        make, usual = HUB[what] if isinstance(what, str) else (what, None)
        model, processor = randomised(make()), processor or usual
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        return model, processor

    return save_model
