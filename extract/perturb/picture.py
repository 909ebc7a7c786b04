"""Augmented pictures: pixels and a plan in, pixels out. Pillow and OpenCV; knows no files, no models, no chance.

Geometry first, then blur and colour, then JPEG: the order in which pictures meet them in the wild, where the last
thing that happens to a picture is that somebody uploads it.
"""

import io

import cv2
import numpy as np
from PIL import Image

from mmdf.extract.perturb.plan import PicturePlan

# libjpeg's own bound; what is larger in one direction stays as it is.
_JPEG_MAX_SIDE_PX = 65_500
# torchvision's luminance, whose weights sum to 0.9999.
_GREY = np.array([0.2989, 0.587, 0.114])
_HUE_CIRCLE = 360.0


def perturb_frames(pixels: np.ndarray, plan: PicturePlan) -> np.ndarray:
    """Apply one plan to all frames alike, so that what a manipulation leaves over time survives.

    The crop is not scaled back to the size of the picture: every backbone resizes to its own input anyway, and a
    second interpolation would smear the high frequencies in which generators are seen.

    Parameters
    ----------
    pixels
        (n, H, W, 3) uint8, RGB; not changed.
    plan
        Its `time_offset` is the business of `timing.py`.

    Returns
    -------
    numpy.ndarray
        (n, H', W', 3) uint8, with H'/H and W'/W the square root of `plan.area`, to whole pixels.
    """
    if pixels.ndim != 4 or pixels.shape[3] != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"frames must be (n, H, W, 3) uint8, not {pixels.shape} {pixels.dtype}")
    top, left, height_px, width_px = crop_box(pixels.shape[1], pixels.shape[2], plan)
    seen = pixels[:, top : top + height_px, left : left + width_px]
    if plan.flip:
        seen = seen[:, :, ::-1]
    found = np.array(seen, order="C")
    if not found.size:
        return found
    if plan.blur_sigma_px is not None:
        for frame in found:
            frame[...] = cv2.GaussianBlur(frame, (0, 0), plan.blur_sigma_px)
    tone = _tone_table(found, plan)
    for frame in found:
        frame[...] = _coloured(frame, tone, plan)
        if plan.jpeg_quality is not None and max(height_px, width_px) <= _JPEG_MAX_SIDE_PX:
            frame[...] = _through_jpeg(frame, plan.jpeg_quality)
    return found


def crop_box(height_px: int, width_px: int, plan: PicturePlan) -> tuple[int, int, int, int]:
    """Top, left, height and width of the crop in pixels. Its aspect is the picture's, to whole pixels."""
    side = plan.area**0.5
    height, width = max(1, round(height_px * side)), max(1, round(width_px * side))
    # Shares of the room are below 1, so the number of places is one more than the room.
    return int(plan.top * (height_px - height + 1)), int(plan.left * (width_px - width + 1)), height, width


def _tone_table(frames: np.ndarray, plan: PicturePlan) -> np.ndarray:
    """Brightness, then contrast, as one table of 256 float32 levels.

    Each is torchvision.transforms.v2.functional's, clamped in between as there. We differ in the pivot of the contrast,
    the mean grey: it is that of all frames together, since one pivot a frame would add a flicker of its own.
    """
    brighter = np.clip(np.arange(256) * plan.brightness, 0, 255)
    count = np.zeros((3, 256))
    for frame in frames:
        count += [cv2.calcHist([frame], [channel], None, [256], [0, 256]).ravel() for channel in range(3)]
    pivot = _GREY @ (count @ brighter) / frames[..., 0].size
    return np.clip(brighter * plan.contrast + pivot * (1 - plan.contrast), 0, 255).astype(np.float32)


def _coloured(frame: np.ndarray, tone: np.ndarray, plan: PicturePlan) -> np.ndarray:
    """Tone, saturation and hue of one frame in float32, rounded once at the end. Saturation and hue as torchvision."""
    mix = plan.saturation * np.eye(3) + (1 - plan.saturation) * _GREY
    colour = cv2.transform(cv2.LUT(frame, tone), mix)
    np.clip(colour, 0, 255, out=colour)
    # OpenCV comes round the circle by itself, though only upwards: a turn back is the rest of the circle forwards.
    turned = cv2.add(cv2.cvtColor(colour, cv2.COLOR_RGB2HSV), (_HUE_CIRCLE * (plan.hue % 1.0), 0, 0, 0))
    return cv2.convertScaleAbs(cv2.cvtColor(turned, cv2.COLOR_HSV2RGB))


def _through_jpeg(frame: np.ndarray, quality: int) -> np.ndarray:
    """One save and load at 4:2:0, what cameras and platforms use."""
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return np.asarray(Image.open(file))
