"""What a face detector finds, and what one is. numpy only; knows no network.

Coordinates are continuous pixels: the top left pixel covers 0 to 1, and x comes before y. Left and right are the
picture's, not the person's.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

LANDMARKS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")


@dataclass(frozen=True, eq=False)
class Face:
    """One face in one frame.

    Attributes
    ----------
    box
        (4,) float32: x0, y0, x1, y1 in px. May reach beyond the frame where the face does.
    confidence
        In (0, 1].
    landmarks
        (5, 2) float32 in px, in the order of `LANDMARKS`.
    """

    box: np.ndarray
    confidence: float
    landmarks: np.ndarray


class Detector(Protocol):
    """Finds faces in single frames, the same ones each time.

    Attributes
    ----------
    spec
        All that changes what is found, for fingerprints; JSON values only.
    """

    spec: dict[str, Any]

    def detect(self, frame: np.ndarray) -> list[Face]:
        """Faces in a frame (H, W, 3) uint8 RGB, most confident first."""
        ...


def check_frame(frame: np.ndarray) -> None:
    """Raise `ValueError` unless `frame` is (H, W, 3) uint8."""
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or 0 in frame.shape:
        raise ValueError(f"a frame must be (H, W, 3) uint8; this is {frame.shape} {frame.dtype}")
