"""Vision transformers on frames or clips, by transformers: CLIP, DINOv2 (with registers too), VideoMAE."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    AutoImageProcessor,
    CLIPVisionModelWithProjection,
    Dinov2Model,
    Dinov2WithRegistersModel,
    VideoMAEModel,
)

from mmdf.cache.errors import WeightsError
from mmdf.extract.backbones.base import Backbone, LoadContext, Rows, make_spec
from mmdf.extract.backbones.preprocess import Recipe, prepared
from mmdf.extract.backbones.pretrained import pretrained
from mmdf.extract.backbones.tokens import TokenLayout, check_tokens, read_tokens
from mmdf.extract.outputs import PLAIN
from mmdf.extract.views import Views

Embed = Callable[[torch.Tensor], torch.Tensor]
MOVING = ("clip", "face-clip")


class PictureBackbone:
    """A model on single frames, (n, 3, H, W) uint8, or on clips, (c, frames, 3, H, W) uint8.

    Parameters
    ----------
    embed
        Inputs to (n, dim), in the compute precision.
    dim
        Width of one plain embedding.
    """

    def __init__(
        self, context: LoadContext, recipe: Recipe, embed: Embed, *, dim: int, pooling: str, layers: str = "last"
    ) -> None:
        self._recipe, self._dtype, self._view = recipe, context.dtype, context.card.view
        self._embed = context.compiled(embed)
        self.spec = make_spec(context, dim=dim, layers=layers, pooling=pooling, preprocessing=recipe.to_spec())

    def rows(self, views: Views) -> Rows:
        """One row a frame, or one a clip at the time of its first frame."""
        shots = views.pictures(self._view)
        inputs = prepared(views, self._view, self._recipe, self._dtype)
        if self._view in MOVING:
            return Rows(inputs, shots.times_s[:, 0], shots.indices[:, 0])
        return Rows(inputs, shots.times_s, shots.indices)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, ...) to (n, dim) float32."""
        return self._embed(inputs).float()


@dataclass(frozen=True)
class Transformer:
    """How to read a vision transformer.

    Attributes
    ----------
    run
        Pixels and whether hidden states are wanted, to the library's output.
    plain
        That output to the embedding that the model's authors use, (n, dim).
    final
        That output to all tokens after the final LayerNorm, (n, tokens, width).
    dim, width
        Of the plain embedding, and of a token.
    """

    run: Callable[[torch.Tensor, bool], Any]
    plain: Callable[[Any], torch.Tensor]
    final: Callable[[Any], torch.Tensor]
    layout: TokenLayout
    dim: int
    width: int
    pooling: str


def transformer_backbone(context: LoadContext, recipe: Recipe, model: Transformer) -> Backbone:
    """A backbone that keeps the layers and tokens which the context asks for.

    Hidden states are as transformers gives them: 0 is what enters the first block, k what leaves block k, never
    normalised. `prenorm` is the last of them.
    """
    outputs, layout = context.outputs, model.layout
    if outputs == PLAIN:
        return PictureBackbone(
            context, recipe, lambda x: model.plain(model.run(x, False)), dim=model.dim, pooling=model.pooling
        )
    check_tokens(outputs, layout, context.card.name)
    numbers = outputs.layer_numbers(context.card.n_layers)

    def embed(pixels: torch.Tensor) -> torch.Tensor:
        found = model.run(pixels, outputs.layers != "last")
        if outputs.layers == "last":
            kept = [model.final(found)]
        else:
            kept = [found.hidden_states[number] for number in numbers or (-1,)]
        return torch.stack([read_tokens(tokens, outputs.tokens, layout) for tokens in kept], 1).flatten(1)

    return PictureBackbone(context, recipe, embed, dim=model.width, pooling=layout.default)


def load_recipe(context: LoadContext) -> Recipe:
    """The recipe in the folder's preprocessor_config.json. Raises `WeightsError`."""
    try:
        return Recipe.of_processor(AutoImageProcessor.from_pretrained(context.folder, local_files_only=True))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{context.folder} lacks a usable preprocessor_config.json ({error}). Fetch it.") from error


def load_clip(context: LoadContext) -> Backbone:
    """CLIP's image tower with its projection, as `encode_image`: what linear probes on CLIP are trained on.

    Radford et al. 2021, section 2.4; used so by Ojha et al. 2023 (UniversalFakeDetect). Layers and tokens come without
    the projection, at the width of the tower.
    """
    model = pretrained(context, CLIPVisionModelWithProjection)
    norm = model.vision_model.post_layernorm
    reading = Transformer(
        run=lambda pixels, hidden: model(pixel_values=pixels, output_hidden_states=hidden),
        plain=lambda found: found.image_embeds,
        final=lambda found: norm(found.last_hidden_state),
        layout=TokenLayout(1, True),
        dim=int(model.config.projection_dim),
        width=int(model.config.hidden_size),
        pooling="cls, projected",
    )
    return transformer_backbone(context, load_recipe(context), reading)


def load_dinov2(context: LoadContext) -> Backbone:
    """DINOv2's class token after the final LayerNorm, at the processor's 224 px (Oquab et al. 2023, section 7).

    With registers: Darcet et al. 2023; the four registers are never kept.
    """
    registers = context.card.name.endswith("-reg")
    model = pretrained(context, Dinov2WithRegistersModel if registers else Dinov2Model)
    dim = int(model.config.hidden_size)
    reading = Transformer(
        run=lambda pixels, hidden: model(pixel_values=pixels, output_hidden_states=hidden),
        plain=lambda found: found.last_hidden_state[:, 0],
        final=lambda found: found.last_hidden_state,
        layout=TokenLayout(1 + (int(model.config.num_register_tokens) if registers else 0), True),
        dim=dim,
        width=dim,
        pooling="cls",
    )
    return transformer_backbone(context, load_recipe(context), reading)


def load_videomae(context: LoadContext) -> Backbone:
    """VideoMAE's mean over all space-time tokens of a 16-frame clip (Tong et al. 2022, section 4)."""
    model = pretrained(context, VideoMAEModel)
    dim, wanted = int(model.config.hidden_size), int(model.config.num_frames)
    if wanted != context.sampling.clip_frames:
        raise WeightsError(f"{context.folder} looks at {wanted} frames; clips have {context.sampling.clip_frames}.")
    reading = Transformer(
        run=lambda pixels, hidden: model(pixel_values=pixels, output_hidden_states=hidden),
        plain=lambda found: found.last_hidden_state.mean(1),
        final=lambda found: found.last_hidden_state,
        layout=TokenLayout(0, False, wanted // int(model.config.tubelet_size), "mean"),
        dim=dim,
        width=dim,
        pooling="mean of tokens",
    )
    return transformer_backbone(context, load_recipe(context), reading)
