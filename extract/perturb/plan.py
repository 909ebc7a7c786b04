"""What is done to one augmented view: the draw, its ranges, and the recipe for the fingerprint. Touches no media.

A plan says everything; those who carry it out draw nothing themselves.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any, Literal, overload

import numpy as np

from mmdf.cache.errors import UsageError

RECIPE_VERSION = 1
_N_DRAWS = 16
_SOUND_OPERATIONS = ("stretch", "pitch", "noise", "codec")

Kind = Literal["picture", "sound"]
Range = tuple[float, float]


@dataclass(frozen=True)
class PictureRanges:
    """What may be drawn for pictures. `*_p` are probabilities; what has none is always done.

    Attributes
    ----------
    area
        Share of the picture's area that the crop keeps.
    brightness, contrast, saturation
        Factors, 1 changes nothing.
    hue
        Shift as a share of the colour circle.
    time_offset
        See `PicturePlan`.
    """

    area: Range = (0.7, 1.0)
    flip_p: float = 0.5
    blur_p: float = 0.3
    blur_sigma_px: Range = (0.3, 1.5)
    brightness: Range = (0.8, 1.2)
    contrast: Range = (0.8, 1.2)
    saturation: Range = (0.8, 1.2)
    hue: Range = (-0.02, 0.02)
    jpeg_p: float = 0.5
    jpeg_quality: tuple[int, int] = (40, 95)
    time_offset: Range = (-0.5, 0.5)


@dataclass(frozen=True)
class SoundRanges:
    """What may be drawn for sound. `*_p` are probabilities; what has none is always done.

    Attributes
    ----------
    stretch
        Factor of the duration.
    mp3_kbit_s
        The bit rates that MPEG-1 and MPEG-2 have in common; MP3 knows no others.
    """

    stretch_p: float = 0.5
    stretch: Range = (0.9, 1.1)
    pitch_p: float = 0.3
    pitch_semitones: Range = (-2.0, 2.0)
    noise_p: float = 0.5
    noise_snr_db: Range = (15.0, 35.0)
    noise_colours: tuple[str, ...] = ("white", "pink")
    codec_p: float = 0.5
    codecs: tuple[str, ...] = ("mp3", "opus")
    mp3_kbit_s: tuple[int, ...] = (32, 40, 48, 56, 64, 80, 96, 112, 128)
    opus_kbit_s: tuple[int, int] = (16, 64)
    gain_db: Range = (-6.0, 6.0)


@dataclass(frozen=True)
class Ranges:
    """The ranges of both streams."""

    picture: PictureRanges = field(default_factory=PictureRanges)
    sound: SoundRanges = field(default_factory=SoundRanges)


DEFAULT_RANGES = Ranges()


@dataclass(frozen=True)
class PicturePlan:
    """One draw for an image or for all frames of a video. None means: not done.

    Attributes
    ----------
    area
        Share of the area that the crop keeps.
    top, left
        Where the crop stands, as shares of the room that it leaves.
    hue
        Shift as a share of the colour circle.
    time_offset
        By how much the sampled frames move: a share of their spacing; for clips, of the room that a clip has in its
        stretch of the video. See `timing.py`. Means nothing for images.
    """

    area: float
    top: float
    left: float
    flip: bool
    blur_sigma_px: float | None
    brightness: float
    contrast: float
    saturation: float
    hue: float
    jpeg_quality: int | None
    time_offset: float


@dataclass(frozen=True)
class Noise:
    """Additive noise. `seed` makes the noise itself a function of the plan."""

    colour: str
    snr_db: float
    seed: int


@dataclass(frozen=True)
class CodecPass:
    """One encoding and decoding by "mp3" or "opus"."""

    name: str
    kbit_s: int


@dataclass(frozen=True)
class SoundPlan:
    """One draw for a sound. None means: not done; something beside the gain always is.

    Attributes
    ----------
    stretch
        Factor of the duration.
    """

    stretch: float | None
    pitch_semitones: float | None
    noise: Noise | None
    codec: CodecPass | None
    gain_db: float


@overload
def draw(
    seed: int, sample_key: bytes, index: int, kind: Literal["picture"], ranges: Ranges = DEFAULT_RANGES
) -> PicturePlan: ...
@overload
def draw(
    seed: int, sample_key: bytes, index: int, kind: Literal["sound"], ranges: Ranges = DEFAULT_RANGES
) -> SoundPlan: ...
def draw(
    seed: int, sample_key: bytes, index: int, kind: Kind, ranges: Ranges = DEFAULT_RANGES
) -> PicturePlan | SoundPlan:
    """The plan of one augmented view, from its arguments alone.

    Parameters
    ----------
    index
        1 to K; the item itself is view 0 and has no plan.
    kind
        Enters the seed too: were it left out, a strong crop of a video would always come with a slow sound.

    Raises
    ------
    UsageError
        If `index` or `kind` does not exist.
    """
    if index < 1:
        raise UsageError(f"augmented views are numbered from 1, not {index}; view 0 is the item as it is.")
    if kind not in ("picture", "sound"):
        raise UsageError(f"a plan is drawn for 'picture' or 'sound', not for '{kind}'.")
    text = f"mmdf.perturb|{seed}|{index}|{kind}|".encode() + sample_key
    entropy = int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "little")
    # One call and a fixed place for each operation: whether one is done moves no other, and of all of numpy's streams
    # plain uniform doubles are the least likely to change with a version.
    u = iter(np.random.Generator(np.random.PCG64(entropy)).random(_N_DRAWS).tolist())
    return _picture(u, ranges.picture) if kind == "picture" else _sound(u, ranges.sound)


def _picture(u: Iterator[float], ranges: PictureRanges) -> PicturePlan:
    area, top, left = _between(next(u), ranges.area), next(u), next(u)
    flip = next(u) < ranges.flip_p
    has_blur, sigma_px = next(u) < ranges.blur_p, _between(next(u), ranges.blur_sigma_px)
    has_jpeg, quality = next(u) < ranges.jpeg_p, _whole(next(u), ranges.jpeg_quality)
    return PicturePlan(
        area=area,
        top=top,
        left=left,
        flip=flip,
        blur_sigma_px=sigma_px if has_blur else None,
        brightness=_between(next(u), ranges.brightness),
        contrast=_between(next(u), ranges.contrast),
        saturation=_between(next(u), ranges.saturation),
        hue=_between(next(u), ranges.hue),
        jpeg_quality=quality if has_jpeg else None,
        time_offset=_between(next(u), ranges.time_offset),
    )


def _sound(u: Iterator[float], ranges: SoundRanges) -> SoundPlan:
    chances = (ranges.stretch_p, ranges.pitch_p, ranges.noise_p, ranges.codec_p)
    done = {name for name, p in zip(_SOUND_OPERATIONS, chances, strict=True) if next(u) < p}
    # Most models normalise loudness, so a view that differs by its gain alone would be the item once more.
    at_least = _SOUND_OPERATIONS[int(next(u) * len(_SOUND_OPERATIONS))]
    done = done or {at_least}
    stretch, semitones = _between(next(u), ranges.stretch), _between(next(u), ranges.pitch_semitones)
    noise = Noise(_one_of(next(u), ranges.noise_colours), _between(next(u), ranges.noise_snr_db), int(next(u) * 2**53))
    codec = _codec(next(u), next(u), ranges)
    return SoundPlan(
        stretch=stretch if "stretch" in done else None,
        pitch_semitones=semitones if "pitch" in done else None,
        noise=noise if "noise" in done else None,
        codec=codec if "codec" in done else None,
        gain_db=_between(next(u), ranges.gain_db),
    )


def _codec(which: float, rate: float, ranges: SoundRanges) -> CodecPass:
    name = _one_of(which, ranges.codecs)
    return CodecPass(name, _one_of(rate, ranges.mp3_kbit_s) if name == "mp3" else _whole(rate, ranges.opus_kbit_s))


def _between(u: float, bounds: Range) -> float:
    return bounds[0] + u * (bounds[1] - bounds[0])


def _whole(u: float, bounds: tuple[int, int]) -> int:
    return bounds[0] + int(u * (bounds[1] - bounds[0] + 1))


def _one_of(u: float, choices: tuple) -> Any:
    return choices[int(u * len(choices))]


def recipe(ranges: Ranges = DEFAULT_RANGES) -> dict[str, Any]:
    """Everything but the seed that decides what a view looks like: `{"picture": {...}, "sound": {...}}`, for JSON.

    A feature's spec takes the part of its stream, so that new ranges for sound leave the features of pictures valid.
    Libraries count by their major version, as decoders do in every spec.
    """
    common = {"version": RECIPE_VERSION, "draw": "PCG64 of blake2b-128"}
    jpeg, blur = f"{_major('pillow')}, 4:2:0", _major("opencv-python-headless")
    picture = {"order": "crop, flip, blur, colour, jpeg", "jpeg": jpeg, "blur": blur, "colour": "torchvision v2"}
    sound = {"order": "stretch and pitch, noise, codec, gain", "filters": _major("av"), "at_least": 1}
    return {
        "picture": common | picture | {"ranges": asdict(ranges.picture)},
        "sound": common | sound | {"ranges": asdict(ranges.sound)},
    }


def _major(package: str) -> str:
    return f"{package} {version(package).split('.')[0]}"


def time_scale(plan: SoundPlan) -> float:
    """What was heard at t seconds of the item is heard at `t * time_scale(plan)` of the view.

    So the true time of a sample is `start_s + i / rate_hz / time_scale(plan)`, with `start_s` where the sound begins.
    """
    return 1.0 if plan.stretch is None else plan.stretch
