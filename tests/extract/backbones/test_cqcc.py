from dataclasses import replace

import numpy as np
import pytest
import scipy.fft
import torch
from scipy.interpolate import CubicSpline

from mmdf.extract.backbones import CARDS
from mmdf.extract.backbones.base import LoadContext
from mmdf.extract.backbones.cqcc import (
    band_power,
    cepstral_matrix,
    constant_q_bands,
    cqcc,
    load_cqcc,
    padded_spectrum,
    uniform_grid_hz,
)
from mmdf.extract.media.decode import Decoded
from mmdf.extract.media.sampling import DEFAULT_SAMPLING
from mmdf.extract.media.sound import Sound
from mmdf.extract.views import make_views

CPU = torch.device("cpu")
BANDS = constant_q_bands()
# Few and wide bands for what does not hang on their number.
COARSE = constant_q_bands(12, 6)


def noise(n: int, level: float = 0.1) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(0, level, n).astype(np.float32))


def tone(frequency_hz: float, n: int = 16000, amplitude: float = 0.5) -> torch.Tensor:
    return torch.from_numpy((amplitude * np.sin(2 * np.pi * frequency_hz * np.arange(n) / 16000)).astype(np.float32))


def power_of(sound: torch.Tensor, bands=BANDS) -> torch.Tensor:
    return band_power(padded_spectrum(sound, bands), bands)[:, : len(sound) // 160 + 1]


def test_the_bands_are_those_of_the_paper() -> None:
    assert len(BANDS.centres_hz) == 9 * 96
    assert BANDS.centres_hz[0] == 15.625
    assert BANDS.centres_hz[-1] == pytest.approx(8000 / 2 ** (1 / 96))
    # The authors' code prints this constant at 96 bins an octave.
    gaps_hz = BANDS.centres_hz[2:] - BANDS.centres_hz[:-2]
    assert BANDS.widths_hz[1:-1] - gaps_hz == pytest.approx(3.3026, abs=1e-3)


@pytest.mark.parametrize("band", [200, 500, 700, 863])
def test_band_power_is_a_direct_correlation_with_the_filter(band: int) -> None:
    sound = noise(6000)
    found = power_of(sound)[band].numpy()
    centre_hz, width_hz = BANDS.centres_hz[band], BANDS.widths_hz[band]
    n = np.arange(len(sound))
    for step in (0, 1, 17, 30, 37):
        lag = width_hz * (step * 160 - n) / 16000
        # The inverse Fourier transform of a Hann window of that width, in closed form.
        response = width_hz / 2 * (np.sinc(lag) + np.sinc(lag - 1) / 2 + np.sinc(lag + 1) / 2)
        value = np.sum(sound.numpy() * response * np.exp(-2j * np.pi * centre_hz * n / 16000)) / 16000
        assert found[step] == pytest.approx(4e4 * abs(value) ** 2, rel=0.01)


@pytest.mark.parametrize("band", [300, 576, 850])
def test_a_tone_peaks_in_its_band_with_its_power(band: int) -> None:
    found = power_of(tone(BANDS.centres_hz[band]))[:, 50]
    assert int(found.argmax()) == band
    assert float(found[band]) == pytest.approx(1e4 * 0.5**2, rel=0.01)
    # Nothing two octaves away, but for the ends of the tone.
    assert float(found[band - 192]) < 1e-4 * float(found[band])


def test_a_click_is_heard_when_it_happens() -> None:
    sound = torch.zeros(16000)
    sound[8000] = 1
    found = power_of(sound)
    for band in (300, 576, 850):
        assert int(found[band].argmax()) == 50
    # The lower the band, the longer it listens.
    heard = (found > found.amax(1, keepdim=True) / 2).sum(1)
    assert heard[300] > 2 * heard[576] > 2 * heard[850]


def test_the_end_of_a_sound_does_not_ring_in_its_beginning() -> None:
    found = power_of(torch.cat([torch.zeros(16000), tone(200)]))
    assert float(found[:, 0].max()) < 1e-4 * float(found.max())


def test_resampling_and_cosines_are_the_matrix() -> None:
    log_power = np.random.default_rng(0).normal(-8, 3, len(BANDS.centres_hz))
    grid_hz = uniform_grid_hz(BANDS.centres_hz)
    assert np.diff(grid_hz) == pytest.approx(15.625 / 16)
    expected = scipy.fft.dct(CubicSpline(BANDS.centres_hz, log_power)(grid_hz), norm="ortho")[:20]
    assert cepstral_matrix(BANDS.centres_hz) @ log_power == pytest.approx(expected, abs=1e-6)


def test_resampling_keeps_straight_lines_straight() -> None:
    grid_hz = uniform_grid_hz(COARSE.centres_hz)
    found = cepstral_matrix(COARSE.centres_hz) @ (3 - COARSE.centres_hz / 1000)
    assert found == pytest.approx(scipy.fft.dct(3 - grid_hz / 1000, norm="ortho")[:20], abs=1e-8)


def test_cqcc_is_the_matrix_on_log_power_with_differences() -> None:
    sound = noise(8000)
    matrix = torch.from_numpy(cepstral_matrix(COARSE.centres_hz).astype(np.float32))
    found = cqcc(sound, COARSE, matrix)
    plain = matrix @ power_of(sound, COARSE).log()
    assert found.shape == (51, 60)
    assert torch.allclose(found[:, :20], plain.T, atol=1e-3)
    slopes = sum(k * (plain[:, 20 + k] - plain[:, 20 - k]) for k in (1, 2, 3)) / 28
    assert torch.allclose(found[20, 20:40], slopes, atol=1e-3)
    bends = sum(k * (found[20 + k, 20:40] - found[20 - k, 20:40]) for k in (1, 2, 3)) / 28
    assert torch.allclose(found[20, 40:], bends, atol=1e-3)


def test_octaves_one_by_one_are_all_of_them_at_once() -> None:
    sound = noise(4000)
    matrix = torch.from_numpy(cepstral_matrix(BANDS.centres_hz).astype(np.float32))
    plain = (matrix @ power_of(sound).clamp(min=1e-10).log()).T
    assert torch.allclose(cqcc(sound, BANDS, matrix)[:, :20], plain, atol=5e-3)


def test_the_noise_of_sixteen_bits_is_above_the_floor() -> None:
    rounding = torch.from_numpy(np.random.default_rng(0).uniform(-0.5, 0.5, 160000).astype(np.float32)) / 32768
    found = power_of(rounding).mean(1).view(9, 96).mean(1).numpy()
    # The noise's variance, the window's mean square over its width, and the gain that gives a tone 1e4.
    expected = 1 / 12 / 32768**2 * (3 / 8) * BANDS.widths_hz.reshape(9, 96).mean(1) / 16000 * 4e4
    assert found == pytest.approx(expected, rel=0.2)
    assert found.min() > 2e-10


def test_silence_is_the_floor() -> None:
    matrix = torch.from_numpy(cepstral_matrix(BANDS.centres_hz).astype(np.float32))
    silent = cqcc(torch.zeros(3200), BANDS, matrix)
    level = np.sqrt(len(uniform_grid_hz(BANDS.centres_hz))) * np.log(1e-10)
    assert silent[:, 0].numpy() == pytest.approx(level, rel=1e-4)
    assert silent[:, 1:].abs().max() < 0.1


def test_the_backbone_keeps_the_clock_and_takes_any_length() -> None:
    card = replace(CARDS["lfcc"], name="cqcc", family="cqcc")
    context = LoadContext(
        card=card, weights=None, digest="none", device=CPU, dtype=torch.bfloat16, sampling=DEFAULT_SAMPLING
    )
    backbone = load_cqcc(context)
    for n, steps in ((1, 1), (159, 1), (16000, 101)):
        views = make_views(Decoded(sound=Sound(noise(n).numpy(), 16000, 0.25)), CPU)
        rows = backbone.rows(views)
        assert rows.inputs.shape == (steps, backbone.spec.dim) == (steps, 60)
        assert torch.isfinite(rows.inputs).all()
        assert rows.times_s == pytest.approx(0.25 + np.arange(steps) / 100)
    assert rows.inputs.dtype == torch.float32
    assert backbone.spec.compute_dtype == "float32"
