"""Constant-Q cepstral coefficients of sound, which need no weights. Knows nothing of files, models or the cache."""

from dataclasses import dataclass

import numpy as np
import scipy.fft
import torch
import torchaudio.functional
from scipy.interpolate import CubicSpline

from mmdf.extract.backbones.base import Backbone, LoadContext
from mmdf.extract.backbones.signal import spectral
from mmdf.extract.views import SOUND_RATE_HZ

_HOP = 160
_BINS_PER_OCTAVE, _OCTAVES = 96, 9
# Uniform samples in the lowest octave.
_OVERSAMPLING = 16
_COEFFICIENTS = 20
# Differences over 3 steps to either side.
_DIFFERENCE_STEPS = 7
_POWER_FLOOR = 1e-10
# A tone of amplitude 1 gets the power it has in the 25 ms Hann windows of lfcc and logmel: scaled to 1, the noise of
# 16-bit sound, where vocoders show, would lie below the floor.
_TONE_POWER = 1e4
# The glide from constant Q at high to constant bandwidth at low frequencies follows the ear's critical bands.
_GLIDE_HZ = 228.7


@dataclass(frozen=True)
class Bands:
    """Filters with a Hann window in frequency: their centres and the full width of the window, both (k,) in Hz."""

    centres_hz: np.ndarray
    widths_hz: np.ndarray

    def part(self, start: int, stop: int) -> "Bands":
        """The bands from `start` to before `stop`."""
        return Bands(self.centres_hz[start:stop], self.widths_hz[start:stop])


def constant_q_bands(bins_per_octave: int = _BINS_PER_OCTAVE, octaves: int = _OCTAVES) -> Bands:
    """Geometrically spaced bands that end just below the Nyquist frequency, as wide as the gap between two neighbours.

    Schoerkhuber et al. 2014, AES 53: to that constant-Q width a constant is added, 3.3 Hz at 96 bins an octave, without
    which the lowest bands would listen for nine seconds.
    """
    lowest_hz = SOUND_RATE_HZ / 2 / 2**octaves
    centres_hz = lowest_hz * 2 ** (np.arange(bins_per_octave * octaves) / bins_per_octave)
    share = 2 ** (1 / bins_per_octave) - 2 ** (-1 / bins_per_octave)
    return Bands(centres_hz, share * (centres_hz + _GLIDE_HZ))


def padded_spectrum(sound: torch.Tensor, bands: Bands) -> torch.Tensor:
    """Fourier transform of a sound (T,) and the silence after it, (n,) complex; n is a whole number of hops.

    The silence outlasts the longest filter, so that the end of the sound does not ring in its beginning.
    """
    silence_s = 4 / bands.widths_hz.min()
    steps = len(sound) // _HOP + 1 + int(np.ceil(silence_s * SOUND_RATE_HZ / _HOP))
    return torch.fft.fft(sound, n=scipy.fft.next_fast_len(steps) * _HOP)


def band_power(spectrum: torch.Tensor, bands: Bands) -> torch.Tensor:
    """Power of each band every 10 ms, (k, n / 160): 1e4 for a tone of amplitude 1 at the centre of a band.

    Velasco et al. 2011, DAFx, non-stationary Gabor frames: each band is cut out of the spectrum of the whole sound
    and transformed back on its own. We differ in sampling all bands at one rate: where a band is wider than that rate
    its spectrum is folded first, which samples the filter's output and does not smooth it. Phase is lost.
    """
    n = len(spectrum)
    steps = n // _HOP
    centres, widths = (hz[:, None] * n / SOUND_RATE_HZ for hz in (bands.centres_hz, bands.widths_hz))
    below = np.floor(centres)
    # Two lines more than the widest window, whose centre lies between lines.
    folds = int(np.ceil((widths.max() + 2) / steps))
    lines = torch.arange(folds * steps, device=spectrum.device) - folds * steps // 2
    past_centre = lines - _like(spectrum, centres - below)
    window = 0.5 + 0.5 * torch.cos(2 * torch.pi * (past_centre / _like(spectrum, widths)).clamp(-0.5, 0.5))
    # The modulo leads above the Nyquist frequency and below zero to the mirrored half, as filters of a real sound do.
    cut = spectrum[(torch.from_numpy(below.astype(np.int64)).to(spectrum.device) + lines) % n] * window
    folded = cut.view(len(centres), folds, steps).sum(1)
    return torch.fft.ifft(folded).abs().square() * (_TONE_POWER * 4 / _HOP**2)


