"""Augmented sound: samples and a plan in, samples out. FFmpeg through PyAV, in memory; knows no files and no chance.

Stretch and pitch, then noise, then the codec, as a recording meets them on its way to a platform. The gain comes last,
since a listener's knob cannot clip: samples are floats, and may leave [-1, 1].
"""

import io
import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain

import av
import numpy as np
from av.codec.codec import UnknownCodecError
from av.filter import Graph, filters_available

from mmdf.cache.errors import MediaError, MmdfError
from mmdf.extract.perturb.plan import CodecPass, Noise, SoundPlan, time_scale

# Name in a plan to FFmpeg's encoder and container. Both containers say how many samples the encoder put in front.
_ENCODERS = {"mp3": ("libmp3lame", "mp3"), "opus": ("libopus", "ogg")}
_MP3_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_OPUS_RATE_HZ = 48_000
# atempo searches for overlaps in windows of some 40 ms and passes on what is shorter than a few of them unchanged.
_TAIL_S = 0.25
# Below some 50 Hz an assertion in atempo ends the whole process. Nothing that slow is sound.
_MIN_STRETCH_RATE_HZ = 1000
# Pink noise is flat below this: in long sound most of its power would be a drift that nobody hears.
_PINK_FROM_HZ = 20.0


def require_tools() -> None:
    """Ask once, before a run, whether this PyAV can do all of it. Raises `MmdfError` naming what is missing."""
    missing = [name for name in ("asetrate", "aresample", "atempo") if name not in filters_available]
    for encoder, _ in _ENCODERS.values():
        try:
            av.Codec(encoder, "w")
        except UnknownCodecError:
            missing.append(encoder)
    if missing:
        raise MmdfError(
            f"Augmented sound needs FFmpeg's {', '.join(missing)}, which this build of PyAV does not have. "
            "Install the wheel of 'av' from PyPI, or run without --augment."
        )


def perturb_sound(samples: np.ndarray, rate_hz: int, plan: SoundPlan) -> np.ndarray:
    """Apply one plan to a sound.

    Noise, codec and gain keep length and alignment (the codec's to under 1 ms); a stretch moves what was heard at t to
    `t * time_scale(plan)`, to about 15 ms, atempo being free to choose where its windows overlap; so does a pitch
    shift, whose last step is a stretch.

    Parameters
    ----------
    samples
        (T,) float32, mono, finite; not changed.

    Returns
    -------
    numpy.ndarray
        (T',) float32 at the same rate, finite, T' = round(T * time_scale(plan)).

    Raises
    ------
    MediaError
        If FFmpeg's filters refuse the sound. A codec that does is left out instead, see `_through_codec`.
    """
    if samples.ndim != 1 or samples.dtype != np.float32:
        raise ValueError(f"sound must be (T,) float32, not {samples.shape} {samples.dtype}")
    if not len(samples):
        return samples.copy()
    # FFmpeg's filters and codecs are made for [-1, 1]; a float file may hold anything.
    level = max(1.0, _peak(samples))
    found = samples / np.float32(level)
    if plan.stretch is not None or plan.pitch_semitones is not None:
        found = _stretched(found, rate_hz, time_scale(plan), plan.pitch_semitones or 0.0)
    if plan.noise is not None:
        found = found + _noise(found, rate_hz, plan.noise)
    if plan.codec is not None:
        found = _through_codec(found, rate_hz, plan.codec)
    highest = 0.99 * float(np.finfo(np.float32).max) / max(1.0, _peak(found))
    return found * np.float32(min(level * 10 ** (plan.gain_db / 20), highest))


def _stretched(samples: np.ndarray, rate_hz: int, stretch: float, semitones: float) -> np.ndarray:
    """Duration times `stretch`, pitch up by `semitones`: both by one pass of atempo, since each pass leaves traces.

    Played at another rate, the sound changes pitch and duration together; atempo then sets the duration.
    """
    if rate_hz < _MIN_STRETCH_RATE_HZ:
        raise MediaError(
            f"its rate is {rate_hz} Hz; FFmpeg stretches sound from {_MIN_STRETCH_RATE_HZ} Hz up. Is the header right?",
            "view",
        )
    played_hz = round(rate_hz * 2 ** (semitones / 12))
    steps = [("asetrate", str(played_hz)), ("aresample", str(rate_hz))] if played_hz != rate_hz else []
    tempo = rate_hz / (stretch * played_hz)
    steps += [("atempo", f"{tempo:.9f}")] if tempo != 1.0 else []
    n_wanted = max(1, round(len(samples) * stretch))
    # The sound's own mirror image, since atempo swallows or doubles the last window; cut off again below.
    longer = np.pad(samples, (0, math.ceil(_TAIL_S * rate_hz)), mode="symmetric")
    try:
        return _fit(_filtered(longer, rate_hz, steps), n_wanted)
    except av.FFmpegError as error:
        raise MediaError(f"FFmpeg cannot stretch this sound ({error}). Run without --augment.", "view") from error


