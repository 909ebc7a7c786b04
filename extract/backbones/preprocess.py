"""Pictures to model inputs on the device: resize, centre crop, normalise, in the backbone's own recipe.

Equals the model library's own processor (tests hold it against them). Everything but the normalisation stays uint8,
as there, so that rounding happens in the same places.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

_INTERPOLATION = {2: InterpolationMode.BILINEAR, 3: InterpolationMode.BICUBIC}


@dataclass(frozen=True)
class Recipe:
    """How pixels become inputs.

    Attributes
    ----------
    resize_px
        Length of the shorter side after resizing with antialiasing.
    crop_px
        Side of the square that is cut from the middle.
    interpolation
        "bilinear" or "bicubic".
    mean, std
        Of the channels R, G, B in [0, 1].
    """

    resize_px: int
    crop_px: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def to_spec(self) -> dict[str, Any]:
        """As it stands in a feature spec; lists, since JSON has no tuples."""
        values = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}
        return values | {"where": "torchvision tensor, antialiased"}

    @staticmethod
    def of_processor(processor: Any) -> "Recipe":
        """Read the recipe off a transformers image processor."""
        size, crop = processor.size, processor.crop_size
        return Recipe(
            resize_px=int(size["shortest_edge"] if "shortest_edge" in size else size["height"]),
            crop_px=int(crop["height"]),
            interpolation=_INTERPOLATION[int(processor.resample)].value,
            mean=tuple(float(v) for v in processor.image_mean),
            std=tuple(float(v) for v in processor.image_std),
        )


def prepare(pixels: torch.Tensor, recipe: Recipe, dtype: torch.dtype) -> torch.Tensor:
    """(n, 3, H, W) uint8 to (n, 3, crop_px, crop_px) of `dtype`. The normalisation itself runs in float32."""
    resized = functional.resize(
        pixels, [recipe.resize_px], interpolation=InterpolationMode(recipe.interpolation), antialias=True
    )
    cropped = functional.center_crop(resized, [recipe.crop_px, recipe.crop_px]).to(torch.float32)
    mean = torch.tensor(recipe.mean, device=pixels.device).view(1, 3, 1, 1) * 255
    std = torch.tensor(recipe.std, device=pixels.device).view(1, 3, 1, 1) * 255
    return ((cropped - mean) / std).to(dtype)
