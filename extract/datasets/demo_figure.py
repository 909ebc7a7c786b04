"""A drawn talking head: who it is (`Figure`), how it moves (`Performance`), and one frame of it as pixels.

Knows nothing of sound, files, labels or forgeries. Lengths in the drawing are pixels of the doubled canvas.
"""

import functools
from dataclasses import dataclass

import cv2
import numpy as np

from mmdf.extract.datasets.demo_layers import (
    CANVAS_PX,
    CENTRE,
    SIZE_PX,
    WHITE,
    Colour,
    draw_head,
    draw_scene,
    fill,
    shade,
    spot,
    stroke,
)

_SKINS = ((196, 214, 240), (170, 196, 232), (140, 172, 216), (110, 146, 196), (78, 112, 160), (58, 84, 126))
_HAIRS = ((28, 26, 30), (34, 48, 70), (40, 72, 116), (96, 150, 196), (52, 66, 148), (150, 152, 156), (40, 34, 52))
_FRAME: Colour = (30, 30, 34)
_EYES = ((110, 70, 30), (60, 90, 40), (30, 50, 84), (24, 34, 54), (120, 110, 80))


@dataclass(frozen=True)
class Figure:
    """What one person looks like. Made by `new_figure`; layers that do not move are drawn once.

    Attributes
    ----------
    scene
        Wall and shoulders, (256, 256, 3) uint8.
    head
        Neck, hair and skin on the doubled canvas, (512, 512, 4) uint8; the last channel is the coverage.
    traits
        Lengths and ratios of the features by name.
    colours
        BGR by name.
    """

    scene: np.ndarray
    head: np.ndarray
    traits: dict[str, float]
    colours: dict[str, Colour]


@dataclass(frozen=True)
class Performance:
    """How a head moves: one value a frame, all arrays (T,) float64.

    `x_px, y_px` move the head, `roll_rad` tilts it, `zoom` scales it, `yaw` in [-1, 1] turns the features sideways,
    `blink` closes the eyes at 1, `gaze` in [-1, 1] turns the eyes, `opening` and `rounding` in [0, 1] shape the mouth.
    """

    x_px: np.ndarray
    y_px: np.ndarray
    roll_rad: np.ndarray
    zoom: np.ndarray
    yaw: np.ndarray
    blink: np.ndarray
    gaze: np.ndarray
    opening: np.ndarray
    rounding: np.ndarray

    def __len__(self) -> int:
        return len(self.x_px)


def new_figure(rng: np.random.Generator) -> Figure:
    """A person drawn at random."""
    skin = np.array(_SKINS[rng.integers(len(_SKINS))]) * rng.uniform(0.94, 1.04) + rng.uniform(-4, 4, 3)
    hair = np.array(_HAIRS[rng.integers(len(_HAIRS))]) * rng.uniform(0.9, 1.1, 3)
    colours = {
        "skin": skin,
        "hair": hair,
        "brow": hair * 0.75,
        "iris": np.array(_EYES[rng.integers(len(_EYES))]) * rng.uniform(0.9, 1.2, 3),
        "lip": skin * (0.78, 0.66, 0.88) + (0, 0, rng.uniform(4, 22)),
        "shirt": rng.uniform(30, 210, 3),
    }
    traits = {
        "half_width": rng.uniform(98, 118),
        "half_height": rng.uniform(136, 152),
        "jaw": rng.uniform(0.12, 0.34),
        "eye_x": rng.uniform(42, 50),
        "eye_y": rng.uniform(-26, -14),
        "eye_size": rng.uniform(20, 25),
        "brow_y": rng.uniform(26, 34),
        "brow_tilt": rng.uniform(-5, 6),
        "brow_width": rng.uniform(6, 11),
        "nose": rng.uniform(34, 50),
        "nose_width": rng.uniform(13, 21),
        "mouth_y": rng.uniform(66, 80),
        "mouth_width": rng.uniform(36, 47),
        "lip": rng.uniform(6, 11),
        "fringe": rng.uniform(0.46, 0.7),
        "hair_length": rng.choice([0.0, 0.0, 1.0, 1.0, 0.4]),
        "parting": rng.uniform(-0.5, 0.5),
        "glasses": float(rng.random() < 0.25),
        "stubble": float(rng.random() < 0.3) * rng.uniform(0.08, 0.2),
    }
    plain = {name: (float(c[0]), float(c[1]), float(c[2])) for name, c in colours.items()}
    return Figure(draw_scene(plain["shirt"], rng), draw_head(traits, plain, rng), traits, plain)


