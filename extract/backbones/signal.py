"""Signal-level features, which need no weights: LFCC and log-mel of sound, the spectrum of pictures, motion of clips.

Their rows are the features themselves, in float32; `forward` has nothing left to do.
"""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
import torchaudio

from mmdf.extract.backbones.base import Backbone, LoadContext, Rows, make_spec
from mmdf.extract.views import SOUND_RATE_HZ, Views

_WINDOW, _HOP = 400, 160
_FLOOR = 1e-6
_POWER_FLOOR = 1e-10
_MOTION_SIDE_PX = 112
_MOTION_MAPS = ("difference", "flow", "residual", "divergence", "curl")
MOTION_NAMES = (*(f"{what}_{how}" for what in _MOTION_MAPS for how in ("mean", "std", "p95")), "coherence")


class SignalBackbone:
    """A function from views to (n, dim) features and their times."""

    def __init__(
        self,
        context: LoadContext,
        compute: Callable[[Views], tuple[torch.Tensor, np.ndarray]],
        *,
        pooling: str,
        preprocessing: dict[str, Any],
        hop_s: float | None = None,
    ) -> None:
        self._compute = compute
        self.spec = make_spec(
            context,
            dim=context.card.dim,
            layers="none",
            pooling=pooling,
            preprocessing=preprocessing,
            hop_s=hop_s,
            signal=True,
        )

    def rows(self, views: Views) -> Rows:
        """The finished features, (n, dim) float32."""
        return Rows(*self._compute(views))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, dim), as it came."""
        return inputs


def _sound(views: Views) -> torch.Tensor:
    if views.sound is None:
        raise ValueError("the view was not decoded")
    return views.sound


def _times_s(views: Views, n_steps: int) -> np.ndarray:
    return views.sound_start_s + np.arange(n_steps) * (_HOP / SOUND_RATE_HZ)


def _spectral(context: LoadContext, transform: torch.nn.Module, finish: Callable, **preprocessing: Any) -> Backbone:
    transform = transform.to(context.device)

    def compute(views: Views) -> tuple[torch.Tensor, np.ndarray]:
        found = finish(transform(_sound(views))).T.contiguous()
        return found, _times_s(views, len(found))

    preprocessing |= {"rate_hz": SOUND_RATE_HZ, "window": _WINDOW, "hop": _HOP}
    return SignalBackbone(context, compute, pooling="none", preprocessing=preprocessing, hop_s=_HOP / SOUND_RATE_HZ)


def load_lfcc(context: LoadContext) -> Backbone:
    """Linear-frequency cepstra: 20 coefficients of 70 filters with first and second differences, (T, 60) at 100 Hz.

    Sahidullah et al. 2015, section 2.1, with the 70 filters of ASVspoof 2021's baseline, so that speech recorded at
    8 kHz still fills half of them; that baseline's windows are 30 ms where these are 25 ms.
    """
    options = {"n_fft": 1024, "win_length": _WINDOW, "hop_length": _HOP}
    lfcc = torchaudio.transforms.LFCC(SOUND_RATE_HZ, n_filter=70, n_lfcc=20, speckwargs=options)
    # torchaudio cuts at 80 dB below the peak, which hides the noise floor of 16-bit sound, where vocoders show.
    lfcc.amplitude_to_DB = torchaudio.transforms.AmplitudeToDB("power", top_db=None)

    def with_differences(cepstra: torch.Tensor) -> torch.Tensor:
        first = torchaudio.functional.compute_deltas(cepstra)
        return torch.cat([cepstra, first, torchaudio.functional.compute_deltas(first)])

    return _spectral(
        context, lfcc, with_differences, n_fft=1024, filters=70, coefficients=20, deltas=2, floor=_POWER_FLOOR
    )


def load_logmel(context: LoadContext) -> Backbone:
    """Natural logarithm of 80 mel bands of power, floored at 1e-10, below the noise of 16 bits; (T, 80) at 100 Hz."""
    mel = torchaudio.transforms.MelSpectrogram(SOUND_RATE_HZ, n_fft=512, win_length=_WINDOW, hop_length=_HOP, n_mels=80)
    return _spectral(
        context, mel, lambda power: power.clamp(min=_POWER_FLOOR).log(), n_fft=512, bands=80, floor=_POWER_FLOOR
    )


def load_spectrum(context: LoadContext) -> Backbone:
    """Azimuthal average of the log power spectrum of luminance, 128 bins up to the Nyquist frequency, (n, 128).

    Durall et al. 2020, section 3.1. We differ in measuring the radius as a share of each axis' Nyquist frequency, so
    that pictures of any size and shape give the same bins. Pictures are not resized first: resizing is a trace itself,
    which also means that a data set whose classes differ in size is separated by this feature for no good reason.
    """
    bins = context.card.dim

    def compute(views: Views) -> tuple[torch.Tensor, np.ndarray]:
        if views.frames is None:
            raise ValueError("the view was not decoded")
        return torch.stack([azimuthal_average(_luminance(f), bins) for f in views.frames]), views.frame_times_s

    return SignalBackbone(context, compute, pooling="azimuthal mean", preprocessing={"bins": bins, "floor": 1e-3})


def _luminance(pixels: torch.Tensor) -> torch.Tensor:
    """(..., 3, H, W) uint8 to (..., H, W) float32 in [0, 255], by ITU-R BT.601."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=pixels.device).view(3, 1, 1)
    return (pixels.float() * weights).sum(-3)


def azimuthal_average(grey: torch.Tensor, bins: int) -> torch.Tensor:
    """Mean log power in `bins` rings of equal width, (H, W) to (bins,). Corners beyond the Nyquist radius are left out.

    Rings of small pictures that hold no frequency take the value of their neighbour below.
    """
    height, width = grey.shape
    power = torch.fft.fft2(grey).abs().square() / (height * width)
    fy = torch.fft.fftfreq(height, device=grey.device).abs() * 2
    fx = torch.fft.fftfreq(width, device=grey.device).abs() * 2
    radius = torch.sqrt(fy[:, None] ** 2 + fx[None, :] ** 2)
    inside = radius <= 1
    ring = (radius[inside] * bins).long().clamp(max=bins - 1)
    total = torch.zeros(bins, device=grey.device).index_add_(0, ring, torch.log(power[inside] + 1e-3))
    count = torch.bincount(ring, minlength=bins)
    filled = torch.cummax(torch.where(count > 0, torch.arange(bins, device=grey.device), 0), 0).values
    return (total / count.clamp(min=1))[filled]


def load_motion(context: LoadContext) -> Backbone:
    """Statistics of change between neighbouring frames of a clip, (c * 15, 16): one step a pair of frames.

    Frame difference; magnitude, divergence and curl of DIS optical flow (Kroeger et al. 2016); and what is left after
    the earlier frame is warped by that flow; each as mean, standard deviation and 95th percentile, then the coherence
    of flow directions. Flow runs on the CPU, at 112 px for the shorter side.
    """
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)

    def compute(views: Views) -> tuple[torch.Tensor, np.ndarray]:
        if views.clips is None:
            raise ValueError("the view was not decoded")
        steps, times_s = [], []
        for clip, clip_times_s in zip(views.clips, views.clip_times_s, strict=True):
            grey = [_small(g) for g in _luminance(clip).round().to(torch.uint8).cpu().numpy()]
            for k in range(len(grey) - 1):
                steps.append(pair_statistics(grey[k], grey[k + 1], flow))
                times_s.append(clip_times_s[k])
        return torch.from_numpy(np.stack(steps)), np.array(times_s)

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
