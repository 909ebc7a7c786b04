"""One file, decoded once for all backbones: the function that runs in decode workers.

A request says which streams are needed, never by whom. Errors come back as values, since they are data.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmdf.cache.errors import MediaError
from mmdf.extract.media.image import image_size, load_image
from mmdf.extract.media.limits import DEFAULT_LIMITS, Limits
from mmdf.extract.media.sampling import DEFAULT_SAMPLING, Sampling
from mmdf.extract.media.sound import Sound, load_container_sound, load_sound, sound_duration_s
from mmdf.extract.media.video import Frames, load_frames, video_header


@dataclass(frozen=True)
class DecodeRequest:
    """What is wanted of one file: the views `frame`, `clip` and `sound` (which feeds all views of sound)."""

    path: Path
    modality: str
    views: frozenset[str]
    sampling: Sampling = DEFAULT_SAMPLING
    limits: Limits = DEFAULT_LIMITS


@dataclass(frozen=True)
class Decoded:
    """What a file gave.

    Attributes
    ----------
    frames, sound
        None if not asked for, or absent.
    absent
        View to reason, for what the file does not have (a silent film has no sound). Not an error.
    error
        Set if the file could not be used; then nothing else is.
    decode_s
        Seconds spent in the worker.
    """

    frames: Frames | None = None
    sound: Sound | None = None
    absent: tuple[tuple[str, str], ...] = ()
    error: MediaError | None = None
    decode_s: float = 0.0


def decode(request: DecodeRequest) -> Decoded:
    """Decode one file. Never raises for a bad file; the error is in the result."""
    started = time.perf_counter()
    try:
        if not request.path.is_file():
            raise MediaError("the file is not there. Check the root, or build the manifest anew.", "probe")
        if request.path.stat().st_size == 0:
            raise MediaError("the file is empty (0 bytes). Fetch it anew.", "probe")
        found = _BY_MODALITY[request.modality](request)
    except MediaError as error:
        found = Decoded(error=error)
    except (OSError, MemoryError) as error:
        found = Decoded(error=MediaError(f"the file cannot be read ({type(error).__name__}: {error})."))
    return Decoded(found.frames, found.sound, found.absent, found.error, time.perf_counter() - started)


def _image(request: DecodeRequest) -> Decoded:
    pixels = load_image(request.path, request.limits)[None]
    no_clips = np.zeros((0, request.sampling.clip_frames), np.int64)
    return Decoded(frames=Frames(pixels, np.zeros(1), np.zeros(1, np.int64), no_clips))


def _audio(request: DecodeRequest) -> Decoded:
    return Decoded(sound=load_sound(request.path, request.limits))


def _video(request: DecodeRequest) -> Decoded:
    frames, sound, absent = None, None, []
    header = video_header(request.path, request.limits)
    want_frames, want_clips = "frame" in request.views, "clip" in request.views
    if want_frames or want_clips:
        frames = load_frames(request.path, request.sampling, want_frames, want_clips, request.limits)
        if want_clips and not len(frames.clip_rows):
            absent.append(("clip", f"the video is shorter than {request.sampling.clip_frames} frames"))
    if "sound" in request.views:
        if header.has_sound:
            sound = load_container_sound(request.path, request.limits)
        else:
            absent.append(("sound", "the video has no sound"))
    return Decoded(frames, sound, tuple(absent))


_BY_MODALITY = {"image": _image, "audio": _audio, "video": _video}


@dataclass(frozen=True)
class MediaInfo:
    """What a header says, for estimates before a run."""

    duration_s: float
    has_picture: bool
    has_sound: bool


def probe(path: Path, modality: str, limits: Limits = DEFAULT_LIMITS) -> MediaInfo:
    """Read a header. Raises `MediaError`."""
    if modality == "image":
        image_size(path, limits)
        return MediaInfo(0.0, True, False)
    if modality == "audio":
        return MediaInfo(sound_duration_s(path, limits), False, True)
    header = video_header(path, limits)
    return MediaInfo(header.duration_s, True, header.has_sound)
