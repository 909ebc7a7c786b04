"""Vision transformers on frames or clips, by transformers: CLIP, DINOv2 (with registers too), VideoMAE."""

from collections.abc import Callable, Sequence
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
from mmdf.extract.backbones.preprocess import Recipe, prepare, prepared
from mmdf.extract.backbones.pretrained import first_line, pretrained
from mmdf.extract.backbones.tokens import TokenLayout, check_tokens, read_tokens
from mmdf.extract.outputs import PLAIN
from mmdf.extract.views import Views

Embed = Callable[[torch.Tensor], torch.Tensor]
MOVING = ("clip", "face-clip")

# Fine and coarse waves, no symmetry and no square: a processor that differs in any step differs on it.
_ROWS, _COLUMNS = torch.arange(320.0)[:, None], torch.arange(470.0)
_STRIPES = torch.stack([128 + 120 * torch.sin(_ROWS / a + _COLUMNS / b) for a, b in ((2, 9), (31, 3), (70, 50))]).byte()
# Half a level of 8 bits is 0.01 here; Pillow and torchvision differ by less on average.
_RECIPE_TOLERANCE = 0.02


class PictureBackbone:
    """A model on single frames, (n, 3, H, W) uint8, or on clips, (c, frames, 3, H, W) uint8.

    Parameters
    ----------
    embed
        Inputs to (n, dim), in the compute precision.
    dim
        Width of one plain embedding.

    Raises
    ------
    UsageError
        If layers or tokens are asked for that the model has not: here, and not after the first file is decoded.
    """

    def __init__(
        self, context: LoadContext, recipe: Recipe, embed: Embed, *, dim: int, pooling: str, layers: str = "last"
    ) -> None:
        self._recipe, self._dtype, self._view = recipe, context.dtype, context.card.view
        self._embed = context.compiled(embed)
        self.spec = make_spec(context, dim=dim, layers=layers, pooling=pooling, preprocessing=recipe.to_spec())
        if context.outputs != PLAIN:
            with torch.inference_mode():
                embed(black(context, recipe))

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


def black(context: LoadContext, recipe: Recipe) -> torch.Tensor:
    """One black frame or clip as a model gets it, to learn what it gives."""
    frames = (context.sampling.clip_frames,) if context.card.view in MOVING else ()
    return torch.zeros(1, *frames, 3, recipe.crop_px, recipe.crop_px, dtype=context.dtype, device=context.device)


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

    Raises
    ------
    UsageError
        If it has not the tokens that are asked for.
    WeightsError
        If it has not as many layers as its card says.
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
            check_layers(context, found.hidden_states)
            kept = [found.hidden_states[number] for number in numbers or (-1,)]
        return torch.stack([read_tokens(tokens, outputs.tokens, layout) for tokens in kept], 1).flatten(1)

    return PictureBackbone(context, recipe, embed, dim=model.width, pooling=layout.default)


def check_layers(context: LoadContext, states: Sequence[torch.Tensor]) -> None:
    """`WeightsError` if a model has not the layers that its card promises, or none that can be stacked."""
    if len(states) != context.card.n_layers + 1 or len({state.shape[1:] for state in states}) > 1:
        raise WeightsError(
            f"{context.folder} holds {len(states) - 1} layers of {len({s.shape[1:] for s in states})} shapes; "
            f"--layers wants {context.card.n_layers} of one for '{context.card.name}'. Take --layers last."
        )


def load_recipe(context: LoadContext) -> Recipe:
    """The recipe in the folder's preprocessor_config.json, held against the processor itself.

    Raises
    ------
    WeightsError
        If there is none, or the processor does more than resize, cut a square and normalise.
    """
    try:
        processor = AutoImageProcessor.from_pretrained(context.folder, local_files_only=True, trust_remote_code=False)
        recipe = Recipe.of_processor(processor)
        expected = processor([_STRIPES], return_tensors="pt")["pixel_values"].flatten(0, -4)
    # A processor's own complaints are of any kind.
    except Exception as error:
        raise WeightsError(
            f"{context.folder} lacks a usable preprocessor_config.json ({first_line(error)}). Fetch it."
        ) from error
    found = prepare(_STRIPES[None], recipe, torch.float32)
    if found.shape != expected.shape or (found - expected).abs().mean() > _RECIPE_TOLERANCE:
        raise WeightsError(
            f"The processor in {context.folder} does more than resize, cut a square and normalise. "
            f"'{context.card.name}' needs a plugin: docs/backbones.md."
        )
    return recipe


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