def pose_matrix(performance: Performance, frame: int) -> np.ndarray:
    """Affine map from the doubled canvas to the pixels of frame number `frame`, (2, 3) float64."""
    scale = 0.5 * performance.zoom[frame]
    sine, cosine = np.sin(performance.roll_rad[frame]) * scale, np.cos(performance.roll_rad[frame]) * scale
    turn = np.array([[cosine, -sine], [sine, cosine]])
    to = np.array([performance.x_px[frame], performance.y_px[frame]]) + (SIZE_PX / 2, SIZE_PX * 0.46)
    return np.column_stack([turn, to - turn @ CENTRE])


def face_mask(performance: Performance, frame: int) -> np.ndarray:
    """Soft mask of the inner face, brows to chin, (256, 256) float32 in [0, 1]."""
    return cv2.warpAffine(_inner_face(), pose_matrix(performance, frame), (SIZE_PX, SIZE_PX), flags=cv2.INTER_LINEAR)


@functools.cache
def _inner_face() -> np.ndarray:
    mask = np.zeros((CANVAS_PX, CANVAS_PX), np.uint8)
    spot(mask, np.array([256, 277]), (80, 84), WHITE)
    return cv2.GaussianBlur(mask, (0, 0), 10).astype(np.float32) / 255


def render(figure: Figure, performance: Performance, frame: int) -> np.ndarray:
    """One frame without camera noise, (256, 256, 3) uint8."""
    head = figure.head.copy()
    offset = CENTRE + (performance.yaw[frame] * 9, 0)
    _draw_nose(head, figure, offset)
    for side in (-1, 1):
        _draw_eye(head, figure, offset, side, performance.blink[frame], performance.gaze[frame])
    _draw_mouth(head, figure, offset, performance.opening[frame], performance.rounding[frame])
    # Colour reaches beyond the outline, so interpolation at the edge mixes no background in.
    matrix, size = pose_matrix(performance, frame), (SIZE_PX, SIZE_PX)
    warped = cv2.warpAffine(head, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    weight = warped[..., 3].astype(np.float32) / 255
    return cv2.blendLinear(cv2.cvtColor(warped, cv2.COLOR_BGRA2BGR), figure.scene, weight, 1 - weight)


def _draw_nose(canvas: np.ndarray, figure: Figure, offset: np.ndarray) -> None:
    traits, skin = figure.traits, figure.colours["skin"]
    tip = offset + (0, traits["eye_y"] + 22 + traits["nose"])
    wide = traits["nose_width"]
    bridge = np.array([[6, -traits["nose"]], [8, -16], [wide * 0.8, -3], [4, 3]])
    fill(canvas, tip + bridge, shade(skin, 0.93))
    wing = np.linspace(0.15 * np.pi, 0.85 * np.pi, 12)
    stroke(canvas, tip + np.column_stack([np.cos(wing) * wide, np.sin(wing) * 8 - 4]), shade(skin, 0.72), 3)
    for side in (-1, 1):
        centre = tip + (side * wide * 0.45, 1)
        spot(canvas, centre, (5, 3), shade(skin, 0.55))


def _draw_eye(canvas: np.ndarray, figure: Figure, offset: np.ndarray, side: int, blink: float, gaze: float) -> None:
    traits, colours = figure.traits, figure.colours
    centre = offset + (side * traits["eye_x"], traits["eye_y"])
    size = traits["eye_size"]
    across = np.linspace(-1, 1, 16)
    arch = 1 - across**2
    upper = centre + np.column_stack([across * size, -arch * size * 0.52 * (1 - blink) + arch * 4 * blink])
    lower = centre + np.column_stack([across * size, arch * size * 0.36 * (1 - 0.3 * blink)])
    _draw_eyeball(canvas, colours["iris"], centre + (gaze * 5, -1), size, np.vstack([upper, lower[::-1]]))
    stroke(canvas, lower, shade(colours["skin"], 0.8), 2)
    stroke(canvas, upper, shade(colours["hair"], 0.4), 4)
    stroke(canvas, upper - (0, 9), shade(colours["skin"], 0.78), 2)
    brow = centre + np.column_stack(
        [across * size * 1.2, -traits["brow_y"] - arch * 6 - across * side * traits["brow_tilt"] + blink * 2]
    )
    stroke(canvas, brow, colours["brow"], traits["brow_width"])
    if traits["glasses"]:
        spot(canvas, centre, (round(size * 1.5), round(size * 1.2)), _FRAME, 4)
        bridge = np.array([[size * 1.5, 0], [traits["eye_x"], -3]]) * (-side, 1)
        stroke(canvas, centre + bridge, _FRAME, 4)


def _draw_eyeball(canvas: np.ndarray, iris: Colour, pupil: np.ndarray, size: float, almond: np.ndarray) -> None:
    left, top = (int(v) for v in almond.min(0) - 4)
    right, bottom = (int(v) for v in almond.max(0) + 5)
    region = canvas[top:bottom, left:right]
    mask = np.zeros(region.shape[:2], np.uint8)
    fill(mask, almond - (left, top), WHITE)
    ball = np.full_like(region, 232)
    ball[..., 3] = 255
    centre = pupil - (left, top)
    spot(ball, centre, (round(size * 0.46),) * 2, iris)
    spot(ball, centre, (round(size * 0.22),) * 2, (12, 12, 14))
    spot(ball, centre - 4, (3, 3), (250, 250, 250))
    weight = (mask / 255.0)[..., None]
    region[:] = (ball * weight + region * (1 - weight)).astype(np.uint8)


def _draw_mouth(canvas: np.ndarray, figure: Figure, offset: np.ndarray, opening: float, rounding: float) -> None:
    traits, lip = figure.traits, figure.colours["lip"]
    centre = offset + (0, traits["mouth_y"] + opening * 4)
    half = traits["mouth_width"] * (1 - 0.3 * rounding) * (1 - 0.08 * opening)
    across = np.linspace(-1, 1, 25)
    arch = 1 - across**2
    x = across * half
    gap = opening * (17 + 5 * rounding)
    smile = 3 * across**2 * (1 - rounding) * -1
    inner_top = np.column_stack([x, smile - arch * gap * 0.45])
    inner_low = np.column_stack([x, smile + arch * gap * 1.1])
    bow = traits["lip"] * (arch - 0.35 * np.exp(-((across / 0.16) ** 2)))
    outer_top = inner_top - np.column_stack([np.zeros_like(x), bow * 0.8])
    outer_low = inner_low + np.column_stack([np.zeros_like(x), traits["lip"] * arch * 1.15])
    fill(canvas, centre + np.vstack([outer_top, inner_top[::-1]]), shade(lip, 0.9))
    fill(canvas, centre + np.vstack([inner_low, outer_low[::-1]]), lip)
    fill(canvas, centre + np.vstack([inner_top, inner_low[::-1]]), (34, 22, 48))
    if gap > 3:
        teeth = np.minimum(inner_top[:, 1] + 6 * arch, inner_low[:, 1])
        fill(canvas, centre + np.vstack([inner_top[3:-3], np.column_stack([x, teeth])[3:-3][::-1]]), (222, 228, 232))
        tongue = np.maximum(inner_low[:, 1] - 7 * arch**2, inner_top[:, 1] + 6)
        fill(canvas, centre + np.vstack([np.column_stack([x, tongue])[6:-6], inner_low[6:-6][::-1]]), (88, 74, 168))
    stroke(canvas, centre + inner_top, shade(lip, 0.55), 2)
    stroke(canvas, centre + outer_low[6:-6] + (0, 5), shade(figure.colours["skin"], 0.84), 3)
