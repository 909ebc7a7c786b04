import subprocess
import sys
from dataclasses import replace

import av
import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdf.cache.errors import MediaError, MmdfError
from mmdf.extract.perturb import sound as module
from mmdf.extract.perturb.plan import CodecPass, Noise, SoundPlan, draw, time_scale
from mmdf.extract.perturb.sound import perturb_sound, require_tools

STILL = SoundPlan(None, None, None, None, 0.0)
RATES_HZ = (8000, 16000, 44100)
CODECS = [CodecPass("mp3", 32), CodecPass("mp3", 128), CodecPass("opus", 16), CodecPass("opus", 64)]


def sine(frequency_hz: float, rate_hz: int, duration_s: float = 1.0) -> np.ndarray:
    t = np.arange(round(duration_s * rate_hz)) / rate_hz
    return (0.5 * np.sin(2 * np.pi * frequency_hz * t)).astype(np.float32)


def babble(rate_hz: int, duration_s: float = 1.0, seed: int = 0) -> np.ndarray:
    """Noise below 3 kHz whose loudness wobbles as that of speech does."""
    rng = np.random.default_rng(seed)
    n = round(duration_s * rate_hz)
    low = scipy.signal.sosfilt(scipy.signal.butter(4, 3000, fs=rate_hz, output="sos"), rng.standard_normal(n))
    return (0.2 * low * (1.1 + np.sin(2 * np.pi * 4 * np.arange(n) / rate_hz))).astype(np.float32)


def bursts(times_s: list[float], rate_hz: int, duration_s: float) -> np.ndarray:
    """Clicks of 1.5 kHz, a few milliseconds long, on a faint hum."""
    t = np.arange(round(duration_s * rate_hz)) / rate_hz
    found = 0.01 * np.sin(2 * np.pi * 200 * t)
    for at_s in times_s:
        found += 0.8 * np.exp(-(((t - at_s) / 0.0015) ** 2)) * np.sin(2 * np.pi * 1500 * t)
    return found.astype(np.float32)


def pitch_hz(samples: np.ndarray, rate_hz: int) -> float:
    """The strongest frequency, by a parabola through the peak of the log spectrum."""
    log = np.log(np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) + 1e-9)
    k = int(np.argmax(log))
    a, b, c = log[k - 1 : k + 2]
    return float((k + 0.5 * (a - c) / (a - 2 * b + c)) * rate_hz / len(samples))


