"""Tokens and maps to embeddings: class token, mean of patches, patches pooled to a coarse grid. Knows no library.

A coarse grid keeps where in the picture something is, for heads that point at it, at 16 or 49 vectors instead of 256.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from mmdf.cache.errors import UsageError
from mmdf.extract.outputs import Outputs


@dataclass(frozen=True)
class TokenLayout:
    """How the tokens of a transformer lie.

    Attributes
    ----------
    prefix
        Tokens before the patches: class token and registers.
    has_cls
        Whether the first of them is a class token.
    times
        Positions in time; patches are ordered by time, row, column.
    default
        The token that stands for the picture where none is asked for.
    time_last
        Patches are ordered by row, column, time instead.
    """

    prefix: int
    has_cls: bool
    times: int = 1
    default: str = "cls"
    time_last: bool = False


def check_tokens(outputs: Outputs, layout: TokenLayout, name: str) -> None:
    """`UsageError` if tokens are asked for that the model has not."""
    if "cls" in outputs.tokens and not layout.has_cls:
        raise UsageError(f"--tokens cls: '{name}' has no class token. Take mean or grid4.")


def read_tokens(tokens: torch.Tensor, wanted: Sequence[str], layout: TokenLayout) -> torch.Tensor:
    """Tokens (n, prefix + times * h * w, D) to embeddings (n, S, D), ordered as `wanted`. Patches form a square."""
    patches = tokens[:, layout.prefix :]
    found = []
    for name in wanted or (layout.default,):
        if name == "cls":
            found.append(tokens[:, :1])
        elif name == "mean":
            found.append(patches.mean(1, keepdim=True))
        else:
            found.append(pooled_grid(_map(patches, layout), int(name.removeprefix("grid"))))
    return torch.cat(found, 1)


def _map(patches: torch.Tensor, layout: TokenLayout) -> torch.Tensor:
    """Patches (n, times * h * w, D) to their mean over time, (n, D, h, w)."""
    per_frame, side = patches.shape[1] // layout.times, round((patches.shape[1] / layout.times) ** 0.5)
    order = (per_frame, layout.times) if layout.time_last else (layout.times, per_frame)
    still = patches.reshape(len(patches), *order, -1).mean(2 if layout.time_last else 1)
    return still.reshape(len(patches), side, side, -1).permute(0, 3, 1, 2)


def read_map(map_: torch.Tensor, plain: torch.Tensor, wanted: Sequence[str]) -> torch.Tensor:
    """A convolutional map (n, D, h, w) and the net's own embedding (n, D) to (n, S, D); `mean` is the net's own.

    Of nets that widen the mean further, such as MobileNetV3, it is the mean of the map.
    """
    mean = plain if plain.shape[1] == map_.shape[1] else map_.mean((2, 3))
    return torch.cat(
        [mean[:, None] if name == "mean" else pooled_grid(map_, int(name.removeprefix("grid"))) for name in wanted], 1
    )


def pooled_grid(map_: torch.Tensor, cells: int) -> torch.Tensor:
    """(n, D, h, w) to (n, cells * cells, D): means over a grid, row by row. Cells share pixels where h is no multiple.

    Raises
    ------
    UsageError
        If the grid is finer than the map.
    """
    if cells > min(map_.shape[-2:]):
        raise UsageError(f"--tokens grid{cells}: the model has {map_.shape[-2]} x {map_.shape[-1]} patches only.")
    return functional.adaptive_avg_pool2d(map_, cells).flatten(2).transpose(1, 2)
