import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmdf.cache.errors import MediaError
from mmdf.extract.media.image import load_image
from mmdf.extract.media.limits import DEFAULT_LIMITS


def load(path: Path) -> np.ndarray:
    return load_image(path, DEFAULT_LIMITS)


def test_pixels_are_as_written(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(load(tmp_path / "a.png"), pixels)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:10] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to stand upright
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    found = load(tmp_path / "a.png")
    assert found.shape == (40, 20, 3)
    assert found[:, 10:].min() == 255
    assert found[:, :10].max() == 0


@pytest.mark.parametrize(
    ("mode", "name"), [("CMYK", "a.jpg"), ("P", "a.png"), ("L", "a.png"), ("1", "a.png"), ("LA", "a.png")]
)
def test_every_mode_becomes_rgb(make_image, mode: str, name: str) -> None:
    found = load(make_image(name, mode=mode))
    assert found.shape == (48, 64, 3)
    assert found.dtype == np.uint8
    assert found.std() > 10


def test_cmyk_keeps_its_colours(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), (200, 30, 60)).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert np.abs(load(tmp_path / "a.jpg").astype(int) - (200, 30, 60)).max() < 8


def test_sixteen_bits_keep_the_high_byte(tmp_path: Path) -> None:
    deep = np.linspace(0, 65535, 32 * 32).astype(np.uint16).reshape(32, 32)
    Image.fromarray(deep).save(tmp_path / "a.png")
    assert np.array_equal(load(tmp_path / "a.png")[..., 0], (deep >> 8).astype(np.uint8))


def test_transparency_lies_over_white(tmp_path: Path) -> None:
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[:16, :, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = load(tmp_path / "a.png")
    assert found[:16].max() == 0
    assert found[16:].min() == 255


def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert load(tmp_path / "a.gif")[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_a_truncated_image_is_refused(make_image, name: str) -> None:
    path = make_image(name, size=(200, 200))
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(MediaError, match="cut short"):
        load(path)


def test_one_pixel_is_refused(make_image) -> None:
    with pytest.raises(MediaError, match="1x1 px; at least 16 px"):
        load(make_image(size=(1, 1)))


def test_a_bomb_is_refused_from_its_header(tmp_path: Path) -> None:
    # Header and end of a 40,000 x 40,000 PNG; the pixels would take 4.8 GB.
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 40000, 40000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(MediaError, match="absurd size") as caught:
        load(tmp_path / "a.png")
    assert caught.value.stage == "probe"


def test_text_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(MediaError, match="not an image"):
        load(tmp_path / "a.png")
