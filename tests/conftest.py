"""Tiny real media, written by the tests themselves, and a few small stores."""

import logging
import os
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from mmdf.cli import main

# Before any test imports a library that reads it: no test may reach for the network.
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True)
def quiet_again() -> Iterator[None]:
    """The command line sets how much is logged; the next test must not feel it."""
    logger = logging.getLogger("mmdf")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.fixture
def make_image(tmp_path: Path) -> Callable[..., Path]:
    """Write a picture of smooth colours and return its path."""

    def make(
        name: str = "image.png", size: tuple[int, int] = (64, 48), seed: int = 0, mode: str = "RGB", **save
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).convert(mode).save(path, **save)
        return path

    return make


@pytest.fixture
def make_sound(tmp_path: Path) -> Callable[..., Path]:
    """Write a 16-bit wav of a wobbling tone in noise and return its path."""

    def make(name: str = "sound.wav", duration_s: float = 1.0, rate_hz: int = 16000, seed: int = 0) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(rate_hz)
            file.writeframes((voice(duration_s, rate_hz, seed) * 32767).astype("<i2").tobytes())
        return path

    return make


def voice(duration_s: float, rate_hz: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.arange(round(duration_s * rate_hz)) / rate_hz
    tone = np.sin(2 * np.pi * (150 + 40 * seed) * t + 3 * np.sin(2 * np.pi * 3 * t))
    return 0.4 * tone + 0.05 * rng.standard_normal(len(t))


@pytest.fixture
def make_video(tmp_path: Path) -> Callable[..., Path]:
    """Write an H.264 video whose frames tell their number by their grey level, and return its path."""

    def make(
        name: str = "video.mp4",
        n_frames: int = 50,
        rate_hz: int = 25,
        size: tuple[int, int] = (64, 48),
        sound: bool = True,
        seed: int = 0,
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            video = container.add_stream("libx264", rate=rate_hz, options={"crf": "10", "threads": "1"})
            video.width, video.height, video.pix_fmt = *size, "yuv420p"
            audio = container.add_stream("aac", rate=16000, layout="mono") if sound else None
            for number in range(n_frames):
                pixels = np.full((size[1], size[0], 3), frame_level(number), np.uint8)
                pixels[: size[1] // 4, : size[0] // 4] = (40 * seed) % 256
                container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
            container.mux(video.encode())
            if audio is not None:
                samples = voice(n_frames / rate_hz, 16000, seed).astype(np.float32)[None]
                frame = av.AudioFrame.from_ndarray(samples, "fltp", "mono")
                frame.sample_rate = 16000
                container.mux([*audio.encode(frame), *audio.encode()])
        return path

    return make


def frame_level(number: int) -> int:
    """The grey level of frame `number`; neighbours differ by far more than H.264 blurs."""
    return 20 + (number * 53) % 211


class Shell:
    """Runs the command line in this process; keeps what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.out = self.err = ""

    def __call__(self, *arguments: object) -> int:
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([str(a) for a in arguments])
        self.out, self.err = self._capsys.readouterr()
        code = caught.value.code
        assert isinstance(code, int)
        return code


@pytest.fixture
def mmdf(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return Shell(capsys)
