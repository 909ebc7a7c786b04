"""What a head is: features in, one logit an item out, and a loss. Options of heads and of training are checked here.

Knows nothing of the training loop, of calibration of the whole, or of files.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from mmdf.cache.errors import UsageError
from mmdf.cache.registry import did_you_mean
from mmdf.fuse.batches import Features
from mmdf.fuse.layers import Standardiser

C = TypeVar("C")


@dataclass(frozen=True)
class HeadOutput:
    """What a head says of n items. Logits grow with fakeness.

    Attributes
    ----------
    logit
        (n,).
    streams
        Feature name to (n,), what the head would say if it had this feature alone; NaN where the item lacks it. Empty
        while training where it costs extra work.
    streams_calibrated
        Whether `streams` are log-odds of the stream's own label already.
    window_logits
        (n, W) where the head looks at time, else None.
    family_logits
        (n, F) where the head tells families of forgeries apart, else None.
    """

    logit: Tensor
    streams: Mapping[str, Tensor] = field(default_factory=dict)
    streams_calibrated: bool = False
    window_logits: Tensor | None = None
    family_logits: Tensor | None = None


class Head(nn.Module, ABC):
    """Base of all heads: standardised features, a weighted cross-entropy, and nothing else.

    Parameters
    ----------
    dims
        Feature name to the width of its pooled embedding, 2 D.
    config
        An instance of the class's `Config`.

    Attributes
    ----------
    Config
        Frozen dataclass of the head's options, all JSON values.
    train_defaults
        The head's own defaults for `TrainConfig`.
    """

    Config: ClassVar[type]
    train_defaults: ClassVar[Mapping[str, int | float]] = {}

    def __init__(self, dims: Mapping[str, int], config: Any) -> None:
        super().__init__()
        self.names = tuple(dims)
        self.config = config
        self.scalers = nn.ModuleList(Standardiser(dim) for dim in dims.values())

    @abstractmethod
    def forward(self, batch: Features) -> HeadOutput:
        """Logits of the items of `batch`, which may hold more features than the head looks at."""

    def loss(self, output: HeadOutput, batch: Features) -> Tensor:
        """Weighted mean binary cross-entropy, a scalar. All labels of `batch` must be known."""
        each = binary_cross_entropy_with_logits(output.logit, batch.labels, reduction="none")
        return (batch.weights * each).mean()

    def members(self) -> "Mapping[str, Head]":
        """Heads that are trained one by one, each on its own feature and label, before `combine`. None by default."""
        return {}

    def combine(self, val: Features) -> None:
        """Fit what joins the members, on validation items. Does nothing by default."""

    def standardise(self, train: Features) -> None:
        """Fit the standardisation on the training items."""
        for name, scaler in zip(self.names, self.scalers, strict=True):
            scaler.fit(train.x[name], train.has(name))  # type: ignore[operator]

    def inputs(self, batch: Features) -> tuple[list[Tensor], Tensor]:
        """Standardised embeddings, one (n, 2 D) a feature and 0 where missing, and the mask (n, S) bool."""
        present = torch.stack([batch.has(name) for name in self.names], dim=1)
        pairs = zip(self.names, self.scalers, strict=True)
        return [scaler(batch.x[name], batch.has(name)) for name, scaler in pairs], present


def masked_streams(names: tuple[str, ...], logits: Tensor, present: Tensor) -> dict[str, Tensor]:
    """The columns of `logits` (n, S) by feature name, NaN where not present (n, S)."""
    masked = torch.where(present, logits, torch.nan)
    return dict(zip(names, masked.unbind(1), strict=True))


def option(default: int | float, low: float, high: float) -> Any:
    """A dataclass field for a number between `low` and `high`, both allowed."""
    return field(default=default, metadata={"low": low, "high": high})


def configured(kind: type[C], values: Mapping[str, Any]) -> C:
    """An options dataclass made of `option` fields, with `values` instead of its defaults.

    Raises
    ------
    UsageError
        If a name is unknown, or a value is of the wrong type or out of range.
    """
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    for name, value in values.items():
        if name not in known:
            raise UsageError(
                f"Unknown option '{name}'.{did_you_mean(name, known)} Known: {', '.join(sorted(known)) or 'none'}."
            )
        accepted = int if isinstance(known[name].default, int) else (int, float)
        low, high = known[name].metadata["low"], known[name].metadata["high"]
        if isinstance(value, bool) or not isinstance(value, accepted) or not low <= value <= high:
            noun = "a whole number" if accepted is int else "a number"
            raise UsageError(f"Option '{name}' should be {noun} from {low:g} to {high:g}, got {value!r}.")
    return kind(**values)
