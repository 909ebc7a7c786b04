"""Frames by decord, read forward once. Sound in the same file is read by sound.py.

decord's `skip_frames` and `next` give the same pixels as `get_batch`, faster, and never seek backwards.
"""

from dataclasses import dataclass
from pathlib import Path

import av
import decord
import numpy as np

from mmdf.cache.errors import MediaError
from mmdf.extract.media.limits import Limits, check_duration, check_size
from mmdf.extract.media.sampling import Sampling, clip_indices, uniform_indices


@dataclass(frozen=True)
class Frames:
    """The frames of one video that somebody asked for, each once.

    Attributes
    ----------
    pixels
        (n, H, W, 3) uint8, RGB.
    times_s
        (n,) float64, when each frame is shown.
    frame_rows
        Rows of `pixels` that make the view `frame`.
    clip_rows
        (clips, clip_frames) rows of `pixels` that make the view `clip`.
    """

    pixels: np.ndarray
    times_s: np.ndarray
    frame_rows: np.ndarray
    clip_rows: np.ndarray


@dataclass(frozen=True)
class VideoHeader:
    """What a container says of itself; any number may be a lie, so limits are checked again while decoding."""

    width_px: int
    height_px: int
    rate_hz: float
    duration_s: float
    has_sound: bool


def video_header(path: Path, limits: Limits) -> VideoHeader:
    """Read and check a container's header. Raises `MediaError` if it is no video or breaks `limits`."""
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise MediaError("it has no picture. Give it the modality 'audio' in the manifest.", "probe")
            stream = container.streams.video[0]
            header = VideoHeader(
                stream.codec_context.width,
                stream.codec_context.height,
                float(stream.average_rate or 0.0),
                float((container.duration or 0) / av.time_base),
                bool(container.streams.audio),
            )
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(f"this is not a video that can be read, whatever its name says ({error}).", "probe") from error
    check_size(header.width_px, header.height_px, limits)
    check_duration(header.duration_s, limits)
    return header


def load_frames(path: Path, sampling: Sampling, want_frames: bool, want_clips: bool, limits: Limits) -> Frames:
    """Decode the frames that the views need, in one pass forward.

    Raises
    ------
    MediaError
        If the video is damaged, empty, or breaks `limits`.
    """
    video_header(path, limits)
    try:
        reader = decord.VideoReader(str(path), num_threads=1)
        n_total, rate_hz = len(reader), float(reader.get_avg_fps())
        if n_total == 0 or not rate_hz > 0:
            raise MediaError("the video has no frames. Leave it out of the manifest.")
        check_duration(n_total / rate_hz, limits)
        frames = uniform_indices(n_total, sampling.frames) if want_frames else np.zeros(0, np.int64)
        empty = np.zeros((0, sampling.clip_frames), np.int64)
        clips = clip_indices(n_total, rate_hz, sampling) if want_clips else empty
        wanted = np.unique(np.concatenate([frames, clips.ravel()]))
        return Frames(
            _read_forward(reader, wanted),
            np.array([reader.get_frame_timestamp(int(i))[0] for i in wanted], np.float64),
            np.searchsorted(wanted, frames),
            np.searchsorted(wanted, clips),
        )
    except (decord.DECORDError, RuntimeError, StopIteration) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise MediaError(f"the video cannot be decoded ({reason[-1][:160]}). Is the file whole?") from error


def _read_forward(reader: decord.VideoReader, wanted: np.ndarray) -> np.ndarray:
    at = 0
    pixels = []
    for index in wanted.tolist():
        if index > at:
            reader.skip_frames(index - at)
        pixels.append(reader.next().asnumpy())
        at = index + 1
    return np.stack(pixels) if pixels else np.zeros((0, 1, 1, 3), np.uint8)
