from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from mmdf.cache.errors import MediaError
from mmdf.extract.media.limits import DEFAULT_LIMITS
from mmdf.extract.media.sound import load_container_sound, load_sound, sound_duration_s


def test_wav_is_as_written(make_sound) -> None:
    path = make_sound(duration_s=0.7, rate_hz=8000)
    sound = load_sound(path, DEFAULT_LIMITS)
    expected, _ = soundfile.read(path, dtype="float32")
    assert sound.rate_hz == 8000
    assert np.array_equal(sound.samples, expected)
    assert sound_duration_s(path, DEFAULT_LIMITS) == pytest.approx(0.7)


@pytest.mark.parametrize("name", ["a.flac", "a.ogg", "a.mp3"])
def test_other_formats(tmp_path: Path, name: str) -> None:
    wave = 0.3 * np.sin(np.arange(16000) * 0.1).astype(np.float32)
    soundfile.write(tmp_path / name, wave, 16000)
    found = load_sound(tmp_path / name, DEFAULT_LIMITS).samples[1000:15000]
    assert np.corrcoef(found, wave[1000:15000])[0, 1] > 0.99


def test_channels_are_averaged(tmp_path: Path) -> None:
    stereo = np.stack([np.full(8000, 0.5), np.full(8000, -0.1)], 1)
    soundfile.write(tmp_path / "a.wav", stereo, 8000, subtype="FLOAT")
    assert load_sound(tmp_path / "a.wav", DEFAULT_LIMITS).samples == pytest.approx(np.full(8000, 0.2), abs=1e-6)


def test_aac_goes_through_pyav(tmp_path: Path) -> None:
    wave = 0.3 * np.sin(np.arange(16000) * 0.1).astype(np.float32)
    with av.open(str(tmp_path / "a.m4a"), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(wave[None], "fltp", "mono")
        frame.sample_rate = 16000
        container.mux([*stream.encode(frame), *stream.encode()])
    sound = load_sound(tmp_path / "a.m4a", DEFAULT_LIMITS)
    assert sound.rate_hz == 16000
    assert len(sound.samples) == pytest.approx(16000, abs=2048)
    assert np.abs(sound.samples[2000:14000]).max() == pytest.approx(0.3, abs=0.05)


def test_nan_is_refused(tmp_path: Path) -> None:
    wave = np.zeros(8000, np.float32)
    wave[100:103] = np.nan
    soundfile.write(tmp_path / "a.wav", wave, 8000, subtype="FLOAT")
    with pytest.raises(MediaError, match="3 of its 8000 samples are NaN"):
        load_sound(tmp_path / "a.wav", DEFAULT_LIMITS)


def test_twenty_milliseconds_are_refused(make_sound) -> None:
    with pytest.raises(MediaError, match="lasts 20 ms; at least 100 ms"):
        load_sound(make_sound(duration_s=0.02), DEFAULT_LIMITS)


def test_absurd_duration_is_refused_from_the_header(make_sound) -> None:
    limits = replace(DEFAULT_LIMITS, max_duration_s=1.0)
    with pytest.raises(MediaError, match="at most 1 s are decoded"):
        load_sound(make_sound(duration_s=2.0), limits)


def test_a_container_that_lies_about_its_duration_is_stopped(make_video) -> None:
    limits = replace(DEFAULT_LIMITS, max_duration_s=0.5)
    with pytest.raises(MediaError, match="at most"):
        load_container_sound(make_video(n_frames=50), limits)


def test_text_is_no_sound(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("hello, this is not a wav file")
    with pytest.raises(MediaError, match="cannot be decoded"):
        load_sound(tmp_path / "a.wav", DEFAULT_LIMITS)


def test_a_silent_film_says_so(make_video) -> None:
    with pytest.raises(MediaError, match="it has no sound"):
        load_container_sound(make_video(sound=False), DEFAULT_LIMITS)
