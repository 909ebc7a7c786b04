"""Sound to mono float32 at its own rate: soundfile for sound files, PyAV for sound inside containers.

Resampling happens later, beside the models, once for all of them.
"""

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import soundfile

from mmdf.cache.errors import MediaError
from mmdf.extract.media.limits import Limits, check_duration, check_sound

# Silence at the ends is what stays so far below the loudest 20 ms.
TRIM_DB = 40.0
_TRIM_FRAME_S = 0.02
# A single click is no speech; speech models need more than their 25 ms field.
_TRIM_LEAST_S = 0.1


@dataclass(frozen=True)
class Sound:
    """A stretch of sound.

    Attributes
    ----------
    samples
        (T,) float32, mono (mean of the channels), nominally within [-1, 1].
    rate_hz
        Sampling rate as recorded.
    start_s
        When the first sample is heard, on the clock of the file's picture.
    time_scale
        Seconds of the file that one second of `samples` stands for; not 1 only where the sound was stretched.
    voiced
        First sample and end of what is left without the silence at both ends; None if nobody asked.
    """

    samples: np.ndarray
    rate_hz: int
    start_s: float = 0.0
    time_scale: float = 1.0
    voiced: tuple[int, int] | None = None


def load_sound(path: Path, limits: Limits) -> Sound:
    """Decode a sound file. Raises `MediaError` if it is no sound, is damaged, holds NaN, or breaks `limits`."""
    try:
        with soundfile.SoundFile(path) as file:
            check_duration(file.frames / file.samplerate, limits)
            samples = file.read(dtype="float32", always_2d=True).mean(axis=1)
            sound = Sound(samples, file.samplerate)
    except soundfile.LibsndfileError:
        # AAC and its kin are unknown to libsndfile; whatever no decoder knows is refused in words below.
        sound = load_container_sound(path, limits)
    return checked(sound, limits)


def sound_duration_s(path: Path, limits: Limits) -> float:
    """Duration from the header, checked against `limits`. Raises `MediaError`."""
    try:
        duration_s = float(soundfile.info(path).duration)
    except soundfile.LibsndfileError:
        try:
            with av.open(str(path)) as container:
                duration_s = float((container.duration or 0) / av.time_base)
        except (av.FFmpegError, ValueError) as error:
            raise MediaError(f"this is not sound that can be read ({error}).", "probe") from error
    check_duration(duration_s, limits)
    return duration_s


def load_container_sound(path: Path, limits: Limits) -> Sound:
    """Decode the first sound stream of a container. `MediaError` if it has none."""
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise MediaError("it has no sound. Choose backbones for pictures, or leave it out.", "probe")
            if container.duration:
                check_duration(container.duration / av.time_base, limits)
            return checked(_decode(container, limits), limits)
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(f"the sound cannot be decoded ({error}). Is the file whole?") from error


def _decode(container: av.container.InputContainer, limits: Limits) -> Sound:
    stream = container.streams.audio[0]
    stream.thread_count = 1
    rate_hz = stream.rate
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate_hz)
    chunks: list[np.ndarray] = []
    start_s: float | None = None
    room = int(limits.max_duration_s * rate_hz)
    for frame in container.decode(stream):
        if start_s is None:
            start_s = float(frame.time or 0.0)
        for mono in resampler.resample(frame):
            chunks.append(mono.to_ndarray()[0])
            room -= len(chunks[-1])
        if room < 0:
            # A header may lie about the duration; the samples do not.
            check_duration(limits.max_duration_s + 1, limits)
    chunks += [mono.to_ndarray()[0] for mono in resampler.resample(None)]
    samples = np.concatenate(chunks) if chunks else np.zeros(0)
    return Sound(samples.astype(np.float32), rate_hz, start_s or 0.0)


def voiced_range(samples: np.ndarray, rate_hz: int, floor_db: float = TRIM_DB) -> tuple[int, int]:
    """First sample and end of the sound without the silence before and after it; all of it if nothing would be left.

    Silence is what stays `floor_db` below the loudest 20 ms, as in librosa's `trim`. Leading silence alone tells real
    from fake in several data sets (Mueller et al. 2021, arXiv 2106.12914), so a detector may be asked to do without.
    """
    length = max(1, round(_TRIM_FRAME_S * rate_hz))
    n = len(samples) // length
    if n == 0:
        return 0, len(samples)
    power = np.square(samples[: n * length].reshape(n, length).astype(np.float64)).mean(1)
    loud = np.flatnonzero(power > power.max() * 10 ** (-floor_db / 10))
    if not len(loud):
        return 0, len(samples)
    first, end = int(loud[0]) * length, len(samples) if loud[-1] == n - 1 else int(loud[-1] + 1) * length
    return (first, end) if end - first >= _TRIM_LEAST_S * rate_hz else (0, len(samples))


def checked(sound: Sound, limits: Limits) -> Sound:
    """The same sound, or `MediaError` if it is too short or not made of numbers."""
    check_sound(len(sound.samples), sound.rate_hz, limits)
    bad = int(np.count_nonzero(~np.isfinite(sound.samples)))
    if bad:
        raise MediaError(f"{bad} of its {len(sound.samples)} samples are NaN or infinite. Export it anew.")
    return sound
