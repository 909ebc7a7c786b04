"""Any encoder that transformers' `AutoModel` opens, by its hub id: `hf:ORG/NAME`. No code from the hub is ever run."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModel

from mmdf.cache.errors import WeightsError
from mmdf.extract.backbones.base import Backbone, LoadContext
from mmdf.extract.backbones.pictures import PictureBackbone, Transformer, load_recipe, transformer_backbone
from mmdf.extract.backbones.pretrained import pretrained
from mmdf.extract.backbones.speech import load_speech
from mmdf.extract.backbones.tokens import TokenLayout, read_map
from mmdf.extract.outputs import PLAIN


def load_hf(context: LoadContext) -> Backbone:
    """A speech, picture or clip encoder, told by its configuration.

    The plain embedding of a picture is `get_image_features` of two-tower models, else `pooler_output`, else the mean of
    all patches. Which of them it was stands in the feature's spec.

    Raises
    ------
    WeightsError
        If the model's answer has none of these.
    """
    if context.card.stream == "sound":
        return load_speech(context)
    model = pretrained(context, AutoModel)
    config = AutoConfig.from_pretrained(context.folder, local_files_only=True)
    recipe = load_recipe(context)
    two_towers = hasattr(model, "get_image_features")
    frames = () if context.card.view not in ("clip", "face-clip") else (context.sampling.clip_frames,)
    probe = torch.zeros(1, *frames, 3, recipe.crop_px, recipe.crop_px, dtype=context.dtype, device=context.device)
    tower = model.vision_model if two_towers else model

    def run(pixels: torch.Tensor, hidden: bool) -> Any:
        return tower(pixel_values=pixels, output_hidden_states=hidden)

    if two_towers and context.outputs == PLAIN:

        def features(pixels: torch.Tensor) -> torch.Tensor:
            found = model.get_image_features(pixel_values=pixels)
            return found if isinstance(found, torch.Tensor) else found.pooler_output

        dim = _width(context, features, probe)
        return PictureBackbone(context, recipe, features, dim=dim, pooling="image features")
    with torch.inference_mode():
        answer = run(probe, False)
    final = answer.last_hidden_state
    if final.ndim == 4:
        return _convolutional(context, recipe, run, probe)
    patch = getattr(config, "vision_config", config).patch_size
    patches = (recipe.crop_px // int(patch)) ** 2
    prefix = final.shape[1] % patches if not frames else 0
    pooled = getattr(answer, "pooler_output", None) is not None
    reading = Transformer(
        run=run,
        plain=lambda found: found.pooler_output if pooled else found.last_hidden_state[:, prefix:].mean(1),
        final=lambda found: found.last_hidden_state,
        layout=TokenLayout(prefix, prefix > 0, max(1, final.shape[1] // patches), "cls" if prefix else "mean"),
        dim=int(answer.pooler_output.shape[-1] if pooled else final.shape[-1]),
        width=int(final.shape[-1]),
        pooling="pooler" if pooled else "mean of tokens",
    )
    return transformer_backbone(context, recipe, reading)


def _convolutional(context: LoadContext, recipe: Any, run: Any, probe: torch.Tensor) -> Backbone:
    tokens = context.outputs.tokens

    def embed(pixels: torch.Tensor) -> torch.Tensor:
        map_ = run(pixels, False).last_hidden_state
        plain = map_.mean((2, 3))
        return read_map(map_, plain, tokens).flatten(1) if tokens else plain

    with torch.inference_mode():
        dim = int(run(probe, False).last_hidden_state.shape[1])
    return PictureBackbone(context, recipe, embed, dim=dim, pooling="mean of map")


def _width(context: LoadContext, features: Any, probe: torch.Tensor) -> int:
    with torch.inference_mode():
        found = features(probe)
    if found is None or found.ndim != 2:
        raise WeightsError(f"'{context.card.name}' gives no image features that can be kept. Write a plugin for it.")
    return int(found.shape[1])
