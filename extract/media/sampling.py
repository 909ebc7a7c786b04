"""Which frames of a clip are looked at. Uniform means uniform: spread over the whole clip, whatever its length."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Sampling:
    """How many steps a clip gives. Part of every picture feature's spec.

    Attributes
    ----------
    frames
        Single frames a clip, spread evenly.
    clips, clip_frames, clip_rate_hz
        Short clips a video, spread evenly, each of so many frames at about that rate. 12.5 Hz is every second frame
        of common film: fast enough for the flicker between frames that manipulation leaves.
    window_s, window_hop_s
        Windows of sound for speech models.
    """

    frames: int = 16
    clips: int = 4
    clip_frames: int = 16
    clip_rate_hz: float = 12.5
    window_s: float = 4.0
    window_hop_s: float = 2.0

    def of_view(self, view: str) -> dict[str, Any]:
        """The part of the sampling that a view depends on, for its spec."""
        fields = {
            "frame": ("frames",),
            "clip": ("clips", "clip_frames", "clip_rate_hz"),
            "speech": ("window_s", "window_hop_s"),
            "sound": (),
        }
        return {name: asdict(self)[name] for name in fields[view]}


DEFAULT_SAMPLING = Sampling()


def uniform_indices(n_total: int, n_wanted: int) -> np.ndarray:
    """Centres of `n_wanted` equal stretches of `n_total` frames, (n,) int64, ascending, without repeats.

    A clip shorter than `n_wanted` gives every frame once.
    """
    n = min(n_total, n_wanted)
    return ((2 * np.arange(n, dtype=np.int64) + 1) * n_total) // (2 * max(n, 1))


def clip_indices(n_total: int, rate_hz: float, sampling: Sampling) -> np.ndarray:
    """Frame numbers of the short clips, (clips, clip_frames) int64; (0, clip_frames) if none fits.

    The stride is the whole number of frames nearest to `clip_rate_hz`, made smaller where the video is too short for
    it. Clips do not overlap; as many are taken as fit, at most `sampling.clips`.
    """
    length = sampling.clip_frames
    stride = max(1, round(rate_hz / sampling.clip_rate_hz))
    while stride > 1 and (length - 1) * stride + 1 > n_total:
        stride -= 1
    span = (length - 1) * stride + 1
    n = min(sampling.clips, n_total // span)
    # Each clip stands in the middle of its share of the video.
    starts = [(n_total * (2 * i + 1) // n - span) // 2 for i in range(n)]
    return np.array([[start + stride * k for k in range(length)] for start in starts], np.int64).reshape(n, length)


def window_starts(n_samples: int, window: int, hop: int) -> np.ndarray:
    """First samples of equal windows, (n,) int64. The last window ends with the sound, so nothing is padded or lost.

    Sound shorter than a window gives one window, shorter than the others.
    """
    if n_samples <= window:
        return np.zeros(1, np.int64)
    starts = np.arange(0, n_samples - window + 1, hop, dtype=np.int64)
    tail = n_samples - window
    return starts if starts[-1] == tail else np.append(starts, tail)
