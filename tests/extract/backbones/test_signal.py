import numpy as np
import pytest
import torch
import torchaudio
from scipy.ndimage import gaussian_filter

from mmdf.extract.backbones.base import Backbone
from mmdf.extract.backbones.load import load_backbones
from mmdf.extract.backbones.motion import MOTION_NAMES
from mmdf.extract.backbones.signal import azimuthal_average
from mmdf.extract.device import Compute
from mmdf.extract.media.decode import Decoded
from mmdf.extract.media.sampling import DEFAULT_SAMPLING
from mmdf.extract.media.sound import Sound
from mmdf.extract.media.video import Frames
from mmdf.extract.views import Views, make_views

CPU = torch.device("cpu")


def load(name: str) -> Backbone:
    # Asked for half precision on purpose: signal-level features are float32 all the same.
    return load_backbones([name], Compute(CPU, torch.bfloat16, "test"), DEFAULT_SAMPLING)[0]


def sound_views(rate_hz: int = 16000, start_s: float = 0.0) -> Views:
    samples = np.random.default_rng(0).normal(0, 0.1, rate_hz).astype(np.float32)
    return make_views(Decoded(sound=Sound(samples, rate_hz, start_s)), CPU)


def clip_views(frames: list[np.ndarray]) -> Views:
    pixels = np.repeat(np.stack(frames)[..., None], 3, axis=3).astype(np.uint8)
    rows = np.arange(len(frames))
    return make_views(Decoded(Frames(pixels, rows / 25, rows, rows[None], rows)), CPU)


def test_lfcc_is_torchaudio_s_with_differences() -> None:
    views = sound_views()
    found = load("lfcc").rows(views)
    options = {"n_fft": 1024, "win_length": 400, "hop_length": 160}
    transform = torchaudio.transforms.LFCC(16000, n_filter=70, n_lfcc=20, speckwargs=options)
    transform.amplitude_to_DB = torchaudio.transforms.AmplitudeToDB("power", top_db=None)
    plain = transform(views.voice("sound").samples).T
    assert found.inputs.shape == (101, 60)
    assert torch.allclose(found.inputs[:, :20], plain)
    assert torch.allclose(found.inputs[5, 20:40] * 10, (2 * (plain[7] - plain[3]) + plain[6] - plain[4]), atol=1e-3)
    assert found.times_s[:3] == pytest.approx([0, 0.01, 0.02])


@pytest.mark.parametrize("name", ["lfcc", "logmel"])
def test_the_noise_floor_of_sixteen_bits_is_not_cut_off(name: str) -> None:
    rng = np.random.default_rng(0)
    loud = np.concatenate([0.5 * np.sin(np.arange(8000) * 0.3), np.zeros(8000)])
    sounds = [(loud + level * rng.standard_normal(16000)).astype(np.float32) for level in (1e-5, 1e-4)]
    found = [load(name).rows(make_views(Decoded(sound=Sound(sound, 16000)), CPU)).inputs for sound in sounds]
    # A factor of ten in level is a step of 4.6 in log power, in the half without the tone.
    assert float((found[1] - found[0])[60:90, 0].mean()) > 3


def test_logmel_sees_a_tone_in_its_band() -> None:
    t = np.arange(16000) / 16000
    low, high = (np.sin(2 * np.pi * f * t).astype(np.float32) for f in (300, 3000))
    backbone = load("logmel")
    found = [backbone.rows(make_views(Decoded(sound=Sound(tone, 16000)), CPU)).inputs for tone in (low, high)]
    bands = [int(f[50].argmax()) for f in found]
    assert bands[0] < 15
    assert 40 < bands[1] < 60


def test_sound_is_resampled_and_keeps_its_clock() -> None:
    found = load("logmel").rows(sound_views(8000, start_s=0.25))
    assert len(found.inputs) == 101
    assert found.times_s[0] == 0.25
    # 8 kHz sound has nothing above 4 kHz.
    assert found.inputs[10:90, 75:].mean() < found.inputs[10:90, 20:40].mean() - 5


def test_azimuthal_average_against_a_plain_loop() -> None:
    grey = np.random.default_rng(0).uniform(0, 255, (24, 40))
    power = np.abs(np.fft.fft2(grey)) ** 2 / grey.size
    rings: list[list[float]] = [[] for _ in range(8)]
    for y, x in np.ndindex(*grey.shape):
        radius = 2 * np.hypot(np.fft.fftfreq(24)[y], np.fft.fftfreq(40)[x])
        if radius <= 1:
            rings[min(int(radius * 8), 7)].append(np.log(power[y, x] + 1e-3))
    found = azimuthal_average(torch.from_numpy(grey).float(), 8)
    assert found.numpy() == pytest.approx([np.mean(ring) for ring in rings], rel=1e-4)


def test_blur_shows_in_the_high_frequencies() -> None:
    sharp = np.random.default_rng(0).integers(0, 256, (96, 96)).astype(np.float32)
    views = [clip_views([image] * 16) for image in (sharp, gaussian_filter(sharp, 2))]
    found = [load("spectrum").rows(v).inputs[0] for v in views]
    assert found[0].shape == (128,)
    assert (found[0][100:] - found[1][100:]).min() > 2
    assert abs(float(found[0][0] - found[1][0])) < 1


def test_small_pictures_fill_every_ring() -> None:
    found = azimuthal_average(torch.rand(16, 16) * 255, 128)
    assert torch.isfinite(found).all()
    assert (found[1:] != 0).all()


def test_motion_measures_a_known_shift() -> None:
    still = gaussian_filter(np.random.default_rng(0).uniform(0, 255, (112, 160)), 3) * 4 % 255
    moving = [np.roll(still, 2 * k, axis=1) for k in range(16)]
    found = load("motion").rows(clip_views(moving))
    names = dict(zip(MOTION_NAMES, found.inputs.mean(0).tolist(), strict=True))
    assert found.inputs.shape == (15, 16)
    assert np.expm1(names["flow_mean"]) == pytest.approx(2, abs=0.4)
    assert names["coherence"] > 0.9
    assert names["residual_mean"] < names["difference_mean"] / 2
    assert found.times_s == pytest.approx(np.arange(15) / 25)


def test_a_frozen_picture_does_not_move() -> None:
    still = gaussian_filter(np.random.default_rng(0).uniform(0, 255, (64, 64)), 2)
    found = load("motion").rows(clip_views([still] * 16)).inputs
    assert found[:, :3].abs().max() == 0
    assert found[:, 3].max() < 0.05


@pytest.mark.parametrize("name", ["lfcc", "logmel", "spectrum", "motion"])
def test_the_card_and_the_spec_agree(name: str) -> None:
    backbone = load(name)
    views = (
        sound_views() if backbone.spec.stream == "sound" else clip_views([np.full((64, 64), 10 * k) for k in range(16)])
    )
    rows = backbone.rows(views)
    assert rows.inputs.shape == (len(rows.times_s), backbone.spec.dim)
    assert backbone.forward(rows.inputs) is rows.inputs
    assert rows.inputs.dtype == torch.float32
    assert backbone.spec.compute_dtype == "float32"
    assert backbone.spec.weights_digest == "none"
