"""Pictures to model inputs on the device: resize, centre crop, normalise, in the backbone's own recipe.

Equals the model library's own processor (tests hold it against them). Everything but the normalisation stays uint8,
as there, so that rounding happens in the same places.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from mmdf.extract.views import Views

_INTERPOLATION = {2: InterpolationMode.BILINEAR, 3: InterpolationMode.BICUBIC}
# From this size on, ConvNeXt's processor squashes pictures where it would cut them.
_CONVNEXT_SQUASH_PX = 384


@dataclass(frozen=True)
class Recipe:
    """How pixels become inputs.

    Attributes
    ----------
    resize_px
        Length of the shorter side after resizing.
    crop_px
        Side of the square that is cut from the middle.
    interpolation
        "bilinear" or "bicubic".
    mean, std
        Of the channels R, G, B in [0, 1].
    resize_width_px
        Where given, frames are resized to `resize_px` x this, whatever their shape; else their shape is kept.
    antialias
        Whether pictures are low-passed before they are made smaller; a few models were trained without.
    crop_rounding
        Where the square begins if a margin cannot be halved: "down" in transformers, "even" in torchvision and timm.
    """

    resize_px: int
    crop_px: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize_width_px: int | None = None
    antialias: bool = True
    crop_rounding: str = "even"

    def to_spec(self) -> dict[str, Any]:
        """As it stands in a feature spec; lists, since JSON has no tuples."""
        values = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}
        if self.resize_width_px is None:
            del values["resize_width_px"]
        if self.crop_rounding == "even":
            del values["crop_rounding"]
        antialias = values.pop("antialias")
        return values | {"where": "torchvision tensor" + (", antialiased" if antialias else "")}

    @staticmethod
    def of_processor(processor: Any) -> "Recipe":
        """Read the recipe off a transformers image processor. Raises `ValueError` if it lacks a step, or has others."""
        for step in ("do_resize", "do_rescale", "do_normalize"):
            if not getattr(processor, step, True):
                raise ValueError(f"its {step} is false")
        # Sizes are mappings or objects; what is not said is None in the latter.
        size = {name: int(px) for name, px in dict(processor.size).items() if px}
        resize_px, width_px, crop_px = _sizes(processor, size)
        return Recipe(
            resize_px=resize_px,
            crop_px=crop_px,
            interpolation=_INTERPOLATION[int(processor.resample)].value,
            mean=tuple(float(v) for v in processor.image_mean),
            std=tuple(float(v) for v in processor.image_std),
            resize_width_px=width_px,
            crop_rounding="down",
        )


def _sizes(processor: Any, size: dict[str, int]) -> tuple[int, int | None, int]:
    """Height, width where the shape is not kept, and side of the square that is cut."""
    edge, crop_pct = size.get("shortest_edge"), getattr(processor, "crop_pct", None)
    if edge and crop_pct:
        return (int(edge / crop_pct), None, edge) if edge < _CONVNEXT_SQUASH_PX else (edge, edge, edge)
    if getattr(processor, "do_center_crop", None):
        crop = {name: int(px) for name, px in dict(processor.crop_size).items() if px}
        if crop["height"] != crop["width"]:
            raise ValueError(f"it cuts {crop['height']} x {crop['width']} px, which is no square")
        return edge or size["height"], None if edge else size["width"], crop["height"]
    if edge or size["height"] != size["width"]:
        raise ValueError("its pictures are not square")
    return size["height"], size["width"], size["height"]


def prepare(pixels: torch.Tensor, recipe: Recipe, dtype: torch.dtype) -> torch.Tensor:
    """(n, 3, H, W) uint8 to (n, 3, crop_px, crop_px) of `dtype`. The normalisation itself runs in float32."""
    return normalised(resized(pixels, recipe), recipe, dtype)


def resized(pixels: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """(n, 3, H, W) uint8 to the same, resized as the recipe says."""
    size = [recipe.resize_px] if recipe.resize_width_px is None else [recipe.resize_px, recipe.resize_width_px]
    mode = InterpolationMode(recipe.interpolation)
    return functional.resize(pixels, size, interpolation=mode, antialias=recipe.antialias)


def normalised(pixels: torch.Tensor, recipe: Recipe, dtype: torch.dtype) -> torch.Tensor:
    """The square in the middle of (n, 3, h, w) uint8, scaled by mean and standard deviation, in `dtype`."""
    side = recipe.crop_px
    if recipe.crop_rounding == "down":
        top, left = ((length - side) // 2 for length in pixels.shape[-2:])
        cropped = functional.crop(pixels, top, left, side, side).to(torch.float32)
    else:
        cropped = functional.center_crop(pixels, [side, side]).to(torch.float32)
    mean = torch.tensor(recipe.mean, device=pixels.device).view(1, 3, 1, 1) * 255
    std = torch.tensor(recipe.std, device=pixels.device).view(1, 3, 1, 1) * 255
    return ((cropped - mean) / std).to(dtype)


def prepared(views: Views, view: str, recipe: Recipe, dtype: torch.dtype) -> torch.Tensor:
    """The pictures of a view as inputs, (n, 3, S, S) or (c, frames, 3, S, S); each step is taken once an item.

    CLIP, DINOv2 and the convolutional nets resize a frame to a few sizes only, and of a film of full height that costs
    more than a small backbone's forward pass.
    """
    small = (view, recipe.resize_px, recipe.resize_width_px, recipe.interpolation, recipe.antialias)
    ready = (view, recipe, dtype)
    if ready not in views.made:
        pixels = views.pictures(view).pixels
        flat = pixels.flatten(0, -4)
        if small not in views.made:
            views.made[small] = resized(flat, recipe)
        done = normalised(views.made[small], recipe, dtype)
        views.made[ready] = done.view(*pixels.shape[:-3], *done.shape[1:])
    return views.made[ready]
