"""The layers of a drawn person that do not move: scene and head, and the pens that all drawing uses.

Knows nothing of frames, poses or mouths. Everything is drawn at twice the size and halved, which smooths edges.
Colours are BGR as in OpenCV, 0 to 255; lengths are pixels of the doubled canvas.
"""

import cv2
import numpy as np

SIZE_PX = 256
CANVAS_PX = 512
CENTRE = np.array([256.0, 250.0])
# Fixed-point places of OpenCV's polygons: sixteenths of a pixel.
_SHIFT = 4
_LIGHT = np.array([-0.55, -0.45])
Colour = tuple[float, float, float]
WHITE: Colour = (255.0, 255.0, 255.0)


def _opaque(colour: Colour) -> tuple[float, float, float, float]:
    return (*colour, 255.0)


def fill(canvas: np.ndarray, points: np.ndarray, colour: Colour) -> None:
    """Fill a polygon, points (n, 2) in pixels; on a mask the first number of `colour` counts."""
    fixed = np.round(points * (1 << _SHIFT)).astype(np.int32)
    cv2.fillPoly(canvas, [fixed], _opaque(colour), cv2.LINE_AA, _SHIFT)


def stroke(canvas: np.ndarray, points: np.ndarray, colour: Colour, width_px: float) -> None:
    """Draw an open line through points (n, 2) in pixels."""
    fixed = np.round(points * (1 << _SHIFT)).astype(np.int32)
    cv2.polylines(canvas, [fixed], False, _opaque(colour), max(1, round(width_px)), cv2.LINE_AA, _SHIFT)


def spot(canvas: np.ndarray, centre: np.ndarray, half_axes: tuple[int, int], colour: Colour, line_px: int = -1) -> None:
    """Draw an upright ellipse, filled unless `line_px` gives the width of its line."""
    place = (round(centre[0]), round(centre[1]))
    cv2.ellipse(canvas, place, half_axes, 0, 0, 360, _opaque(colour), line_px, cv2.LINE_AA)


def shade(colour: Colour, factor: float) -> Colour:
    """A colour made darker or brighter."""
    return (min(colour[0] * factor, 255.0), min(colour[1] * factor, 255.0), min(colour[2] * factor, 255.0))


def _outline(traits: dict[str, float], grow: float = 1.0) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 90)
    x, y = np.cos(angle), np.sin(angle)
    x = x * np.where(y > 0, 1 - traits["jaw"] * y**2, 1)
    return CENTRE + np.column_stack([x * traits["half_width"], y * traits["half_height"]]) * grow