def _like(tensor: torch.Tensor, array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.float32)).to(tensor.device)


def uniform_grid_hz(centres_hz: np.ndarray) -> np.ndarray:
    """Evenly spaced frequencies from the lowest centre to the highest, 16 of them in the lowest octave."""
    return np.arange(centres_hz[0], centres_hz[-1], centres_hz[0] / _OVERSAMPLING)


def cepstral_matrix(centres_hz: np.ndarray, coefficients: int = _COEFFICIENTS) -> np.ndarray:
    """Uniform resampling and the discrete cosine transform as one matrix, (coefficients, k) float64.

    Both are linear in the log power: a cubic spline through the bands, read off at `uniform_grid_hz`, then the
    orthonormal DCT-II, coefficient 0 included.
    """
    resampling = CubicSpline(centres_hz, np.eye(len(centres_hz)))(uniform_grid_hz(centres_hz))
    return scipy.fft.dct(resampling, axis=0, norm="ortho")[:coefficients]


def cqcc(sound: torch.Tensor, bands: Bands, matrix: torch.Tensor) -> torch.Tensor:
    """Coefficients with first and second differences, (T // 160 + 1, 3 * coefficients) float32.

    Parameters
    ----------
    sound
        (T,) float32 at 16 kHz, at least one sample. Outside of it there is silence.
    bands, matrix
        From `constant_q_bands` and `cepstral_matrix`, the latter float32 and on the sound's device.
    """
    spectrum = padded_spectrum(sound, bands)
    cepstra = torch.zeros(len(matrix), len(spectrum) // _HOP, device=sound.device)
    # One octave at a time: neighbours have similar widths, and long sounds stay small in memory.
    for start in range(0, matrix.shape[1], _BINS_PER_OCTAVE):
        stop = start + _BINS_PER_OCTAVE
        power = band_power(spectrum, bands.part(start, stop))
        cepstra += matrix[:, start:stop] @ power.clamp(min=_POWER_FLOOR).log()
    cepstra = cepstra[:, : len(sound) // _HOP + 1]
    first = torchaudio.functional.compute_deltas(cepstra, _DIFFERENCE_STEPS)
    return torch.cat([cepstra, first, torchaudio.functional.compute_deltas(first, _DIFFERENCE_STEPS)]).T.contiguous()


def load_cqcc(context: LoadContext) -> Backbone:
    """Constant-Q cepstra: 20 coefficients with first and second differences, (T, 60) at 100 Hz.

    Todisco et al. 2017, Computer Speech and Language 45, section 3, with the settings of its authors' code at 16 kHz:
    96 bins an octave, 9 octaves below the Nyquist frequency, 16 uniform samples in the lowest, coefficients 0 to 19,
    differences over 3 steps. We differ in the step of 10 ms, where theirs follows from the widest band; in the floor
    of 1e-10, where theirs is 2e-16 and digital silence an outlier; and in silence around the sound, where theirs is
    circular.
    """
    bands = constant_q_bands()
    matrix = torch.from_numpy(cepstral_matrix(bands.centres_hz).astype(np.float32)).to(context.device)
    return spectral(
        context,
        lambda samples: cqcc(samples, bands, matrix),
        bins_per_octave=_BINS_PER_OCTAVE,
        octaves=_OCTAVES,
        glide_hz=_GLIDE_HZ,
        oversampling=_OVERSAMPLING,
        coefficients=_COEFFICIENTS,
        deltas=2,
        difference_steps=_DIFFERENCE_STEPS,
        tone_power=_TONE_POWER,
        floor=_POWER_FLOOR,
    )
