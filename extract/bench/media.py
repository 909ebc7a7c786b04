"""Media for the benchmark, made by code and kept between runs: photographs, speech-like sound, films at 1080p.

What is in them is of no interest; that they cost what real ones cost to decode is.
"""

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import soundfile
from PIL import Image

from mmdf.cache.manifest import Item, Manifest
from mmdf.extract.views import SOUND_RATE_HZ

FILM_RATE_HZ = 30
_JPEG_QUALITY, _NOISE = 90, 6.0
# 6 Mbit/s at 1080p: bits are what decoding costs, and smooth drawings need a tenth of what a camera does.
_BITS_A_PIXEL = 0.1


def images(folder: Path, n: int, size_px: int) -> Manifest:
    """`n` square JPEGs of quality 90: smooth colours and edges under the noise of a sensor."""
    noise = np.random.default_rng(0).normal(0, _NOISE, (2 * size_px, size_px, 3)).astype(np.float32)

    def write(path: Path, number: int) -> None:
        rng = np.random.default_rng(number)
        picture = _scene(rng, size_px, size_px) + np.roll(noise, int(rng.integers(size_px)), 0)[:size_px]
        Image.fromarray(_bytes(picture)).save(path, quality=_JPEG_QUALITY)

    return _files(folder / f"images-{size_px}px", n, "jpg", "image", write)


def sounds(folder: Path, n: int, shortest_s: float, longest_s: float) -> Manifest:
    """`n` wav files at 16 kHz with 16 bits, their durations spread evenly over the given range."""
    durations_s = np.linspace(shortest_s, longest_s, n)

    def write(path: Path, number: int) -> None:
        soundfile.write(path, _voice(number, float(durations_s[number])), SOUND_RATE_HZ, subtype="PCM_16")

    name = f"sounds-{n}-{shortest_s:g}-{longest_s:g}s"
    return _files(folder / name, n, "wav", "audio", write, durations_s.tolist())


def films(folder: Path, n: int, duration_s: float, width_px: int, height_px: int) -> Manifest:
    """`n` silent H.264 films at 30 frames a second: a scene that moves behind another, under the noise of a camera."""
    n_frames = round(duration_s * FILM_RATE_HZ)

    def write(path: Path, number: int) -> None:
        _write_film(path, np.random.default_rng(number), n_frames, width_px, height_px)

    name = f"films-{width_px}x{height_px}-{duration_s:g}s"
    return _files(folder / name, n, "mp4", "video", write, [duration_s] * n)


def bytes_of(manifest: Manifest) -> int:
    """Size of all files of a manifest."""
    return sum(manifest.file(item).stat().st_size for item in manifest.items())


def _files(
    folder: Path,
    n: int,
    ending: str,
    modality: str,
    write: Callable[[Path, int], None],
    durations_s: list[float] | None = None,
) -> Manifest:
    folder.mkdir(parents=True, exist_ok=True)
    items = []
    for number in range(n):
        path = folder / f"{number:05d}.{ending}"
        if not path.exists():
            # Under its name only once it is whole: the next run takes what lies here.
            temporary = folder / f"writing.{ending}"
            write(temporary, number)
            temporary.replace(path)
        duration_s = durations_s[number] if durations_s else None
        items.append(Item(path.stem, path.name, modality, duration_s=duration_s))
    return Manifest.of(items, folder)


def _scene(rng: np.random.Generator, height_px: int, width_px: int) -> np.ndarray:
    """Smooth colours, coarse and finer, (H, W, 3) float32 around 128."""
    scene = np.full((height_px, width_px, 3), 128, np.float32)
    for cells, strength in ((6, 0.6), (40, 0.25), (160, 0.12)):
        small = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        large = Image.fromarray(small).resize((width_px, height_px), Image.Resampling.BICUBIC)
        scene += strength * (np.asarray(large, np.float32) - 128)
    return scene


def _voice(seed: int, duration_s: float) -> np.ndarray:
    """A gliding tone with overtones, in syllables, over noise: (T,) float32."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(duration_s * SOUND_RATE_HZ)) / SOUND_RATE_HZ
    phase = 2 * np.pi * (120 + 6 * (seed % 20)) * t + 3 * np.sin(2 * np.pi * 2.5 * t)
    tone = sum(np.sin(k * phase) / k for k in range(1, 9))
    syllables = 0.5 + 0.5 * np.sin(2 * np.pi * 4 * t + seed)
    return (0.15 * tone * syllables + 0.01 * rng.standard_normal(len(t))).astype(np.float32)


def _write_film(path: Path, rng: np.random.Generator, n_frames: int, width_px: int, height_px: int) -> None:
    far = _bytes(_scene(rng, 2 * height_px, 2 * width_px))
    near = _bytes(_scene(rng, height_px // 2, width_px // 2))
    noise = rng.normal(0, _NOISE, (height_px + 64, width_px, 3)).round().astype(np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FILM_RATE_HZ, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width_px, height_px, "yuv420p"
        stream.bit_rate = int(_BITS_A_PIXEL * width_px * height_px * FILM_RATE_HZ)
        for number in range(n_frames):
            top, left = (5 * number) % height_px, (3 * number) % width_px
            picture = far[top : top + height_px, left : left + width_px].astype(np.int16)
            x = (width_px // 2 + 9 * number) % (width_px // 2)
            picture[height_px // 4 : height_px // 4 + near.shape[0], x : x + near.shape[1]] = near
            picture += noise[int(rng.integers(64)) :][:height_px]
            frame = av.VideoFrame.from_ndarray(np.clip(picture, 0, 255).astype(np.uint8), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _bytes(picture: np.ndarray) -> np.ndarray:
    return np.clip(picture, 0, 255).astype(np.uint8)
