"""Motion of clips, from optical flow: no weights needed, and nothing that looks at single frames can know it."""

from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import torch

from mmdf.extract.backbones.base import Backbone, LoadContext, Rows
from mmdf.extract.backbones.signal import SignalBackbone, luminance
from mmdf.extract.views import Views

_FLOOR = 1e-6
_MOTION_SIDE_PX = 112
_MOTION_MAPS = ("difference", "flow", "residual", "divergence", "curl")
MOTION_NAMES = (*(f"{what}_{how}" for what in _MOTION_MAPS for how in ("mean", "std", "p95")), "coherence")


def load_motion(context: LoadContext) -> Backbone:
    """Statistics of change between neighbouring frames of a clip, (c * 15, 16): one step a pair of frames.

    Frame difference; magnitude, divergence and curl of DIS optical flow (Kroeger et al. 2016); and what is left after
    the earlier frame is warped by that flow; each as mean, standard deviation and 95th percentile, then the coherence
    of flow directions. Flow runs on the CPU, at 112 px for the shorter side.
    """
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)

    def compute(views: Views) -> Rows:
        shots = views.pictures(context.card.view)
        steps = []
        for clip in shots.pixels:
            grey = [_small(g) for g in luminance(clip).round().to(torch.uint8).cpu().numpy()]
            steps += [pair_statistics(before, after, flow) for before, after in pairwise(grey)]
        firsts = (np.ascontiguousarray(of[:, :-1]).ravel() for of in (shots.times_s, shots.indices))
        return Rows(torch.from_numpy(np.stack(steps)), *firsts)

    return SignalBackbone(
        context, compute, pooling="pair", preprocessing={"flow": "DIS fast", "side_px": _MOTION_SIDE_PX}
    )


def _small(grey: np.ndarray) -> np.ndarray:
    scale = _MOTION_SIDE_PX / min(grey.shape)
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def pair_statistics(before: np.ndarray, after: np.ndarray, flow: Any) -> np.ndarray:
    """Motion statistics of two grey frames (H, W) uint8, (16,) float32 in the order of `MOTION_NAMES`."""
    field = flow.calc(before, after, None)
    rows, columns = np.indices(before.shape, dtype=np.float32)
    # The flow says where each pixel of `before` went, so `after` is sampled there.
    warped = cv2.remap(
        after, columns + field[..., 0], rows + field[..., 1], cv2.INTER_LINEAR, None, cv2.BORDER_REPLICATE
    )
    du_dy, du_dx = np.gradient(field[..., 0])
    dv_dy, dv_dx = np.gradient(field[..., 1])
    magnitude = np.hypot(field[..., 0], field[..., 1])
    maps = (
        np.abs(after.astype(np.float32) - before) / 255,
        magnitude,
        np.abs(warped.astype(np.float32) - before) / 255,
        np.abs(du_dx + dv_dy),
        np.abs(dv_dx - du_dy),
    )
    found = [s for m in maps for s in (m.mean(), m.std(), np.percentile(m, 95))]
    coherence = np.hypot(field[..., 0].mean(), field[..., 1].mean()) / (magnitude.mean() + _FLOOR)
    return np.array([*np.log1p(found), coherence], np.float32)
