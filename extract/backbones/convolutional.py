"""Convolutional networks: ConvNeXt, EfficientNet and the rest of timm on frames, torchvision's 3D ResNets on clips.

Kept is the globally averaged map before the classifier, with the norm that follows it where the net has one.
"""

import json
from collections.abc import Mapping
from typing import Any

import safetensors.torch
import timm
import torch
from torchvision.models import video

from mmdf.cache.errors import UsageError, WeightsError
from mmdf.extract.backbones.base import Backbone, LoadContext
from mmdf.extract.backbones.cards import NORMS
from mmdf.extract.backbones.pictures import PictureBackbone
from mmdf.extract.backbones.preprocess import Recipe
from mmdf.extract.backbones.pretrained import shared
from mmdf.extract.backbones.tokens import TokenLayout, check_tokens, read_map, read_tokens

_RECIPE_KEYS = ("input_size", "crop_pct", "crop_mode", "interpolation", "mean", "std")


def load_timm(context: LoadContext) -> Backbone:
    """A timm model by its architecture's name; the recipe is timm's own for these weights.

    ConvNeXt: Liu et al. 2022; EfficientNet: Tan and Le 2019. Transformers of timm work too; their plain embedding is
    what timm pools before its classifier.

    Raises
    ------
    UsageError
        If timm does not know the name, or the model has not the tokens that are asked for.
    WeightsError
        If the file holds anything but the model's tensors, or the model wants pictures padded.
    """
    card = context.card
    model = shared(context, ("timm", card.architecture), lambda: _timm_model(context))
    layout = _layout(context)
    outputs = context.outputs
    prefix = int(getattr(model, "num_prefix_tokens", 0))
    tokens = TokenLayout(prefix, getattr(model, "cls_token", None) is not None, default="mean")
    check_tokens(outputs, tokens, card.name)

    def embed(pixels: torch.Tensor) -> torch.Tensor:
        pixels = pixels.contiguous(memory_format=layout)
        if not outputs.tokens:
            return model(pixels)
        found = model.forward_features(pixels)
        if found.ndim == 3:
            return read_tokens(found, outputs.tokens, tokens).flatten(1)
        plain = model.forward_head(found, pre_logits=True)
        return read_map(_channels_first(found, model.num_features), plain, outputs.tokens).flatten(1)

    dim = int(model.num_features if outputs.tokens else getattr(model, "head_hidden_size", model.num_features))
    # In convolutional nets it is a module.
    pooling = {"token": "cls", "map": "attention"}.get(str(getattr(model, "global_pool", "")), "mean of map")
    return PictureBackbone(context, _timm_recipe(context, model), embed, dim=dim, pooling=pooling)


def _timm_model(context: LoadContext) -> Any:
    card = context.card
    try:
        model = timm.create_model(card.architecture, pretrained=False, pretrained_cfg_overlay=_published(context))
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"timm has no model '{card.architecture}' ({error}).") from error
    head = tuple(f"{name}." for name in _classifiers(model))
    tensors = load_tensors(context)
    if card.package:
        tensors = _by_order(context, model, tensors)
    model.reset_classifier(0)
    fill(context, model, {name: tensor for name, tensor in tensors.items() if not name.startswith(head)})
    model = model.eval().requires_grad_(False).to(context.device, context.dtype)
    return model.to(memory_format=_layout(context))


def _published(context: LoadContext) -> dict[str, Any]:
    """What config.json beside the weights says of their pictures: a name without a tag leaves that open."""
    try:
        found = json.loads((context.folder / "config.json").read_text())["pretrained_cfg"]
        return {name: found[name] for name in _RECIPE_KEYS if found.get(name) is not None}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _layout(context: LoadContext) -> torch.memory_format:
    # Half again as fast on CPUs, measured on EfficientNet-lite0; slower on GPUs (timm's benchmark of EfficientNet-B4).
    return torch.channels_last if context.device.type == "cpu" else torch.contiguous_format


