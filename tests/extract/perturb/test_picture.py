import io
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmdf.extract.perturb.picture import perturb_frames
from mmdf.extract.perturb.plan import PicturePlan, draw

STILL = PicturePlan(1.0, 0.0, 0.0, False, None, 1.0, 1.0, 1.0, 0.0, None, 0.0)


def frames(n: int = 1, height_px: int = 48, width_px: int = 64, seed: int = 0) -> np.ndarray:
    """Smooth colours with a little noise, from black to white."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (n, 6, 8, 3), dtype=np.uint8)
    size = (width_px, height_px)
    smooth = np.stack([np.asarray(Image.fromarray(s).resize(size, Image.Resampling.BICUBIC)) for s in small])
    return np.clip(smooth + rng.integers(-9, 10, smooth.shape), 0, 255).astype(np.uint8)


def planar(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2)


def exact(pixels: np.ndarray, function: str, factor: float) -> np.ndarray:
    """torchvision without rounding, in levels of 0 to 255."""
    found = getattr(oracle, function)(planar(pixels).double() / 255, factor)
    return found.permute(0, 2, 3, 1).numpy() * 255


def test_a_plan_that_asks_nothing_changes_nothing() -> None:
    pixels = frames(3, 17, 23)
    found = perturb_frames(pixels, STILL)
    assert np.array_equal(found, pixels)
    assert not np.shares_memory(found, pixels)


def test_flip_is_exact() -> None:
    pixels = frames(2, 17, 23)
    assert np.array_equal(perturb_frames(pixels, replace(STILL, flip=True)), pixels[:, :, ::-1])


@given(st.floats(0.7, 1.0), st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
@settings(max_examples=50, deadline=None)
def test_crop_is_a_piece_of_the_picture_of_the_area_asked(area: float, top: float, left: float) -> None:
    # A picture whose pixels tell where they stood.
    rows, columns = np.indices((170, 230))
    pixels = np.stack([rows, columns, rows * 0], -1).astype(np.uint8)[None]
    found = perturb_frames(pixels, replace(STILL, area=area, top=top, left=left))
    y, x = found[0, 0, 0, :2].tolist()
    assert np.array_equal(found[0], pixels[0, y : y + found.shape[1], x : x + found.shape[2]])
    assert found[0, ..., 0].size / pixels[0, ..., 0].size == pytest.approx(area, abs=0.006)
    assert found.shape[2] / found.shape[1] == pytest.approx(230 / 170, rel=0.01)


def test_crops_reach_every_edge() -> None:
    pixels = frames(1, 17, 23)
    low, high = (replace(STILL, area=0.7, top=p, left=p) for p in (0.0, 0.999999))
    assert np.array_equal(perturb_frames(pixels, low)[0], pixels[0, :14, :19])
    assert np.array_equal(perturb_frames(pixels, high)[0], pixels[0, 3:, 4:])


@pytest.mark.parametrize("factor", [0.8, 0.93, 1.2])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_tones_are_those_of_torchvision(name: str, factor: float) -> None:
    pixels = frames()
    found = perturb_frames(pixels, replace(STILL, **{name: factor}))
    assert np.abs(found - exact(pixels, f"adjust_{name}", factor)).max() <= 0.51
    rounded_down = getattr(oracle, f"adjust_{name}")(planar(pixels), factor).permute(0, 2, 3, 1).numpy()
    assert np.abs(found.astype(int) - rounded_down).max() <= 1
    assert np.abs(found.astype(int) - pixels).max() > 3


@pytest.mark.parametrize("shift", [-0.5, -0.02, 0.02, 0.3, 0.5])
def test_hue_is_that_of_torchvision(shift: float) -> None:
    # Every corner of the colour cube, greys and black among them.
    levels = np.array([0, 1, 30, 64, 100, 128, 180, 230, 254, 255], np.uint8)
    pixels = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, 40, 25, 3)
    found = perturb_frames(pixels, replace(STILL, hue=shift))
    assert np.abs(found - exact(pixels, "adjust_hue", shift)).max() <= 0.51
    assert np.abs(found.astype(int) - pixels).max() > 3


def test_all_colours_together_are_torchvisions_in_order() -> None:
    pixels = frames(seed=3)
    wanted = planar(pixels).double() / 255
    factors = {"brightness": 1.15, "contrast": 0.85, "saturation": 1.2, "hue": 0.015}
    for name, factor in factors.items():
        wanted = getattr(oracle, f"adjust_{name}")(wanted, factor)
    found = perturb_frames(pixels, replace(STILL, **factors))
    # One table of 256 levels and one rounding: within half a level and float32.
    assert np.abs(found - wanted.permute(0, 2, 3, 1).numpy() * 255).max() <= 0.52


def test_contrast_has_one_pivot_for_all_frames() -> None:
    # A dark and a bright frame that share a grey patch: the patch must not flicker.
    pixels = np.stack([np.full((20, 20, 3), level, np.uint8) for level in (20, 220)])
    pixels[:, :5, :5] = 90
    found = perturb_frames(pixels, replace(STILL, contrast=0.8))
    assert np.array_equal(found[0, :5, :5], found[1, :5, :5])


@pytest.mark.parametrize("sigma_px", [0.4, 1.5])
def test_blur_spreads_a_point_by_sigma(sigma_px: float) -> None:
    pixels = np.zeros((1, 41, 41, 3), np.uint8)
    pixels[0, 20, 20] = 255
    found = perturb_frames(pixels, replace(STILL, blur_sigma_px=sigma_px))[0, ..., 0].astype(float)
    offset = np.arange(41) - 20
    wanted = np.exp(-(offset**2) / (2 * sigma_px**2))
    wanted = np.outer(wanted, wanted)
    # OpenCV's weights for bytes have eight bits.
    assert np.abs(found - 255 * wanted / wanted.sum()).max() < 2


def detail(pixels: np.ndarray) -> float:
    """Share of energy above half the Nyquist frequency."""
    power = np.abs(np.fft.fft2(pixels[0, ..., 1].astype(float))) ** 2
    f = np.hypot(np.fft.fftfreq(power.shape[0])[:, None], np.fft.fftfreq(power.shape[1]))
    return float(power[f > 0.25].sum() / power[f > 0].sum())


def test_jpeg_lowers_detail_more_the_lower_its_quality() -> None:
    pixels = frames(1, 128, 128)
    found = [detail(perturb_frames(pixels, replace(STILL, jpeg_quality=q))) for q in (40, 70, 95)]
    assert found[0] < found[1] < found[2] < detail(pixels)


def test_jpeg_is_last() -> None:
    # A picture that was JPEG last is a fixed point of the same JPEG, to within the rounding of pixels.
    plan = replace(STILL, area=0.8, top=0.3, flip=True, blur_sigma_px=0.5, brightness=1.1, hue=0.01, jpeg_quality=60)
    found = perturb_frames(frames(1, 100, 120), plan)[0]
    file = io.BytesIO()
    Image.fromarray(found).save(file, "JPEG", quality=60)
    again = np.asarray(Image.open(file))
    assert np.abs(again.astype(int) - found).mean() < 1.0
    file = io.BytesIO()
    Image.fromarray(frames(1, 100, 120)[0]).save(file, "JPEG", quality=60)
    assert np.abs(np.asarray(Image.open(file)).astype(int) - frames(1, 100, 120)[0]).mean() > 2.0


def test_all_frames_get_the_same_draw() -> None:
    pixels = np.repeat(frames(1, 40, 60), 4, axis=0)
    found = perturb_frames(pixels, replace(draw(0, b"a", 1, "picture"), jpeg_quality=50, blur_sigma_px=1.0))
    assert all(np.array_equal(found[0], frame) for frame in found[1:])


@given(st.integers(0, 2**32), st.integers(1, 33), st.integers(1, 33), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_any_size_and_plan_works_and_spares_its_input(seed: int, height_px: int, width_px: int, n: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (n, height_px, width_px, 3), dtype=np.uint8)
    before = pixels.copy()
    plan = draw(seed, b"a", 1, "picture")
    found = perturb_frames(pixels, plan)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    assert found.shape == (n, *(max(1, round(side * plan.area**0.5)) for side in (height_px, width_px)), 3)
    assert np.array_equal(pixels, before)
    assert np.array_equal(found, perturb_frames(pixels, plan))


def test_a_read_only_slice_of_a_film_works() -> None:
    film = frames(6, 17, 23)
    film.flags.writeable = False
    plan = draw(5, b"b", 2, "picture")
    assert np.array_equal(perturb_frames(film[::2], plan), perturb_frames(film[::2].copy(), plan))


def test_threads_change_nothing() -> None:
    plan = replace(draw(1, b"a", 1, "picture"), blur_sigma_px=1.2)
    pixels, threads = frames(1, 300, 400), cv2.getNumThreads()
    try:
        found = []
        for n in (1, 4):
            cv2.setNumThreads(n)
            found.append(perturb_frames(pixels, plan))
    finally:
        cv2.setNumThreads(threads)
    assert np.array_equal(*found)


def test_what_jpeg_cannot_hold_is_left_as_it_is() -> None:
    pixels = frames(1, 16, 66_000)
    assert np.array_equal(perturb_frames(pixels, replace(STILL, jpeg_quality=40)), pixels)


@pytest.mark.parametrize("bad", [np.zeros((4, 4, 3), np.uint8), np.zeros((1, 4, 4, 3)), np.zeros((1, 4, 4), np.uint8)])
def test_what_is_no_frames_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="must be"):
        perturb_frames(bad, STILL)
