"""A made-up voice: nonsense through a source-filter model, its copy by a vocoder, and one microphone for both.

Knows nothing of pictures, files or labels. All sound is mono, float64, 16 kHz. The source is Rosenberg's glottal pulse
(J. Acoust. Soc. Am. 49, 1971), the filter a cascade of formant resonators (Klatt, J. Acoust. Soc. Am. 67, 1980).
"""

import functools
import itertools
from dataclasses import dataclass

import numpy as np
from scipy import fft, signal

RATE_HZ = 16_000
SPEECH_S = 1.5
CLIP_S = 2.4
_BLOCK = 80  # samples for which the filter stands still: 5 ms
_N_BLOCKS = round(SPEECH_S * RATE_HZ) // _BLOCK
_LOUDNESS_DBFS = -23.0
_N_FFT, _HOP, _N_MEL = 512, 128, 80
_ITERATIONS = 32
_WINDOW = signal.windows.hann(_N_FFT, sym=False).astype(np.float32)

# First three formants in Hz of an average voice (Peterson and Barney, 1952), jaw opening and lip rounding in [0, 1].
_VOWELS = (
    ((730, 1090, 2440), 1.0, 0.1),
    ((530, 1840, 2480), 0.7, 0.0),
    ((270, 2290, 3010), 0.35, 0.0),
    ((570, 840, 2410), 0.75, 0.8),
    ((300, 870, 2240), 0.3, 1.0),
    ((660, 1720, 2410), 0.85, 0.0),
)
# Centre in Hz, bandwidth in Hz and level of a consonant's noise; level 0 is a nasal-like murmur.
_CONSONANTS = ((5200, 1800, 0.5), (3200, 1400, 0.6), (1800, 900, 0.5), (900, 700, 0.35), (2500, 500, 0.0))


@dataclass(frozen=True)
class Voice:
    """How one person sounds: pitch, throat length (formant scale), roughness and vibrato."""

    pitch_hz: float
    formant_scale: float
    breath: float
    jitter: float
    vibrato_hz: float


@dataclass(frozen=True)
class Script:
    """What is said: one vowel, consonant, duration share and stress for each syllable, and the melody's slope."""

    vowels: np.ndarray
    consonants: np.ndarray
    shares: np.ndarray
    stress: np.ndarray
    slope: float


@dataclass(frozen=True)
class Utterance:
    """Dry speech (24000,) and, for every 5 ms, jaw opening and lip rounding in [0, 1], (300,) each."""

    samples: np.ndarray
    opening: np.ndarray
    rounding: np.ndarray


def new_voice(rng: np.random.Generator) -> Voice:
    """A voice at random; higher pitch goes with a shorter throat."""
    pitch_hz = float(np.exp(rng.uniform(np.log(95), np.log(235))))
    scale = 0.9 + 0.28 * (pitch_hz - 95) / 140 + rng.uniform(-0.05, 0.05)
    return Voice(pitch_hz, scale, rng.uniform(0.01, 0.05), rng.uniform(0.005, 0.02), rng.uniform(4.5, 6.5))


def new_script(rng: np.random.Generator) -> Script:
    """Five to seven nonsense syllables."""
    n = int(rng.integers(5, 8))
    shares = rng.uniform(0.7, 1.3, n)
    return Script(
        rng.integers(len(_VOWELS), size=n),
        rng.integers(len(_CONSONANTS), size=n),
        shares / shares.sum(),
        rng.uniform(0.55, 1.0, n),
        rng.uniform(-0.25, 0.1),
    )


