"""What happens to drawn frames before they are files: the camera, the spliced face, the encoder.

Knows nothing of labels or splits. Frames are (256, 256, 3) uint8, BGR.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from mmdf.cache.errors import DataError
from mmdf.extract.datasets.demo_figure import Performance, face_mask
from mmdf.extract.datasets.demo_layers import SIZE_PX

_SPARE_PX = 64
_SPLICE_PX = 184
_STRENGTH = 0.92
_AAC_SAMPLES = 1024
_JPEG_QUALITY = 92
_H264 = {"preset": "superfast", "crf": "22"}


@dataclass(frozen=True)
class Camera:
    """One camera: a tone curve a channel, (1, 256, 3) uint8, blur in pixels, and noise in grey levels."""

    curves: np.ndarray
    blur_px: float
    noise: float

    def develop(self, frame: np.ndarray) -> np.ndarray:
        """Lens, exposure and tint, without noise."""
        return cv2.LUT(cv2.GaussianBlur(frame, (5, 5), self.blur_px), self.curves)

    def shoot(self, frames: Sequence[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
        """Lens, exposure, tint and noise."""
        side = SIZE_PX + _SPARE_PX
        field = np.round(rng.standard_normal((side, side, 3), np.float32) * self.noise).astype(np.int16)
        shot = []
        for frame in frames:
            # Cutting one field at random places is ten times faster than new noise a frame.
            x, y = rng.integers(_SPARE_PX, size=2)
            noise = field[y : y + SIZE_PX, x : x + SIZE_PX]
            shot.append(np.clip(self.develop(frame) + noise, 0, 255).astype(np.uint8))
        return shot


def new_camera(rng: np.random.Generator) -> Camera:
    """A camera at random."""
    levels = np.linspace(0, 1, 256)
    gamma, gains = rng.uniform(0.85, 1.15), rng.uniform(0.93, 1.05, 3)
    curves = np.stack([np.clip(255 * gain * levels**gamma, 0, 255) for gain in gains], -1)
    return Camera(curves[None].astype(np.uint8), rng.uniform(0.4, 1.1), rng.uniform(1.5, 4.0))


def splice(
    frames: Sequence[np.ndarray], donors: Iterable[np.ndarray], performance: Performance, rng: np.random.Generator
) -> list[np.ndarray]:
    """Put the donor's inner face into every frame, as face-swapping software does.

    The face is made at a lower resolution and scaled up, put not quite in place, matched in mean and spread of each
    colour channel, and blended in through a soft mask.
    """
    size = (SIZE_PX, SIZE_PX)
    stretch, turn = rng.uniform(0.985, 1.015), rng.uniform(-0.012, 0.012)
    offset = rng.uniform(-1.2, 1.2, 2)
    spliced = []
    for number, (frame, donor) in enumerate(zip(frames, donors, strict=True)):
        small = cv2.resize(donor, (_SPLICE_PX, _SPLICE_PX), interpolation=cv2.INTER_AREA)
        matrix = cv2.getRotationMatrix2D((_SPLICE_PX / 2, _SPLICE_PX / 2), np.degrees(turn), stretch)
        matrix[:, 2] += offset + rng.normal(0, 0.15, 2)
        matrix *= SIZE_PX / _SPLICE_PX
        face = cv2.warpAffine(small, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        mask = face_mask(performance, number)
        matched = _match_colour(face, frame, mask > 0.5)
        weight = mask * _STRENGTH
        spliced.append(cv2.blendLinear(matched, frame, weight, 1 - weight))
    return spliced


def _match_colour(face: np.ndarray, frame: np.ndarray, inside: np.ndarray) -> np.ndarray:
    chosen = inside.astype(np.uint8)
    face_mean, face_spread = (moment[:3, 0] for moment in cv2.meanStdDev(face, mask=chosen))
    mean, spread = (moment[:3, 0] for moment in cv2.meanStdDev(frame, mask=chosen))
    gain = np.clip(spread / np.maximum(face_spread, 1), 0.6, 1.6)
    curve = np.arange(256)[:, None] * gain + mean - face_mean * gain
    return cv2.LUT(face, np.clip(curve, 0, 255).astype(np.uint8)[None])


def write_still(path: Path, frame: np.ndarray) -> None:
    """One JPEG."""
    done, data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not done:
        raise DataError(f"OpenCV could not encode {path}. Check that opencv-python-headless has JPEG support.")
    path.write_bytes(data.tobytes())


def write_clip(path: Path, frames: Sequence[np.ndarray], frame_rate_hz: int, samples: np.ndarray, rate_hz: int) -> None:
    """H.264 and AAC in MP4; one encoder thread, so that the bytes depend on nothing but the input."""
    with av.open(str(path), "w") as container:
        picture = container.add_stream("libx264", rate=frame_rate_hz, options=_H264)
        picture.width, picture.height, picture.pix_fmt = SIZE_PX, SIZE_PX, "yuv420p"
        picture.codec_context.thread_count = 1
        sound = container.add_stream("aac", rate=rate_hz, layout="mono", options={"aac_coder": "fast"})
        sound.bit_rate = 64_000
        for number, frame in enumerate(frames):
            image = av.VideoFrame.from_ndarray(frame, format="bgr24")
            image.pts, image.time_base = number, Fraction(1, frame_rate_hz)
            container.mux(picture.encode(image))
        for start in range(0, len(samples), _AAC_SAMPLES):
            block = np.ascontiguousarray(samples[None, start : start + _AAC_SAMPLES], np.float32)
            chunk = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
            chunk.sample_rate, chunk.pts, chunk.time_base = rate_hz, start, Fraction(1, rate_hz)
            container.mux(sound.encode(chunk))
        for stream in (picture, sound):
            container.mux(stream.encode(None))
