"""One file, decoded once for all backbones: the function that runs in decode workers.

A request says which streams are needed, never by whom. Errors come back as values, since they are data. Torch is
imported only where faces are wanted.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from mmdf.cache.errors import MediaError
from mmdf.extract.media.image import image_size, load_image
from mmdf.extract.media.limits import DEFAULT_LIMITS, Limits
from mmdf.extract.media.sampling import DEFAULT_SAMPLING, Sampling
from mmdf.extract.media.sound import Sound, load_container_sound, load_sound, sound_duration_s, voiced_range
from mmdf.extract.media.video import Film, Frames, Selection, load_film, select, video_header
from mmdf.extract.perturb.plan import PicturePlan, draw, time_scale

_FACE_VIEWS = frozenset({"face", "face-clip", "mouth"})
_PICTURE_VIEWS = frozenset({"frame", "clip"}) | _FACE_VIEWS
_SOUND_VIEWS = frozenset({"sound", "trimmed"})


@dataclass(frozen=True)
class DecodeRequest:
    """What is wanted of one file.

    Attributes
    ----------
    views
        Of `frame`, `clip`, `face`, `face-clip`, `mouth`; `sound` and `trimmed` (the sound without silence at its ends).
    augment, key, seed
        Numbers of the augmented views that are wanted beside the file as it is, and what their draws depend on.
    size_bytes
        Of the file, by which results that wait are bounded.
    """

    path: Path
    modality: str
    views: frozenset[str]
    sampling: Sampling = DEFAULT_SAMPLING
    limits: Limits = DEFAULT_LIMITS
    augment: tuple[int, ...] = ()
    key: bytes = b""
    seed: int = 0
    size_bytes: int = 0


@dataclass(frozen=True)
class Decoded:
    """What a file gave.

    Attributes
    ----------
    frames, faces, mouths, sound
        None if not asked for, or absent. The clips of `faces` are the view `face-clip`.
    geometry
        (n, 15) float32, where the face is in each single frame: see `faces.crop.geometry`.
    absent
        View to reason, for what the file does not have (a silent film has no sound). Not an error.
    augmented
        The augmented views asked for, in that order.
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
    faces: Frames | None = None
    mouths: Frames | None = None
    geometry: np.ndarray | None = None
    augmented: tuple["Decoded", ...] = ()


def decode(request: DecodeRequest) -> Decoded:
    """Decode one file. Never raises for a bad file; the error is in the result.

    Raises
    ------
    WeightsError
        If faces are wanted and the detector's weights are not on this machine.
    """
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
    return replace(found, decode_s=time.perf_counter() - started)


def _image(request: DecodeRequest) -> Decoded:
    frames = Frames.single(load_image(request.path, request.limits), request.sampling.clip_frames)
    plain = _with_faces(request, frames, None)
    return replace(plain, augmented=tuple(_perturbed(plain, _plan(request, k)) for k in request.augment))


def _audio(request: DecodeRequest) -> Decoded:
    return _with_sound(request, Decoded(), load_sound(request.path, request.limits))


def _video(request: DecodeRequest) -> Decoded:
    header = video_header(request.path, request.limits)
    found = Decoded()
    if request.views & _PICTURE_VIEWS:
        found = _pictures(request)
    if request.views & _SOUND_VIEWS:
        if header.has_sound:
            return _with_sound(request, found, load_container_sound(request.path, request.limits))
        reasons = tuple((view, "the video has no sound") for view in sorted(request.views & _SOUND_VIEWS))
        found = replace(found, absent=found.absent + reasons)
    return found


