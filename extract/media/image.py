"""Images by Pillow: one file to (H, W, 3) uint8 in sRGB order, upright. Knows nothing of models."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mmdf.cache.errors import MediaError
from mmdf.extract.media.limits import Limits, check_size

_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N", "I")


def image_size(path: Path, limits: Limits) -> tuple[int, int]:
    """Width and height in pixels from the header, checked against `limits`."""
    with _opened(path) as image:
        check_size(*image.size, limits)
        return image.size


def load_image(path: Path, limits: Limits) -> np.ndarray:
    """Decode an image to (H, W, 3) uint8.

    EXIF orientation is applied, transparency is laid over white, 16-bit grey keeps its high byte, CMYK and palettes
    become RGB, and of an animation the first frame is taken.

    Raises
    ------
    MediaError
        If it is no image, is truncated, or breaks `limits`. The size is checked before a pixel is decoded.
    """
    with _opened(path) as image:
        check_size(*image.size, limits)
        try:
            image.seek(0)
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
        except (OSError, SyntaxError, ValueError, EOFError, IndexError) as error:
            raise MediaError(f"the image is damaged or cut short ({error}). Fetch it anew.") from error


def _opened(path: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # Pillow only warns of a bomb up to twice its limit; for us it is one.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(path)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise MediaError(f"the header claims an absurd size ({error}). Scale the image down.", "probe") from error
    except UnidentifiedImageError as error:
        raise MediaError("this is not an image, whatever its name says.", "probe") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise MediaError(f"the image cannot be opened ({error}).", "probe") from error


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode == "F":
        raise ValueError("floating-point pixels; save it with 8 bits a channel")
    if image.mode in _SIXTEEN_BIT:
        grey = np.clip(np.asarray(image, dtype=np.int64) >> 8, 0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))