def speak(voice: Voice, script: Script, rng: np.random.Generator) -> Utterance:
    """Say `script` in 1.5 s."""
    edges = np.concatenate([[0], np.round(np.cumsum(script.shares) * _N_BLOCKS)]).astype(int)
    formants = np.empty((_N_BLOCKS, 3))
    opening, rounding, voicing = np.zeros((3, _N_BLOCKS))
    noise = np.zeros(_N_BLOCKS * _BLOCK)
    for k, (start, stop) in enumerate(itertools.pairwise(edges)):
        vowel, jaw, lips = _VOWELS[script.vowels[k]]
        closed = start + round((stop - start) * 0.3)
        formants[start:stop] = vowel
        rounding[start:stop] = lips
        swell = np.sin(np.linspace(0, np.pi, stop - closed)) ** 0.6 * script.stress[k]
        opening[closed:stop] = jaw * swell
        voicing[closed:stop] = swell
        level = _CONSONANTS[script.consonants[k]][2]
        voicing[start:closed] = 0.18 if level == 0 else 0.02
        noise[start * _BLOCK : closed * _BLOCK] = _hiss(script.consonants[k], (closed - start) * _BLOCK, rng)
    smooth = signal.windows.hann(13, sym=True) / 6
    formants = signal.convolve(np.pad(formants, ((6, 6), (0, 0)), "edge"), smooth[:, None], "valid")
    opening, rounding, voicing = (np.convolve(track, smooth, "same") for track in (opening, rounding, voicing))
    source = _glottis(voice, script.slope, np.repeat(voicing, _BLOCK), rng)
    return Utterance(_throat(source, formants * voice.formant_scale) + noise, opening, rounding)


def _hiss(consonant: int, n: int, rng: np.random.Generator) -> np.ndarray:
    centre_hz, width_hz, level = _CONSONANTS[consonant]
    low_high = (centre_hz - width_hz / 2, centre_hz + width_hz / 2)
    band = signal.butter(2, low_high, "bandpass", fs=RATE_HZ, output="sos")
    return signal.sosfilt(band, rng.standard_normal(n)) * signal.windows.tukey(n, 0.6) * level * 0.5