def _texture(shape: tuple[int, int], sigma_px: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise of zero mean and unit deviation, float32."""
    field = cv2.GaussianBlur(rng.standard_normal(shape).astype(np.float32), (0, 0), sigma_px)
    return (field - field.mean()) / field.std()


def draw_scene(shirt: Colour, rng: np.random.Generator) -> np.ndarray:
    """A person's wall and shoulders, (256, 256, 3) uint8."""
    wall = _draw_background(rng).astype(np.float32)
    cloth, cover = _draw_shoulders(shirt, rng)
    return np.clip(wall * (1 - cover) + cloth * cover, 0, 255).astype(np.uint8)


def draw_head(traits: dict[str, float], colours: dict[str, Colour], rng: np.random.Generator) -> np.ndarray:
    """Neck, hair and skin without features, (512, 512, 4) uint8; the last channel is the coverage."""
    shape = (CANVAS_PX, CANVAS_PX)
    skin_mask = _skin_mask(traits)
    light = _light(traits, rng)
    skin = np.array(colours["skin"], np.float32) * light[..., None]
    strands = cv2.GaussianBlur(rng.standard_normal(shape).astype(np.float32), (0, 0), sigmaX=1.2, sigmaY=14)
    locks = (1 + 0.16 * strands / strands.std() - 0.12 * (light - 1))[..., None] * np.array(colours["hair"], np.float32)
    weight = (skin_mask.astype(np.float32) / 255 * (1 - _fringe(traits)))[..., None]
    colour = np.clip(locks * (1 - weight) + skin * weight, 0, 255).astype(np.uint8)
    return np.dstack([colour, np.maximum(_hair_mask(traits), skin_mask)])


def _hair_mask(traits: dict[str, float]) -> np.ndarray:
    mask = np.zeros((CANVAS_PX, CANVAS_PX), np.uint8)
    cap = _outline(traits, 1.13) - (0, 14)
    fill(mask, cap[cap[:, 1] < 262], WHITE)
    if traits["hair_length"]:
        low = 250 + traits["half_height"] * (0.55 + 0.55 * traits["hair_length"])
        wide = traits["half_width"] * 1.16
        curtain = np.array([[256 - wide, 240], [256 + wide, 240], [256 + wide * 0.98, low], [256 - wide * 0.98, low]])
        fill(mask, curtain, WHITE)
    return mask


def _skin_mask(traits: dict[str, float]) -> np.ndarray:
    mask = np.zeros((CANVAS_PX, CANVAS_PX), np.uint8)
    angle = np.linspace(0, np.pi, 20)
    collar = np.column_stack([256 + 62 * np.cos(angle), 436 + 34 * np.sin(angle)])
    neck = np.concatenate([np.array([[206.0, 320], [306, 320], [308, 410]]), collar, np.array([[204.0, 410]])])
    for points in (neck, _outline(traits)):
        fill(mask, points, WHITE)
    if traits["hair_length"] < 1:
        for side in (-1, 1):
            spot(mask, CENTRE + (side * (traits["half_width"] - 2), 4), (15, 27), WHITE)
    return mask


def _light(traits: dict[str, float], rng: np.random.Generator) -> np.ndarray:
    """Brightness of the skin around 1: light from the upper left, shadow below the chin, blush, pores, stubble."""
    y, x = np.mgrid[:CANVAS_PX, :CANVAS_PX].astype(np.float32)
    u = (x - CENTRE[0]) / traits["half_width"]
    v = (y - CENTRE[1]) / traits["half_height"]
    radius = np.minimum(u**2 + v**2, 1.6)
    light = 1.08 + 0.1 * (u * _LIGHT[0] + np.minimum(v, 1.1) * _LIGHT[1]) - 0.15 * np.minimum(radius, 1.25) ** 2
    chin = (u / (1 - traits["jaw"])) ** 2 + v**2
    light -= 0.2 * np.clip((chin - 0.96) * 4, 0, 1) * np.clip((v - 0.55) * 6, 0, 1) * np.clip(2.2 - v, 0.5, 1)
    light -= traits["stubble"] * np.exp(-(((v - 0.72) / 0.3) ** 2)) * (0.8 + 0.2 * _texture(x.shape, 1.0, rng))
    for side in (-1, 1):
        light += 0.05 * np.exp(-(((u - side * 0.5) / 0.22) ** 2) - ((v - 0.22) / 0.16) ** 2)
        light -= 0.10 * np.exp(-(((u - side * 0.42) / 0.24) ** 2) - ((v + 0.16) / 0.1) ** 2)
    return light + 0.012 * _texture(x.shape, 1.5, rng) + 0.02 * _texture(x.shape, 18, rng)


def _fringe(traits: dict[str, float]) -> np.ndarray:
    """How much hair covers the forehead, (512, 512) float32 in [0, 1]."""
    mask = np.zeros((CANVAS_PX, CANVAS_PX), np.uint8)
    u = np.linspace(-1.2, 1.2, 60)
    line = 250 - traits["half_height"] * (traits["fringe"] - 0.32 * np.maximum(np.abs(u - traits["parting"]) - 0.25, 0))
    lower = np.column_stack([256 + u * traits["half_width"], line])
    fill(mask, np.vstack([lower, [[480.0, 0]], [[30.0, 0]]]), WHITE)
    return cv2.GaussianBlur(mask, (0, 0), 2.5).astype(np.float32) / 255


def _draw_shoulders(shirt: Colour, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Colour (256, 256, 3) and coverage (256, 256, 1), float32."""
    shape, size = (CANVAS_PX, CANVAS_PX), (SIZE_PX, SIZE_PX)
    folds = _texture(shape, 22, rng)[..., None] * 0.07 + _texture(shape, 1.2, rng)[..., None] * 0.03
    fade = np.linspace(1.1, 0.8, CANVAS_PX, dtype=np.float32)[None, :, None]
    cloth = np.array(shirt, np.float32) * fade * (1 + folds)
    cover = np.zeros(shape, np.uint8)
    top = rng.uniform(408, 424)
    half = np.array([[0, top + 26], [40, top + 4], [78, top], [150, top + 26], [205, top + 60], [232, 520]])
    fill(cover, np.vstack([half[::-1] * (-1, 1), half]) + (256, 0), WHITE)
    halved = cv2.resize(cover, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return cv2.resize(cloth, size, interpolation=cv2.INTER_AREA), halved[..., None]


def _draw_background(rng: np.random.Generator) -> np.ndarray:
    """A wall with a few boxes on it, out of focus."""
    shape = (SIZE_PX, SIZE_PX)
    wall = rng.uniform(80, 190) + rng.uniform(-30, 30, 3)
    canvas = np.full((*shape, 3), wall, np.uint8)
    for _ in range(rng.integers(4, 9)):
        corner = rng.uniform(-20, SIZE_PX - 20, 2)
        box = np.vstack([corner, corner + rng.uniform(24, 110, 2)])
        points = np.array([box[0], [box[1, 0], box[0, 1]], box[1], [box[0, 0], box[1, 1]]])
        paint = wall * rng.uniform(0.6, 1.25) + rng.uniform(-25, 25, 3)
        fill(canvas, points, (float(paint[0]), float(paint[1]), float(paint[2])))
    blurred = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(2.5, 5)).astype(np.float32)
    shading = 1 + 0.06 * _texture(shape, 30, rng) + 0.015 * _texture(shape, 1.5, rng)
    return np.clip(blurred * shading[..., None], 0, 255).astype(np.uint8)