def _pictures(request: DecodeRequest) -> Decoded:
    plans = [_plan(request, k) for k in request.augment]

    def selector(n_total: int, rate_hz: float) -> Sequence[Selection]:
        chosen = partial(select, n_total, rate_hz, request.views, request.sampling)
        # Mouths move too fast for jitter to show anything else, so they are taken once.
        jittered = (replace(chosen(plan.time_offset), mouths=np.zeros(0, np.int64)) for plan in plans)
        return [chosen(0.0), *jittered]

    film, (selection, *others) = load_film(request.path, selector, request.limits)
    plain = _of_selection(request, film, selection)
    augmented = []
    for plan, other in zip(plans, others, strict=True):
        jittered = replace(_of_selection(request, film, other, selection), mouths=plain.mouths)
        augmented.append(_perturbed(jittered, plan))
    return replace(plain, augmented=tuple(augmented))


def _of_selection(request: DecodeRequest, film: Film, own: Selection, faces_by: Selection | None = None) -> Decoded:
    """The views of one selection; faces are looked for in the frames of `faces_by`, so once a file."""
    frames = film.frames(own) if len(own.frames) or len(own.clips) else None
    absent: tuple[tuple[str, str], ...] = ()
    if not len(own.clips):
        wanted = sorted(request.views & {"clip", "face-clip"})
        absent = tuple((view, f"the video is shorter than {request.sampling.clip_frames} frames") for view in wanted)
    found = _with_faces(request, frames, (film, own, faces_by or own))
    return replace(found, absent=absent + found.absent)


def _with_faces(
    request: DecodeRequest, frames: Frames | None, film: tuple[Film, Selection, Selection] | None
) -> Decoded:
    if not request.views & _FACE_VIEWS:
        return Decoded(frames=frames)
    # Here and not above: it imports torch, which workers without faces do well without.
    from mmdf.extract.media.cropping import cut_image, cut_video

    if film is None:
        found = cut_image(frames, request.sampling) if frames is not None else Decoded()
    else:
        found = cut_video(frames, *film, request.views, request.sampling)
    return replace(found, frames=frames)


def _with_sound(request: DecodeRequest, found: Decoded, sound: Sound) -> Decoded:
    trims = "trimmed" in request.views
    augmented = []
    for number, k in enumerate(request.augment):
        from mmdf.extract.perturb.sound import perturb_sound

        plan = draw(request.seed, request.key, k, "sound")
        samples = perturb_sound(sound.samples, sound.rate_hz, plan)
        other = found.augmented[number] if found.augmented else Decoded()
        changed = replace(sound, samples=samples, time_scale=1 / time_scale(plan))
        augmented.append(replace(other, sound=_voiced(changed) if trims else changed))
    return replace(found, sound=_voiced(sound) if trims else sound, augmented=tuple(augmented))


def _voiced(sound: Sound) -> Sound:
    return replace(sound, voiced=voiced_range(sound.samples, sound.rate_hz))


def _plan(request: DecodeRequest, index: int) -> PicturePlan:
    return draw(request.seed, request.key, index, "picture")


def _perturbed(found: Decoded, plan: PicturePlan) -> Decoded:
    from mmdf.extract.perturb.picture import perturb_frames

    def change(frames: Frames | None) -> Frames | None:
        return None if frames is None else replace(frames, pixels=perturb_frames(frames.pixels, plan))

    return replace(
        found, frames=change(found.frames), faces=change(found.faces), mouths=change(found.mouths), augmented=()
    )


_BY_MODALITY = {"image": _image, "audio": _audio, "video": _video}


@dataclass(frozen=True)
class MediaInfo:
    """What a header says, for estimates before a run."""

    duration_s: float
    has_picture: bool
    has_sound: bool
    rate_hz: float = 0.0


def probe(path: Path, modality: str, limits: Limits = DEFAULT_LIMITS) -> MediaInfo:
    """Read a header. Raises `MediaError`."""
    if modality == "image":
        image_size(path, limits)
        return MediaInfo(0.0, True, False)
    if modality == "audio":
        return MediaInfo(sound_duration_s(path, limits), False, True)
    header = video_header(path, limits)
    return MediaInfo(header.duration_s, True, header.has_sound, header.rate_hz)