def _glottis(voice: Voice, slope: float, voicing: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    n = len(voicing)
    time_s = np.arange(n) / RATE_HZ
    wander = np.interp(
        np.arange(n), np.arange(0, n + 160, 160), rng.standard_normal(n // 160 + 1).cumsum() * voice.jitter
    )
    vibrato = 0.012 * np.sin(2 * np.pi * voice.vibrato_hz * time_s)
    pitch_hz = (
        voice.pitch_hz * (1 + slope * (time_s / SPEECH_S - 0.5) + vibrato + 0.08 * voicing) * np.exp(0.5 * wander)
    )
    phase = np.cumsum(pitch_hz) / RATE_HZ % 1
    rising = 0.5 * (1 - np.cos(np.pi * phase / 0.4))
    falling = np.cos(0.5 * np.pi * (phase - 0.4) / 0.2)
    flow = np.where(phase < 0.4, rising, np.where(phase < 0.6, falling, 0))
    breath = voice.breath * rng.standard_normal(n) * (0.3 + flow)
    return (np.diff(flow, prepend=0) * 4 + breath) * voicing


def _throat(source: np.ndarray, formants_hz: np.ndarray) -> np.ndarray:
    """Filter 5 ms at a time, carrying the state on: formants (n_blocks, 3) in Hz, a fixed fourth above them."""
    centres_hz = np.column_stack([formants_hz, np.full(len(formants_hz), 3700.0)])
    radius = np.exp(-np.pi * np.array([80, 100, 130, 220]) / RATE_HZ)
    a1 = -2 * radius * np.cos(2 * np.pi * centres_hz / RATE_HZ)
    a2 = np.broadcast_to(radius**2, a1.shape)
    sections = np.zeros((*a1.shape, 6))
    sections[..., 0] = 1 + a1 + a2
    sections[..., 3:] = np.stack([np.ones_like(a1), a1, a2], -1)
    state = np.zeros((4, 2))
    blocks = []
    for section, block in zip(sections, source.reshape(-1, _BLOCK), strict=True):
        filtered, state = signal.sosfilt(section, block, zi=state)
        blocks.append(filtered)
    return np.concatenate(blocks)


def place(utterance: Utterance, lead_s: float) -> np.ndarray:
    """The speech in a clip of 2.4 s that is silent around it, (38400,)."""
    clip = np.zeros(round(CLIP_S * RATE_HZ))
    start = round(lead_s * RATE_HZ)
    clip[start : start + len(utterance.samples)] = utterance.samples
    return clip


def griffin_lim(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same speech from its mel spectrogram alone, same shape: the phase is guessed in 32 rounds.

    Griffin and Lim, IEEE Trans. ASSP 32 (1984), started from random phase, on magnitudes that went through 80 mel
    bands and back.
    """
    through_mel = _through_mel()
    magnitude = np.maximum(np.abs(_stft(samples)) @ through_mel, 0)
    spectrum = magnitude * np.exp(2j * np.pi * rng.random(magnitude.shape, np.float32)).astype(np.complex64)
    for _ in range(_ITERATIONS):
        guess = _stft(_istft(spectrum, len(samples)))
        spectrum = magnitude * guess / np.maximum(np.abs(guess), 1e-9)
    return _istft(spectrum, len(samples)).astype(np.float64)


# Not scipy.signal.stft: these two keep float32 and are eight times faster, and the phase is guessed 48 times a corpus.
def _stft(samples: np.ndarray) -> np.ndarray:
    padded = np.pad(samples.astype(np.float32), _N_FFT - _HOP)
    return fft.rfft(np.lib.stride_tricks.sliding_window_view(padded, _N_FFT)[::_HOP] * _WINDOW)


def _istft(spectrum: np.ndarray, n_samples: int) -> np.ndarray:
    frames = fft.irfft(spectrum) * _WINDOW
    n_frames, overlap = len(frames), _N_FFT // _HOP
    blocks = np.zeros((n_frames + overlap - 1, _HOP), np.float32)
    for k in range(overlap):
        blocks[k : k + n_frames] += frames[:, k * _HOP : (k + 1) * _HOP]
    # Squared Hann windows a quarter apart add up to 1.5.
    return blocks.ravel()[_N_FFT - _HOP :][:n_samples] / 1.5


@functools.cache
def _through_mel() -> np.ndarray:
    """Into mel bands and back by the pseudo-inverse, (257, 257) float32, for rows of magnitudes."""
    mel = _mel_bands(_N_FFT // 2 + 1)
    return (np.linalg.pinv(mel) @ mel).T.astype(np.float32)


def _mel_bands(n_bins: int) -> np.ndarray:
    """Triangles on the mel scale of O'Shaughnessy (1987), (80, n_bins)."""
    top_mel = 2595 * np.log10(1 + RATE_HZ / 2 / 700)
    edges_hz = 700 * (10 ** (np.linspace(0, top_mel, _N_MEL + 2) / 2595) - 1)
    bins_hz = np.linspace(0, RATE_HZ / 2, n_bins)
    rising = (bins_hz - edges_hz[:-2, None]) / np.diff(edges_hz)[:-1, None]
    falling = (edges_hz[2:, None] - bins_hz) / np.diff(edges_hz)[1:, None]
    return np.maximum(np.minimum(rising, falling), 0)


def record(dry: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a microphone in a room makes of `dry`, real or not, same shape.

    Echo, room noise, a band limit and one loudness (-23 dBFS give or take 1 dB), so that none of these tells classes
    apart.
    """
    decay = np.exp(-np.arange(1600) / rng.uniform(150, 400)) * rng.standard_normal(1600)
    decay[0] = rng.uniform(5, 9)
    wet = signal.fftconvolve(dry, decay)[: len(dry)]
    wet /= np.sqrt(np.mean(wet**2))
    hum = signal.lfilter([0.6], [1, -0.8], rng.standard_normal(len(dry)))
    wet += hum * 10 ** (rng.uniform(-50, -38) / 20)
    band_limited = signal.resample_poly(signal.resample_poly(wet, 15, 16), 16, 15)[: len(dry)]
    level = 10 ** ((_LOUDNESS_DBFS + rng.uniform(-1, 1)) / 20)
    return np.clip(band_limited * level / np.sqrt(np.mean(band_limited**2)), -1, 1)
