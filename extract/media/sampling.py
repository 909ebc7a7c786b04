"""Which frames and windows of a file are looked at. Uniform means uniform: spread over all of it, however long."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mmdf.cache.errors import UsageError
from mmdf.cache.registry import Registry

NO_FACE_POLICIES = ("skip", "frame")
FACE_DETECTORS: Registry = Registry(
    "face detector",
    {
        "mtcnn": "mmdf.extract.faces.detect:FaceDetector",
        "retinaface": "mmdf.extract.faces.retinaface:RetinaFaceDetector",
    },
)


@dataclass(frozen=True)
class Sampling:
    """How many steps a file gives, and at which times. Part of every feature's spec.

    Attributes
    ----------
    frames
        Single frames a video, spread evenly.
    frame_rate_hz
        Instead of `frames`: as many frames a second as this.
    clips, clip_frames, clip_rate_hz
        Short clips a video, spread evenly, each of so many frames at about that rate. 12.5 Hz is every second frame
        of common film: fast enough for the flicker between frames that manipulation leaves.
    window_s, window_hop_s
        Windows of sound for speech models.
    steps_hz
        Steps a second that speech models give within their windows; None is one a window.
    face_margin, no_face
        Side of a face crop over the longer side of the face's box; and what a picture without a face gives: nothing
        ("skip"), or its whole frame ("frame").
    face_detector
        What finds faces: one of `FACE_DETECTORS`.
    mouth_rate_hz, mouth_max_s
        Mouth crops a second, and for how long in the middle of longer videos.
    """

    frames: int = 16
    frame_rate_hz: float | None = None
    clips: int = 4
    clip_frames: int = 16
    clip_rate_hz: float = 12.5
    window_s: float = 4.0
    window_hop_s: float = 2.0
    steps_hz: float | None = None
    face_margin: float = 1.3
    no_face: str = "skip"
    face_detector: str = "mtcnn"
    mouth_rate_hz: float = 25.0
    mouth_max_s: float = 20.0

    def __post_init__(self) -> None:
        if self.no_face not in NO_FACE_POLICIES:
            known = " or ".join(NO_FACE_POLICIES)
            raise UsageError(f"Pictures without a face can be handled by {known}, not '{self.no_face}'.")

        FACE_DETECTORS.check(self.face_detector)

    def of_view(self, view: str) -> dict[str, Any]:
        """The part of the sampling that a view depends on, for its spec. What is None is left out."""
        frames = ("frame_rate_hz",) if self.frame_rate_hz else ("frames",)
        clips, faces = ("clips", "clip_frames", "clip_rate_hz"), ("face_margin", "no_face", "face_detector")
        windows = ("window_s", "window_hop_s", "steps_hz")
        fields = {
            "frame": frames,
            "face": (*frames, *faces),
            "mouth": ("mouth_rate_hz", "mouth_max_s", "face_detector"),
            "clip": clips,
            "face-clip": (*clips, *faces),
            "speech": windows,
            "speech-trimmed": windows,
            "sound": (),
            "sound-trimmed": (),
        }
        values = asdict(self)
        return {name: values[name] for name in fields[view] if values[name] is not None}


DEFAULT_SAMPLING = Sampling()


def uniform_indices(n_total: int, n_wanted: int) -> np.ndarray:
    """Centres of `n_wanted` equal stretches of `n_total` frames, (n,) int64, ascending, without repeats.

    A clip shorter than `n_wanted` gives every frame once.
    """
    n = min(n_total, n_wanted)
    return ((2 * np.arange(n, dtype=np.int64) + 1) * n_total) // (2 * max(n, 1))


def rate_indices(n_total: int, rate_hz: float, wanted_hz: float, max_s: float | None = None) -> np.ndarray:
    """The frames nearest to a clock of `wanted_hz`, (n,) int64, ascending; in the middle `max_s` of a longer video.

    Frames are never repeated: a video slower than the clock gives each of its frames once.
    """
    duration_s = n_total / rate_hz
    kept_s = min(duration_s, max_s or duration_s)
    first_s = (duration_s - kept_s) / 2
    n = max(1, round(kept_s * wanted_hz))
    centres_s = first_s + (np.arange(n) + 0.5) / wanted_hz
    # A clock that strikes where two frames meet must not waver between them by the last bit of a float.
    return np.unique(np.clip(np.floor(centres_s * rate_hz + 1e-6).astype(np.int64), 0, n_total - 1))


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


def step_times(starts: np.ndarray, window: int, n_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Which steps of overlapping windows are kept, where each window of `window` samples gives `n_steps`.

    A step belongs to the window in which it stands nearer to the middle: two neighbours share their overlap in half.

    Returns
    -------
    begins
        (steps,) int64, first sample of every step that is kept, ascending.
    pick
        (steps,) int64, its place among all steps of all windows.
    """
    begins = starts[:, None] + np.round(np.arange(n_steps) * (window / n_steps)).astype(np.int64)
    centres = begins + window / n_steps / 2
    borders = (starts[1:] + starts[:-1] + window) / 2
    low = np.concatenate([[-np.inf], borders])[:, None]
    high = np.concatenate([borders, [np.inf]])[:, None]
    pick = np.flatnonzero((centres >= low) & (centres < high))
    return begins.ravel()[pick], pick
