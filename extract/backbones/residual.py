"""Statistics of what high-pass filters leave of pictures, which need no weights. Knows nothing of files or models."""

import torch
from torch.nn import functional

from mmdf.extract.backbones.base import Backbone, LoadContext
from mmdf.extract.backbones.signal import pictorial

# Kernels that add up to zero, and the step each residual is counted in: the weight of the pixel that is predicted.
_KERNELS: dict[str, tuple[list[list[int]], int]] = {
    "first_right": ([[-1, 1]], 1),
    "first_down": ([[-1], [1]], 1),
    "second_right": ([[1, -2, 1]], 2),
    "second_down": ([[1], [-2], [1]], 2),
    "square_3": ([[-1, 2, -1], [2, -4, 2], [-1, 2, -1]], 4),
    "square_5": (
        [[-1, 2, -2, 2, -1], [2, -6, 8, -6, 2], [-2, 8, -12, 8, -2], [2, -6, 8, -6, 2], [-1, 2, -2, 2, -1]],
        12,
    ),
}
_BORDER = 2
_TRUNCATION = 2
_LEVELS = range(-_TRUNCATION, _TRUNCATION + 1)
_MOMENTS = ("mean_abs", "mean_square", "skewness", "kurtosis")
_NEIGHBOURS = ("correlation_right", "correlation_down", "equal_right", "equal_down")
_STATISTICS = (*_MOMENTS, *(f"level_{level:+d}" for level in _LEVELS), *_NEIGHBOURS)
RESIDUAL_NAMES = tuple(f"{kernel}_{what}" for kernel in _KERNELS for what in _STATISTICS)
# 0.75 MB of residuals at a time: that stays in a processor's cache, and in memory that is not given back in between.
_STRIP_PIXELS = 2**15


def _kernel_stack() -> torch.Tensor:
    """(k, 1, 5, 5), each kernel around the pixel at (2, 2), so that all residuals are of the same pixels."""
    side = 2 * _BORDER + 1
    stack = torch.zeros(len(_KERNELS), 1, side, side)
    for row, (kernel, _) in enumerate(_KERNELS.values()):
        weights = torch.tensor(kernel)
        height, width = weights.shape
        top, left = (side - height + 1) // 2, (side - width + 1) // 2
        stack[row, 0, top : top + height, left : left + width] = weights
    return stack


def residuals(grey: torch.Tensor) -> torch.Tensor:
    """What each kernel leaves of a picture, in steps.

    Parameters
    ----------
    grey
        (H, W) float32 luminance in [0, 255], at least 5 px a side; rounded to whole levels first.

    Returns
    -------
    torch.Tensor
        (6, H - 4, W - 4) float32, correlated rather than convolved, without a border of made-up pixels.
    """
    steps = torch.tensor([float(step) for _, step in _KERNELS.values()], device=grey.device)
    # Whole numbers again, whichever way the device convolves: a residual of half a step must round alike everywhere.
    whole = functional.conv2d(grey.round()[None, None], _kernel_stack().to(grey.device))[0].round_()
    return whole.div_(steps[:, None, None])


def residual_sums(found: torch.Tensor, rows: int) -> torch.Tensor:
    """Sums over residuals (k, h, w) that the statistics are made of, (k, 13); pairs downwards reach to row `rows`.

    Parameters
    ----------
    found
        One strip of a picture and, unless it is the last, the first row of the next.
    rows
        The rows of the strip itself, h or h - 1.
    """
    own = found[:, :rows]
    squares = own.square()
    levels = found.round().clamp_(-_TRUNCATION, _TRUNCATION).to(torch.int8)
    products = [own.abs(), squares, squares * own, squares.square()]
    # Against whole tensors: torch compares bytes with one number fifteen times as slowly.
    equal = [levels[:, :rows] == torch.full_like(levels[:, :rows], level) for level in _LEVELS]
    neighbours = [own[:, :, 1:] * own[:, :, :-1], found[:, 1:] * found[:, :-1]]
    pairs = [levels[:, :rows, 1:] == levels[:, :rows, :-1], levels[:, 1:] == levels[:, :-1]]
    sums = [*map(_total, products), *map(_count, equal), *map(_total, neighbours), *map(_count, pairs)]
    return torch.stack(sums, 1)


def _total(values: torch.Tensor) -> torch.Tensor:
    return values.sum((1, 2))


def _count(true: torch.Tensor) -> torch.Tensor:
    return true.view(torch.int8).sum((1, 2), dtype=torch.int32).float()


def residual_statistics(grey: torch.Tensor) -> torch.Tensor:
    """Statistics of the residuals of a picture (H, W), (78,) float32 in the order of `RESIDUAL_NAMES`.

    Mean magnitude, mean square, skewness and kurtosis, each as the logarithm of one plus its magnitude; the shares of
    the levels -2 to 2 after rounding and truncation; the correlation of neighbours and the share of equal levels among
    them. Moments are about zero, where residuals lie; skewness, kurtosis and correlation of a picture that leaves
    nothing are 0. The picture is as in `residuals`, but at least 6 px a side, so that each pixel has a neighbour.
    """
    height, width = grey.shape[0] - 2 * _BORDER, grey.shape[1] - 2 * _BORDER
    strip = max(1, _STRIP_PIXELS // width)
    total = torch.zeros(len(_KERNELS), len(_STATISTICS), device=grey.device)
    for top in range(0, height, strip):
        rows = min(strip, height - top)
        total += residual_sums(residuals(grey[top : top + rows + 2 * _BORDER + 1]), rows)
    right, down = height * (width - 1), (height - 1) * width
    counts = torch.tensor([*[height * width] * 9, right, down, right, down], device=grey.device)
    return _finish(total / counts).flatten()


def _finish(means: torch.Tensor) -> torch.Tensor:
    mean_abs, mean_square, cubes, fourths = means[:, :4].unbind(1)
    scale = torch.where(mean_square > 0, mean_square, 1.0)
    skewness = cubes / scale**1.5
    moments = [mean_abs.log1p(), mean_square.log1p(), skewness.sign() * skewness.abs().log1p()]
    moments.append((fourths / scale.square()).log1p())
    correlations = means[:, 9:11] / scale[:, None]
    return torch.cat([torch.stack(moments, 1), means[:, 4:9], correlations, means[:, 11:]], 1)


def load_residual(context: LoadContext) -> Backbone:
    """Noise residuals of luminance under six high-pass kernels, 13 statistics each, (n, 78).

    Fridrich and Kodovsky 2012, IEEE TIFS 7, section II: predict each pixel of an 8-bit picture from its neighbours,
    divide what is left by a step, round, truncate at 2. The kernels are the three of Zhou et al. 2018, arXiv
    1805.04953, section 3.2, the second-order one also turned, and both first-order ones. We differ in counting single
    levels and pairs of equal neighbours where the rich model counts every run of four, 34,671 numbers; and in moments
    of the residual before rounding, which keep what truncation cuts off. Pictures are not resized first: this feature
    sees how they were resized and compressed, so a data set whose classes differ in that is separated by it for no
    good reason.
    """
    return pictorial(
        context,
        residual_statistics,
        pooling="statistics",
        kernels=list(_KERNELS),
        truncation=_TRUNCATION,
        luminance="BT.601, rounded",
    )
