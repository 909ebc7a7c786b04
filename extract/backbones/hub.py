"""Any encoder that transformers' `AutoModel` opens, by its hub id: `hf:ORG/NAME`. No code from the hub is ever run.

Where the families with a card of their own know how a model is built, this one looks at what it answers.
"""

from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoModel

from mmdf.cache.errors import MmdfError, UsageError, WeightsError
from mmdf.extract.backbones.base import Backbone, LoadContext
from mmdf.extract.backbones.pictures import (
    MOVING,
    PictureBackbone,
    Transformer,
    black,
    load_recipe,
    transformer_backbone,
)
from mmdf.extract.backbones.preprocess import Recipe
from mmdf.extract.backbones.pretrained import first_line, pretrained
from mmdf.extract.backbones.speech import load_speech
from mmdf.extract.backbones.tokens import TokenLayout, check_tokens, read_map
from mmdf.extract.outputs import PLAIN

Run = Callable[[torch.Tensor, bool], Any]


def load_hf(context: LoadContext) -> Backbone:
    """A speech, picture or clip encoder, told by its configuration.

    The plain embedding of a picture is `get_image_features` of two-tower models, else `pooler_output`, else the mean of
    all patches. Which of them it was stands in the feature's spec.

    Raises
    ------
    UsageError
        If it has not the layers or tokens that are asked for.
    WeightsError
        If the model cannot be run on pictures alone, or its answer has none of these.
    """
    if context.card.stream == "sound":
        return load_speech(context)
    model = pretrained(context, AutoModel)
    _check_frames(context, model.config)
    recipe = load_recipe(context)
    try:
        with torch.inference_mode():
            return _read(context, model, recipe)
    except MmdfError:
        raise
    # Models of other kinds fail in as many ways as there are kinds.
    except Exception as error:
        raise WeightsError(
            f"'{context.card.name}' cannot be run on a {context.card.view} alone ({first_line(error)}). "
            "Write a plugin for it: docs/backbones.md."
        ) from error


def _check_frames(context: LoadContext, config: Any) -> None:
    wanted = getattr(config, "num_frames", None)
    if context.card.view in MOVING and wanted != context.sampling.clip_frames:
        raise WeightsError(f"{context.folder} looks at {wanted} frames; clips have {context.sampling.clip_frames}.")


def _read(context: LoadContext, model: Any, recipe: Recipe) -> Backbone:
    two_towers = hasattr(model, "get_image_features")
    tower = model.vision_model if two_towers else model
    probe = black(context, recipe)

    def run(pixels: torch.Tensor, hidden: bool) -> Any:
        return tower(pixel_values=pixels, output_hidden_states=hidden)

    if two_towers and context.outputs == PLAIN:

        def features(pixels: torch.Tensor) -> torch.Tensor:
            found = model.get_image_features(pixel_values=pixels)
            return found if isinstance(found, torch.Tensor) else found.pooler_output

        return PictureBackbone(context, recipe, features, dim=_width(features(probe)), pooling="image features")
    answer = run(probe, True)
    if answer.last_hidden_state.ndim == 4:
        return _convolutional(context, recipe, run, answer)
    return transformer_backbone(context, recipe, _transformer(context, tower, run, answer, recipe.crop_px))


def _transformer(context: LoadContext, tower: Any, run: Run, answer: Any, crop_px: int) -> Transformer:
    config, last = tower.config, answer.last_hidden_state
    layout = _layout(config, last.shape[1], crop_px)
    # CLIP's towers normalise the class token alone.
    bare = hasattr(tower, "post_layernorm") and torch.equal(answer.hidden_states[-1], last)
    pooled = getattr(answer, "pooler_output", None) is not None
    return Transformer(
        run=run,
        plain=lambda found: found.pooler_output if pooled else found.last_hidden_state[:, layout.prefix :].mean(1),
        final=lambda found: tower.post_layernorm(found.last_hidden_state) if bare else found.last_hidden_state,
        layout=layout,
        dim=_width(answer.pooler_output) if pooled else int(last.shape[-1]),
        width=int(last.shape[-1]),
        pooling="pooler" if pooled else "mean of tokens",
    )


def _layout(config: Any, n_tokens: int, crop_px: int) -> TokenLayout:
    """Where the patches are among the tokens, from the size of one patch."""
    size: Any = getattr(config, "patch_size", None) or getattr(config, "tubelet_size", None)
    side = crop_px // int(size if isinstance(size, int) else size[-1])
    patches = side * side
    if n_tokens < patches:
        # Nets that merge patches on the way, such as Swin, have no tokens before them.
        return TokenLayout(0, False, default="mean")
    prefix, times = n_tokens % patches, n_tokens // patches
    return TokenLayout(
        prefix, prefix > 0, times, "cls" if prefix else "mean", time_last=config.model_type == "timesformer"
    )


def _convolutional(context: LoadContext, recipe: Recipe, run: Run, answer: Any) -> Backbone:
    tokens, name = context.outputs.tokens, context.card.name
    check_tokens(context.outputs, TokenLayout(0, False), name)
    if context.outputs.layers != "last":
        raise UsageError(f"--layers {context.outputs.layers}: '{name}' is convolutional and has none to choose from.")
    pooled = getattr(answer, "pooler_output", None) is not None

    def embed(pixels: torch.Tensor) -> torch.Tensor:
        found = run(pixels, False)
        map_ = found.last_hidden_state
        plain = found.pooler_output.flatten(1) if pooled else map_.mean((2, 3))
        return read_map(map_, plain, tokens).flatten(1) if tokens else plain

    dim = int(answer.last_hidden_state.shape[1])
    if pooled and not tokens:
        dim = _width(answer.pooler_output.flatten(1))
    return PictureBackbone(context, recipe, embed, dim=dim, pooling="pooler" if pooled else "mean of map")


def _width(found: torch.Tensor) -> int:
    if found.ndim != 2:
        raise ValueError(f"its features have the shape {tuple(found.shape)}")
    return int(found.shape[1])