def _noise(samples: np.ndarray, rate_hz: int, noise: Noise) -> np.ndarray:
    """(T,) float32, `snr_db` below the power of the samples about their mean. Silence gets none."""
    rng = np.random.Generator(np.random.PCG64(noise.seed))
    found: np.ndarray = rng.standard_normal(len(samples), dtype=np.float32)
    if noise.colour == "pink":
        frequency_hz = np.fft.rfftfreq(len(found), 1 / rate_hz).astype(np.float32)
        shape = np.sqrt(_PINK_FROM_HZ / np.maximum(frequency_hz, _PINK_FROM_HZ))
        found = np.fft.irfft(np.fft.rfft(found) * shape, len(found))
    wanted = _deviation(samples) * 10 ** (-noise.snr_db / 20)
    return (found * (wanted / max(_deviation(found), 1e-12))).astype(np.float32)


def _through_codec(samples: np.ndarray, rate_hz: int, codec: CodecPass) -> np.ndarray:
    """Encode and decode; same length, aligned to the input.

    The delay of the encoder stands in the container (LAME tag, Opus pre-skip), and FFmpeg's demuxers take it off. A
    rate that the codec does not know is resampled to the next higher one that it does, at most 48 kHz, and back; bit
    rates above what MP3 allows at 8 to 12 kHz (64 kbit/s) become that, by LAME itself. What a codec refuses all the
    same stays as it is: for an augmented view, less change is better than no view.
    """
    encoder, container = _ENCODERS[codec.name]
    known = (_OPUS_RATE_HZ,) if codec.name == "opus" else _MP3_RATES_HZ
    codec_hz = min((rate for rate in known if rate >= rate_hz), default=known[-1])
    try:
        file = _encoded(_resampled(samples, rate_hz, codec_hz), codec_hz, encoder, container, codec.kbit_s)
        found = _resampled(_decoded(file, container), codec_hz, rate_hz)
    except av.FFmpegError:
        return samples
    return _fit(found, len(samples)) if len(found) and np.isfinite(found).all() else samples


def _encoded(samples: np.ndarray, rate_hz: int, encoder: str, container: str, kbit_s: int) -> io.BytesIO:
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(encoder, rate=rate_hz, layout="mono")
        stream.bit_rate = 1000 * kbit_s
        for frame in _frames(samples, rate_hz):
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    file.seek(0)
    return file


def _decoded(file: io.BytesIO, container: str) -> np.ndarray:
    with av.open(file, format=container) as source:
        source.streams.audio[0].thread_count = 1
        chunks = [frame.to_ndarray()[0] for frame in source.decode(audio=0)]
    return np.concatenate(chunks).astype(np.float32) if chunks else np.zeros(0, np.float32)


def _resampled(samples: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    return samples if from_hz == to_hz else _filtered(samples, from_hz, [("aresample", str(to_hz))])


def _filtered(samples: np.ndarray, rate_hz: int, steps: list[tuple[str, str]]) -> np.ndarray:
    """Run mono sound through a chain of FFmpeg's filters, (T,) float32 to (T',) float32."""
    graph = Graph()
    source = graph.add_abuffer(sample_rate=rate_hz, format="flt", layout="mono", time_base=Fraction(1, rate_hz))
    nodes = [graph.add(name, arguments) for name, arguments in [*steps, ("aformat", "sample_fmts=flt")]]
    graph.link_nodes(source, *nodes, graph.add("abuffersink")).configure()
    chunks: list[np.ndarray] = []
    for frame in chain(_frames(samples, rate_hz), [None]):
        graph.push(frame)
        chunks += _pulled(graph)
    return np.concatenate(chunks) if chunks else np.zeros(0, np.float32)


def _pulled(graph: Graph) -> list[np.ndarray]:
    chunks: list[np.ndarray] = []
    while True:
        try:
            chunks.append(graph.pull().to_ndarray()[0])
        except (av.BlockingIOError, av.EOFError):
            return chunks


def _frames(samples: np.ndarray, rate_hz: int) -> Iterator[av.AudioFrame]:
    """Pieces of a second, stamped with their place."""
    for start in range(0, len(samples), rate_hz):
        piece = np.ascontiguousarray(samples[None, start : start + rate_hz])
        frame = av.AudioFrame.from_ndarray(piece, "flt", "mono")
        frame.sample_rate, frame.pts, frame.time_base = rate_hz, start, Fraction(1, rate_hz)
        yield frame


def _peak(samples: np.ndarray) -> float:
    return max(float(samples.max()), -float(samples.min()))


def _deviation(samples: np.ndarray) -> float:
    """Standard deviation, without a copy in float64: sound may last an hour."""
    centred = samples - samples.mean(dtype=np.float64).astype(samples.dtype)
    return math.sqrt(float(np.dot(centred, centred)) / len(samples))


def _fit(samples: np.ndarray, n_wanted: int) -> np.ndarray:
    """Cut or filled up with silence at the end."""
    return np.pad(samples[:n_wanted], (0, max(0, n_wanted - len(samples))))