def lag_s(before: np.ndarray, after: np.ndarray, rate_hz: int) -> float:
    n = 2 * len(before)
    match = np.fft.irfft(np.fft.rfft(after, n) * np.conj(np.fft.rfft(before, n)), n)
    k = int(np.argmax(match))
    return (k - n if k > n // 2 else k) / rate_hz


def test_a_plan_that_asks_nothing_changes_nothing() -> None:
    samples = babble(16000)
    found = perturb_sound(samples, 16000, STILL)
    assert np.array_equal(found, samples)
    assert not np.shares_memory(found, samples)


@pytest.mark.parametrize("gain_db", [-6.0, 4.5])
def test_gain_is_what_was_asked(gain_db: float) -> None:
    samples = babble(16000)
    found = perturb_sound(samples, 16000, replace(STILL, gain_db=gain_db))
    np.testing.assert_allclose(found, samples * 10 ** (gain_db / 20), rtol=1e-6)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("stretch", [0.9, 0.97, 1.1])
def test_stretch_scales_duration_and_keeps_pitch(stretch: float, rate_hz: int) -> None:
    samples = sine(440, rate_hz, 2.0)
    found = perturb_sound(samples, rate_hz, replace(STILL, stretch=stretch))
    assert len(found) == round(len(samples) * stretch)
    assert pitch_hz(found, rate_hz) == pytest.approx(440, rel=0.01)
    # To the end it is sound, no padding.
    tail = found[-round(0.02 * rate_hz) :]
    assert tail.std() > 0.5 * samples.std()


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("semitones", [-2.0, 0.5, 2.0])
def test_pitch_moves_by_the_semitones_asked(semitones: float, rate_hz: int) -> None:
    samples = sine(440, rate_hz, 1.0)
    found = perturb_sound(samples, rate_hz, replace(STILL, pitch_semitones=semitones))
    assert len(found) == len(samples)
    assert pitch_hz(found, rate_hz) == pytest.approx(440 * 2 ** (semitones / 12), rel=0.01)


def test_pitch_and_stretch_go_together() -> None:
    found = perturb_sound(sine(440, 16000, 2.0), 16000, replace(STILL, stretch=1.08, pitch_semitones=-1.5))
    assert len(found) == round(1.08 * 32000)
    assert pitch_hz(found, 16000) == pytest.approx(440 * 2 ** (-1.5 / 12), rel=0.01)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize(("stretch", "semitones"), [(0.9, None), (1.1, None), (1.1, 2.0), (None, -2.0)])
def test_events_are_where_time_scale_says(stretch: float | None, semitones: float | None, rate_hz: int) -> None:
    times_s = [0.1, 0.6, 1.3, 2.0, 2.7]
    plan = replace(STILL, stretch=stretch, pitch_semitones=semitones)
    found = perturb_sound(bursts(times_s, rate_hz, 3.0), rate_hz, plan)
    t = np.arange(len(found)) / rate_hz
    for at_s in times_s:
        wanted_s = at_s * time_scale(plan)
        near = np.abs(t - wanted_s) < 0.1
        assert t[near][np.argmax(np.abs(found[near]))] == pytest.approx(wanted_s, abs=0.02)


@pytest.mark.parametrize("colour", ["white", "pink"])
@pytest.mark.parametrize("snr_db", [15.0, 35.0])
def test_noise_has_the_snr_asked(snr_db: float, colour: str) -> None:
    # A direct current is no sound, and must not raise the noise.
    samples = babble(16000) + np.float32(0.3)
    noise = perturb_sound(samples, 16000, replace(STILL, noise=Noise(colour, snr_db, 7))).astype(float) - samples
    assert 20 * np.log10(samples.std() / noise.std()) == pytest.approx(snr_db, abs=0.2)


@pytest.mark.parametrize(("colour", "slope_db"), [("white", 0.0), ("pink", -3.01)])
def test_noise_has_its_colour(colour: str, slope_db: float) -> None:
    samples = sine(1000, 16000, 8.0)
    noise = perturb_sound(samples, 16000, replace(STILL, noise=Noise(colour, 15.0, 3))) - samples
    f, power = scipy.signal.welch(noise, 16000, nperseg=4096)
    band = (f > 40) & (f < 6000)
    found = np.polyfit(np.log2(f[band]), 10 * np.log10(power[band]), 1)[0]
    assert found == pytest.approx(slope_db, abs=0.3)


def test_noise_differs_by_its_seed_alone() -> None:
    samples = babble(16000)
    one, same, other = (
        perturb_sound(samples, 16000, replace(STILL, noise=Noise("pink", 20.0, seed))) - samples for seed in (1, 1, 2)
    )
    assert np.array_equal(one, same)
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.1


@pytest.mark.parametrize("rate_hz", [*RATES_HZ, 22254, 96000])
@pytest.mark.parametrize("duration_s", [0.1, 1.0])
@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_codecs_keep_length_and_alignment(codec: CodecPass, duration_s: float, rate_hz: int) -> None:
    samples = babble(rate_hz, duration_s)
    found = perturb_sound(samples, rate_hz, replace(STILL, codec=codec))
    assert found.shape == samples.shape
    assert not np.array_equal(found, samples)
    assert abs(lag_s(samples, found, rate_hz)) <= 0.001
    # Opus turns on its speech mode at 16 kbit/s, which keeps the sound and not the wave.
    assert np.corrcoef(samples, found)[0, 1] > (0.75 if codec.kbit_s == 16 else 0.9)


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_a_click_stays_where_it_was(codec: CodecPass) -> None:
    # A hum alone would hide a lag of whole periods; the last click is near the end, where encoders flush.
    times_s = [0.02, 0.5, 0.97]
    found = perturb_sound(bursts(times_s, 16000, 1.0), 16000, replace(STILL, codec=codec))
    t = np.arange(len(found)) / 16000
    for at_s in times_s:
        near = np.abs(t - at_s) < 0.02
        energy = found[near].astype(float) ** 2
        assert np.sum(t[near] * energy) / energy.sum() == pytest.approx(at_s, abs=0.002)


@pytest.mark.parametrize("name", ["mp3", "opus"])
def test_more_bits_are_nearer_to_the_sound(name: str) -> None:
    samples = babble(44100)
    error = [
        np.std(perturb_sound(samples, 44100, replace(STILL, codec=CodecPass(name, k))) - samples) for k in (32, 64)
    ]
    assert error[0] > error[1]


def test_a_codec_that_refuses_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args) -> None:
        raise av.error.InvalidDataError(1, "no")

    monkeypatch.setattr(module, "_encoded", refuse)
    samples = babble(16000)
    assert np.array_equal(perturb_sound(samples, 16000, replace(STILL, codec=CODECS[0])), samples)


