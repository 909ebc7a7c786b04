"""Temporal jitter: which frames of a video an augmented view looks at. Index arithmetic; decodes nothing.

The union of the indices of all views is what one decode has to read.
"""

import math

import numpy as np

from mmdf.extract.media.sampling import Sampling, clip_indices


def jittered_indices(n_total: int, n_wanted: int, time_offset: float) -> np.ndarray:
    """`sampling.uniform_indices`, moved by a share of the spacing; (n,) int64, ascending, without repeats.

    With `time_offset` from -0.5 to 0.5 each frame stays inside its own stretch of the video, and 0 moves nothing.
    """
    n = max(1, min(n_total, n_wanted))
    stretch = np.arange(min(n_total, n_wanted), dtype=np.int64)
    moved = np.floor((2 * stretch + 1) * n_total / (2 * n) + time_offset * n_total / n).astype(np.int64)
    last = -(-(stretch + 1) * n_total // n) - 1
    return np.minimum(moved, last)


def jittered_clip_indices(n_total: int, rate_hz: float, sampling: Sampling, time_offset: float) -> np.ndarray:
    """`sampling.clip_indices`, each clip moved within its share of the video; (clips, clip_frames) int64.

    -0.5 puts a clip at the beginning of its share, 0.5 at its end, 0 leaves it in the middle. Clips still do not
    overlap. A clip that fills its share has no room and stays.
    """
    clips = clip_indices(n_total, rate_hz, sampling)
    if not len(clips):
        return clips
    span = int(clips[0, -1] - clips[0, 0]) + 1
    moved = math.floor(time_offset * (n_total // len(clips) - span) + 0.5)
    edge = np.arange(len(clips) + 1) * n_total // len(clips)
    starts = np.clip(clips[:, 0] + moved, edge[:-1], edge[1:] - span)
    return clips - clips[:, :1] + starts[:, None]
