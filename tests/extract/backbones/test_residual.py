from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.signal import convolve2d

from mmdf.extract.backbones import CARDS
from mmdf.extract.backbones import residual as module
from mmdf.extract.backbones.base import LoadContext
from mmdf.extract.backbones.residual import RESIDUAL_NAMES, load_residual, residual_statistics, residuals
from mmdf.extract.media.sampling import DEFAULT_SAMPLING
from mmdf.extract.views import Shots, Views

CPU = torch.device("cpu")
# As Zhou et al. print them; divided by 2, 4 and 12 only afterwards, since half a step must stay exactly that.
SECOND = np.array([[1, -2, 1]])
SQUARE_3 = np.array([[-1, 2, -1], [2, -4, 2], [-1, 2, -1]])
SQUARE_5 = np.array([[-1, 2, -2, 2, -1], [2, -6, 8, -6, 2], [-2, 8, -12, 8, -2], [2, -6, 8, -6, 2], [-1, 2, -2, 2, -1]])


def picture(height: int = 40, width: int = 28, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.uniform(0, 255, (height, width)), 2, mode="wrap") * 3 - 255
    return np.clip(smooth + rng.normal(0, 2, smooth.shape), 0, 255).round()


def statistics(grey: np.ndarray) -> dict[str, float]:
    found = residual_statistics(torch.from_numpy(grey.astype(np.float32)))
    return dict(zip(RESIDUAL_NAMES, found.tolist(), strict=True))


def expected_residuals(grey: np.ndarray) -> dict[str, np.ndarray]:
    inner = grey[2:-2, 2:-2]
    return {
        "first_right": grey[2:-2, 3:-1] - inner,
        "first_down": grey[3:-1, 2:-2] - inner,
        "second_right": convolve2d(grey, SECOND, "valid")[2:-2, 1:-1] / 2,
        "second_down": convolve2d(grey, SECOND.T, "valid")[1:-1, 2:-2] / 2,
        "square_3": convolve2d(grey, SQUARE_3, "valid")[1:-1, 1:-1] / 4,
        "square_5": convolve2d(grey, SQUARE_5, "valid") / 12,
    }


def expected_statistics(r: np.ndarray) -> dict[str, float]:
    energy = np.mean(r**2)
    skewness = np.mean(r**3) / energy**1.5
    levels = np.clip(np.round(r), -2, 2)
    return {
        "mean_abs": np.log1p(np.mean(np.abs(r))),
        "mean_square": np.log1p(energy),
        "skewness": np.sign(skewness) * np.log1p(abs(skewness)),
        "kurtosis": np.log1p(np.mean(r**4) / energy**2),
        **{f"level_{v:+d}": np.mean(levels == v) for v in range(-2, 3)},
        "correlation_right": np.mean(r[:, 1:] * r[:, :-1]) / energy,
        "correlation_down": np.mean(r[1:] * r[:-1]) / energy,
        "equal_right": np.mean(levels[:, 1:] == levels[:, :-1]),
        "equal_down": np.mean(levels[1:] == levels[:-1]),
    }


def test_residuals_are_scipy_s() -> None:
    grey = picture()
    found = residuals(torch.from_numpy(grey.astype(np.float32))).numpy()
    for row, plain in zip(found, expected_residuals(grey).values(), strict=True):
        assert row == pytest.approx(plain, abs=1e-5)


# Strips of 36, 3 and 1 rows; a picture of 36 rows of residuals ends with a whole strip in each.
@pytest.mark.parametrize("strip_pixels", [2**15, 24 * 3, 1])
def test_statistics_are_those_of_plain_numpy(strip_pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STRIP_PIXELS", strip_pixels)
    for grey in (picture(), picture(41, 28, seed=1)):
        expected = {
            f"{kernel}_{name}": value
            for kernel, plain in expected_residuals(grey).items()
            for name, value in expected_statistics(plain).items()
        }
        assert statistics(grey) == pytest.approx(expected, abs=1e-4)


def test_noise_has_the_statistics_of_its_differences() -> None:
    noisy = 128 + np.random.default_rng(0).normal(0, 6, (300, 300))
    found = statistics(noisy)
    for name, energy, correlation in (("first_right", 2 * 36, -0.5), ("second_right", 6 * 36 / 4, -2 / 3)):
        assert np.expm1(found[f"{name}_mean_square"]) == pytest.approx(energy, rel=0.03)
        assert np.expm1(found[f"{name}_kurtosis"]) == pytest.approx(3, rel=0.05)
        assert found[f"{name}_correlation_right"] == pytest.approx(correlation, abs=0.02)
        assert found[f"{name}_correlation_down"] == pytest.approx(0, abs=0.02)


def test_directions_are_told_apart() -> None:
    stripes = np.tile(np.random.default_rng(0).integers(0, 256, 32).astype(float), (32, 1))
    found = statistics(stripes)
    assert found["first_right_mean_abs"] > 3
    assert found["first_down_mean_abs"] == found["second_down_mean_abs"] == 0
    assert found["first_down_level_+0"] == 1
    assert found["first_right_equal_down"] == 1


def test_smoothing_shows() -> None:
    sharp = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(float)
    before, after = statistics(sharp), statistics(gaussian_filter(sharp, 1))
    for kernel in ("first_right", "second_down", "square_3", "square_5"):
        assert after[f"{kernel}_mean_square"] < before[f"{kernel}_mean_square"] - 2
        assert after[f"{kernel}_level_+0"] > before[f"{kernel}_level_+0"]


@pytest.mark.parametrize("level", [0, 77, 255])
def test_a_constant_picture_leaves_nothing(level: int) -> None:
    found = statistics(np.full((16, 24), level + 0.3))
    ones = ("level_+0", "equal_right", "equal_down")
    assert found == {name: float(name.endswith(ones)) for name in RESIDUAL_NAMES}


@pytest.mark.parametrize("size_px", [(6, 6), (16, 16), (16, 500), (500, 16)])
def test_small_and_narrow_pictures_are_finite(size_px: tuple[int, int]) -> None:
    grey = np.random.default_rng(0).uniform(0, 255, size_px)
    assert np.isfinite(list(statistics(grey).values())).all()


def test_extremes_fit_half_precision() -> None:
    board = np.indices((64, 64)).sum(0) % 2 * 255.0
    dot = np.zeros((600, 600))
    dot[300, 300] = 255
    for grey in (board, dot):
        found = residual_statistics(torch.from_numpy(grey.astype(np.float32))).half()
        assert torch.isfinite(found).all()


def test_the_backbone_keeps_times_and_takes_any_size() -> None:
    context = LoadContext(
        card=replace(CARDS["residual"], dim=len(RESIDUAL_NAMES)),
        weights=None,
        digest="none",
        device=CPU,
        dtype=torch.bfloat16,
        sampling=DEFAULT_SAMPLING,
    )
    backbone = load_residual(context)
    grey = np.stack([picture(seed=k) for k in range(3)]).astype(np.uint8)
    pixels = torch.from_numpy(grey)[:, None].expand(-1, 3, -1, -1)
    views = Views({"frame": Shots(pixels, np.arange(3) / 25, np.arange(3) * 7)})
    rows = backbone.rows(views)
    assert rows.inputs.shape == (3, backbone.spec.dim) == (3, 78)
    assert rows.inputs.dtype == torch.float32
    assert rows.inputs[2].tolist() == pytest.approx(list(statistics(grey[2].astype(float)).values()), abs=1e-5)
    assert rows.times_s.tolist() == [0, 0.04, 0.08]
    assert rows.indices.tolist() == [0, 7, 14]
    assert backbone.spec.compute_dtype == "float32"
