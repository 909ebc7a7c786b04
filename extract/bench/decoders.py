"""Decoders against each other, in frames (or seconds of sound) a second of CPU time, so a second and core.

CPU time counts all threads of this process and none of anybody else's. Every decoder must hand out RGB arrays.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import av
import cv2
import decord
import numpy as np
import soundfile
from PIL import Image

from mmdf.extract.media.image import load_image
from mmdf.extract.media.limits import DEFAULT_LIMITS
from mmdf.extract.media.sampling import DEFAULT_SAMPLING, uniform_indices
from mmdf.extract.media.sound import load_container_sound, load_sound
from mmdf.extract.media.video import Selection, load_film

# A file to how much was got of it: frames, or seconds of sound.
Decoder = Callable[[Path], float]
_NO_CLIPS, _NO_MOUTHS = np.zeros((0, 16), np.int64), np.zeros(0, np.int64)


def per_core(decoder: Decoder, files: Sequence[Path]) -> float:
    """What `decoder` gets of `files` in a second of CPU time; the first file is decoded once before, to warm up."""
    decoder(files[0])
    started = time.process_time()
    amount = sum(decoder(file) for file in files)
    return amount / (time.process_time() - started)


def _decord_all(file: Path) -> float:
    # Not through load_film, which would hold all frames at once: nobody reads a film so.
    reader = decord.VideoReader(str(file), num_threads=1)
    return sum(1 for _ in range(len(reader)) if reader.next().asnumpy().size)


def _ours_uniform(file: Path) -> float:
    def selector(n_total: int, rate_hz: float) -> list[Selection]:
        return [Selection(uniform_indices(n_total, DEFAULT_SAMPLING.frames), _NO_CLIPS, _NO_MOUTHS)]

    film, _ = load_film(file, selector, DEFAULT_LIMITS)
    return len(film.pictures)


def _decord_batch(file: Path) -> float:
    reader = decord.VideoReader(str(file), num_threads=1)
    return len(reader.get_batch(uniform_indices(len(reader), DEFAULT_SAMPLING.frames).tolist()).asnumpy())


def _pyav_all(file: Path) -> float:
    with av.open(str(file)) as container:
        return sum(1 for frame in container.decode(video=0) if frame.to_ndarray(format="rgb24").size)


def _pyav_uniform(file: Path) -> float:
    """Forward through the film; only what is wanted is turned to RGB."""
    with av.open(str(file)) as container:
        wanted = set(uniform_indices(container.streams.video[0].frames, DEFAULT_SAMPLING.frames).tolist())
        frames = (f for number, f in enumerate(container.decode(video=0)) if number in wanted)
        return sum(1 for frame in frames if frame.to_ndarray(format="rgb24").size)


def _opencv_all(file: Path) -> float:
    capture = cv2.VideoCapture(str(file))
    n = 0
    while True:
        found, pixels = capture.read()
        if not found:
            return n
        n += cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB).size > 0


def _opencv_uniform(file: Path) -> float:
    """`grab` decodes and `retrieve` converts, so frames between are grabbed alone."""
    capture = cv2.VideoCapture(str(file))
    n_total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    wanted = set(uniform_indices(n_total, DEFAULT_SAMPLING.frames).tolist())
    n = 0
    for number in range(max(wanted) + 1):
        capture.grab()
        if number in wanted:
            n += cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB).size > 0
    return n


def _pillow(file: Path) -> float:
    return float(load_image(file, DEFAULT_LIMITS).size > 0)


def _opencv_image(file: Path) -> float:
    pixels = cv2.imread(str(file), cv2.IMREAD_COLOR)
    return float(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB).size > 0)


def _pillow_bare(file: Path) -> float:
    with Image.open(file) as image:
        return float(np.asarray(image.convert("RGB")).size > 0)


def _soundfile(file: Path) -> float:
    sound = load_sound(file, DEFAULT_LIMITS)
    return len(sound.samples) / sound.rate_hz


def _soundfile_bare(file: Path) -> float:
    samples, rate_hz = soundfile.read(file, dtype="float32")
    return len(samples) / rate_hz


def _pyav_sound(file: Path) -> float:
    sound = load_container_sound(file, DEFAULT_LIMITS)
    return len(sound.samples) / sound.rate_hz


# What is decoded: the unit, our own decoder, and the others by name.
CONTESTS: Mapping[str, tuple[str, str, str, Decoder, Mapping[str, Decoder]]] = {
    "film": ("all frames", "frames/s", "decord", _decord_all, {"PyAV": _pyav_all, "OpenCV": _opencv_all}),
    "film-16": (
        "16 frames spread evenly",
        "frames/s",
        "decord",
        _ours_uniform,
        {"decord get_batch": _decord_batch, "PyAV": _pyav_uniform, "OpenCV": _opencv_uniform},
    ),
    "image": ("JPEG", "images/s", "Pillow", _pillow, {"Pillow alone": _pillow_bare, "OpenCV": _opencv_image}),
    "sound": ("wav", "s/s", "soundfile", _soundfile, {"soundfile alone": _soundfile_bare, "PyAV": _pyav_sound}),
}