def test_filters_that_refuse_are_an_error_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args) -> None:
        raise av.error.InvalidDataError(1, "no")

    monkeypatch.setattr(module, "_filtered", refuse)
    with pytest.raises(MediaError, match="cannot stretch") as caught:
        perturb_sound(babble(16000), 16000, replace(STILL, stretch=1.1))
    assert caught.value.stage == "view"


def test_a_rate_at_which_ffmpeg_would_abort_is_refused_before() -> None:
    with pytest.raises(MediaError, match="its rate is 10 Hz"):
        perturb_sound(sine(1, 10, 30.0), 10, replace(STILL, stretch=1.1))


EVERYTHING = SoundPlan(1.07, -1.3, Noise("pink", 15.0, 1), CodecPass("mp3", 48), 6.0)


@pytest.mark.parametrize("codec", [CodecPass("mp3", 48), CodecPass("opus", 24)], ids=str)
@pytest.mark.parametrize("level", [0.0, 1e-30, 1.0, 100.0, 1e38])
def test_any_level_stays_finite(level: float, codec: CodecPass) -> None:
    samples = (babble(16000) * 2).clip(-3, 3) * np.float32(level)
    found = perturb_sound(samples, 16000, replace(EVERYTHING, codec=codec))
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert (found.std(dtype=np.float64) > level / 10) == (level >= 1)


@pytest.mark.parametrize("rate_hz", [*RATES_HZ, 96000, 384000])
@pytest.mark.parametrize("n", [1, 2, 1600])
def test_any_length_works(n: int, rate_hz: int) -> None:
    samples = np.full(n, 0.25, np.float32)
    for codec in CODECS:
        found = perturb_sound(samples, rate_hz, replace(EVERYTHING, codec=codec))
        assert len(found) == max(1, round(1.07 * n))
        assert np.isfinite(found).all()


def test_nothing_stays_nothing() -> None:
    assert perturb_sound(np.zeros(0, np.float32), 16000, EVERYTHING).shape == (0,)


@given(st.integers(0, 2**32), st.sampled_from(RATES_HZ), st.sampled_from([0.1, 0.37]))
@settings(max_examples=25, deadline=None)
def test_any_plan_works_and_spares_its_input(seed: int, rate_hz: int, duration_s: float) -> None:
    samples, plan = babble(rate_hz, duration_s), draw(seed, b"a", 1, "sound")
    before = samples.copy()
    found = perturb_sound(samples, rate_hz, plan)
    assert len(found) == round(len(samples) * time_scale(plan))
    assert np.isfinite(found).all()
    assert np.array_equal(samples, before)
    assert not np.array_equal(found[: len(samples)], samples[: len(found)])


_SCRIPT = """
import hashlib, numpy as np
from mmdf.extract.perturb.plan import draw
from mmdf.extract.perturb.sound import perturb_sound
from mmdf.extract.perturb.picture import perturb_frames
samples = np.sin(np.arange(8000) ** 1.2).astype(np.float32) / 2
pixels = np.random.default_rng(0).integers(0, 256, (2, 40, 60, 3), dtype=np.uint8)
for index in range(1, 9)[::STEP]:
    found = perturb_sound(samples, 16000, draw(7, b"k", index, "sound"))
    seen = perturb_frames(pixels, draw(7, b"k", index, "picture"))
    print(index, hashlib.sha256(found.tobytes() + seen.tobytes()).hexdigest())
"""


def test_results_are_the_same_in_any_process_and_order() -> None:
    found = [
        subprocess.run(
            [sys.executable, "-c", _SCRIPT.replace("STEP", step)], capture_output=True, text=True, check=True
        ).stdout
        for step in ("1", "-1")
    ]
    assert found[0].splitlines() == found[1].splitlines()[::-1]
    assert len(set(found[0].split()[1::2])) == 8


def test_no_torch_in_decode_workers() -> None:
    script = (
        "import sys, mmdf.extract.perturb.sound, mmdf.extract.perturb.picture, mmdf.extract.perturb.timing;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_missing_tools_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    require_tools()
    monkeypatch.setattr(module, "filters_available", {"asetrate", "aresample"})
    monkeypatch.setitem(module._ENCODERS, "mp3", ("libnothing", "mp3"))
    with pytest.raises(MmdfError, match="atempo, libnothing"):
        require_tools()


@pytest.mark.parametrize("bad", [np.zeros((1, 100), np.float32), np.zeros(100)])
def test_what_is_no_sound_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="must be"):
        perturb_sound(bad, 16000, STILL)