def load_video_resnet(context: LoadContext) -> Backbone:
    """A 3D ResNet trained on Kinetics-400, globally averaged over time and space (Tran et al. 2018, R3D and R(2+1)D).

    Frames are resized to 128 x 171 px as in its training, whatever their shape and without a low-pass, and cut to
    112 px; clips have 16 frames.
    """
    model = shared(context, ("video-resnet", context.card.architecture), lambda: _video_resnet(context))
    outputs = context.outputs
    check_tokens(outputs, TokenLayout(0, False), context.card.name)

    def embed(clips: torch.Tensor) -> torch.Tensor:
        clips = clips.transpose(1, 2)
        if not outputs.tokens:
            return model(clips)
        found = model.layer4(model.layer3(model.layer2(model.layer1(model.stem(clips)))))
        return read_map(found.mean(2), found.mean((2, 3, 4)), outputs.tokens).flatten(1)

    # torchvision.models.video.R3D_18_Weights.KINETICS400_V1.transforms()
    recipe = Recipe(128, 112, "bilinear", *NORMS["kinetics"], resize_width_px=171, antialias=False)
    return PictureBackbone(context, recipe, embed, dim=512, pooling="mean of map")


def _video_resnet(context: LoadContext) -> Any:
    model = getattr(video, context.card.architecture)(weights=None)
    model.fc = torch.nn.Identity()
    tensors = load_tensors(context)
    fill(context, model, {name: tensor for name, tensor in tensors.items() if not name.startswith("fc.")})
    return model.eval().requires_grad_(False).to(context.device, context.dtype)


def load_tensors(context: LoadContext) -> dict[str, torch.Tensor]:
    """Tensors by name from safetensors, or from a .pth through torch's `weights_only`. Raises `WeightsError`."""
    try:
        if context.file.suffix == ".safetensors":
            return safetensors.torch.load_file(context.file)
        return dict(torch.load(context.file, map_location="cpu", weights_only=True))
    # A damaged file surfaces as nearly anything, from a zip error to an unpickling error of torch's restricted reader.
    except Exception as error:
        raise WeightsError(
            f"{context.file} cannot be read as weights ({type(error).__name__}). Fetch it anew."
        ) from error


def fill(context: LoadContext, model: torch.nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put `tensors` into `model`, all of them and nothing left over. Raises `WeightsError` naming one that differs."""
    own = model.state_dict()
    # Counters of training steps are in some files and not in others, and change nothing.
    wrong = [name for name, t in own.items() if name not in tensors and not name.endswith("num_batches_tracked")]
    wrong += [name for name, t in tensors.items() if name not in own or own[name].shape != t.shape]
    if wrong:
        raise WeightsError(
            f"{context.file} does not hold the weights of '{context.card.name}': {len(wrong)} tensors are missing, "
            f"unknown or of another shape, {wrong[0]} for one. Fetch them anew."
        )
    model.load_state_dict(dict(tensors), strict=False)


def _by_order(context: LoadContext, model: Any, stored: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The package's tensors of EfficientNet-lite0 stand in timm's order under other names.

    Shapes are checked one by one, since an order is easily wrong.
    """
    own = model.state_dict()
    if [t.shape for t in stored.values()] != [t.shape for t in own.values()]:
        raise WeightsError(
            f"{context.file} does not hold the tensors of '{context.card.name}'. Install the package anew."
        )
    return dict(zip(own, stored.values(), strict=True))


def _classifiers(model: Any) -> tuple[str, ...]:
    names = model.pretrained_cfg.get("classifier") or ()
    return (names,) if isinstance(names, str) else tuple(names)


def _channels_first(map_: torch.Tensor, channels: int) -> torch.Tensor:
    # Swin and its kin keep channels last.
    return map_ if map_.shape[1] == channels else map_.permute(0, 3, 1, 2)


def _timm_recipe(context: LoadContext, model: Any) -> Recipe:
    data = timm.data.resolve_model_data_config(model)
    height, width = (int(px) for px in data["input_size"][1:])
    mode, interpolation = str(data["crop_mode"]), str(data["interpolation"])
    if height != width or mode not in ("center", "squash") or interpolation not in ("bilinear", "bicubic"):
        raise WeightsError(
            f"'{context.card.name}' wants {height} x {width} px, {interpolation}, crop mode {mode}, which is not known "
            "here. Write a plugin for it: docs/backbones.md."
        )
    resize_px = int(height / data["crop_pct"])
    mean, std = tuple(data["mean"]), tuple(data["std"])
    return Recipe(resize_px, height, interpolation, mean, std, resize_px if mode == "squash" else None)
