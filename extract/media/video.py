"""Frames by decord, read forward once. Sound in the same file is read by sound.py.

decord's `skip_frames` and `next` give the same pixels as `get_batch`, faster, and never seek backwards.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import decord
import numpy as np

from mmdf.cache.errors import MediaError
from mmdf.extract.media.limits import Limits, check_duration, check_size
from mmdf.extract.media.sampling import Sampling, rate_indices
from mmdf.extract.perturb.timing import jittered_clip_indices, jittered_indices

# Frames at 25 Hz for as long as a clip lasts would fill the memory at full size.
MOUTH_FRAME_PX = 540


@dataclass(frozen=True)
class Frames:
    """Pictures of one item that somebody asked for, each once.

    Attributes
    ----------
    pixels
        (n, H, W, 3) uint8, RGB.
    times_s
        (n,) float64, when each is shown.
    frame_rows
        Rows of `pixels` that make the view of single pictures.
    clip_rows
        (clips, clip_frames) rows of `pixels` that make the view of clips.
    indices
        (n,) int64, number of each frame in the file.
    """

    pixels: np.ndarray
    times_s: np.ndarray
    frame_rows: np.ndarray
    clip_rows: np.ndarray
    indices: np.ndarray

    @staticmethod
    def single(pixels: np.ndarray, clip_frames: int) -> "Frames":
        """An image, (H, W, 3): one picture at 0 s, and no clips."""
        zero = np.zeros(1, np.int64)
        return Frames(pixels[None], np.zeros(1), zero, np.zeros((0, clip_frames), np.int64), zero)


@dataclass(frozen=True)
class Selection:
    """Numbers of the frames that the views of one video need.

    Attributes
    ----------
    frames
        (n,) single frames; empty if none are wanted.
    clips
        (c, clip_frames).
    mouths
        (m,) frames that only a mouth is cut from, so they are kept small.
    """

    frames: np.ndarray
    clips: np.ndarray
    mouths: np.ndarray


@dataclass(frozen=True)
class Film:
    """The frames of a video that some selections need, by number.

    Attributes
    ----------
    pictures
        Frame number to (H, W, 3) uint8.
    small
        The same for frames of mouths, at most `MOUTH_FRAME_PX` on the shorter side.
    times_s
        Frame number to when it is shown.
    size_px
        Width and height of a picture.
    """

    n_total: int
    rate_hz: float
    size_px: tuple[int, int]
    pictures: Mapping[int, np.ndarray]
    small: Mapping[int, np.ndarray]
    times_s: Mapping[int, float]

    def frames(self, selection: Selection) -> Frames:
        """The single frames and clips of one selection."""
        wanted = np.unique(np.concatenate([selection.frames, selection.clips.ravel()]))
        return Frames(
            np.stack([self.pictures[i] for i in wanted.tolist()]),
            np.array([self.times_s[i] for i in wanted.tolist()]),
            np.searchsorted(wanted, selection.frames),
            np.searchsorted(wanted, selection.clips),
            wanted,
        )


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


def select(n_total: int, rate_hz: float, views: frozenset[str], sampling: Sampling, jitter: float = 0.0) -> Selection:
    """Which frames the views `frame`, `face`, `clip`, `face-clip` and `mouth` need.

    Parameters
    ----------
    jitter
        Temporal jitter of an augmented view in [-0.5, 0.5]: frames move by that share of their distance, clips by that
        share of the room that each has.
    """
    frames = mouths = np.zeros(0, np.int64)
    clips = np.zeros((0, sampling.clip_frames), np.int64)
    if views & {"frame", "face"}:
        frames = _single_frames(n_total, rate_hz, sampling, jitter)
    if views & {"clip", "face-clip"}:
        clips = jittered_clip_indices(n_total, rate_hz, sampling, jitter)
    if "mouth" in views:
        mouths = rate_indices(n_total, rate_hz, sampling.mouth_rate_hz, sampling.mouth_max_s)
    return Selection(frames, clips, mouths)


def _single_frames(n_total: int, rate_hz: float, sampling: Sampling, jitter: float) -> np.ndarray:
    wanted_hz = sampling.frame_rate_hz
    if wanted_hz is None:
        return jittered_indices(n_total, sampling.frames, jitter)
    moved = rate_indices(n_total, rate_hz, wanted_hz) + round(jitter * rate_hz / wanted_hz)
    return np.unique(np.clip(moved, 0, n_total - 1))


Selector = Callable[[int, float], Sequence[Selection]]


def load_film(path: Path, selector: Selector, limits: Limits) -> tuple[Film, Sequence[Selection]]:
    """Decode the frames that the selections need, in one pass forward, however many selections there are.

    Parameters
    ----------
    selector
        From the number of frames and their rate to the selections.

    Raises
    ------
    MediaError
        If the video is damaged, empty, or breaks `limits`.
    """
    try:
        reader = decord.VideoReader(str(path), num_threads=1)
        n_total, rate_hz = len(reader), float(reader.get_avg_fps())
        if n_total == 0 or not rate_hz > 0:
            raise MediaError("the video has no frames. Leave it out of the manifest.")
        check_duration(n_total / rate_hz, limits)
        selections = selector(n_total, rate_hz)
        whole = {i for s in selections for i in (*s.frames.tolist(), *s.clips.ravel().tolist())}
        mouths = {i for s in selections for i in s.mouths.tolist()}
        pictures, small, size_px = _read_forward(reader, whole, mouths)
        times_s = {i: float(reader.get_frame_timestamp(i)[0]) for i in sorted(whole | mouths)}
        return Film(n_total, rate_hz, size_px, pictures, small, times_s), selections
    except (decord.DECORDError, RuntimeError, StopIteration) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise MediaError(f"the video cannot be decoded ({reason[-1][:160]}). Is the file whole?") from error


def _read_forward(
    reader: decord.VideoReader, whole: Set[int], mouths: Set[int]
) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray], tuple[int, int]]:
    at = 0
    pictures, small = {}, {}
    size_px = (0, 0)
    for index in sorted(whole | mouths):
        if index > at:
            reader.skip_frames(index - at)
        pixels = reader.next().asnumpy()
        at = index + 1
        size_px = (pixels.shape[1], pixels.shape[0])
        if index in whole:
            pictures[index] = pixels
        if index in mouths:
            small[index] = _shrunk(pixels)
    return pictures, small, size_px


def _shrunk(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    scale = MOUTH_FRAME_PX / min(height, width)
    if scale >= 1:
        return pixels
    return cv2.resize(pixels, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
