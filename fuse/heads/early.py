"""Early fusion: the features are put side by side and one small network looks at all of them together.

Pooled embeddings only; it knows nothing of time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from mmdf.fuse.batches import Features
from mmdf.fuse.heads.base import Head, HeadOutput, masked_streams, option
from mmdf.fuse.layers import drop_features


@dataclass(frozen=True)
class EarlyConfig:
    """Options of the early-fusion head.

    Attributes
    ----------
    width
        Each feature is projected to this many dimensions.
    hidden
        Width of the hidden layer over all features.
    dropout
        Share of units dropped before each layer of the network.
    feature_dropout
        Probability that a whole feature is hidden from the network in training; never all of an item's features.
    """

    width: int = option(128, 1, 4096)
    hidden: int = option(128, 1, 4096)
    dropout: float = option(0.3, 0, 0.9)
    feature_dropout: float = option(0.25, 0, 0.9)


class EarlyHead(Head):
    """Projection and LayerNorm a feature, concatenation, and a network with one hidden layer.

    Missing features are blocks of zeros after the projection, and the others are scaled by S / present as in inverted
    dropout, so that the hidden layer sees the same magnitude. Unlike the probe this head can in principle tell which
    features are missing; feature dropout makes that uninformative in training but does not rule it out.
    """

    Config: ClassVar[type] = EarlyConfig
    train_defaults: ClassVar[Mapping[str, int | float]] = {"lr": 5e-4, "weight_decay": 5e-2}

    def __init__(self, dims: Mapping[str, int], config: EarlyConfig) -> None:
        super().__init__(dims, config)
        self.feature_dropout = config.feature_dropout
        self.projections = nn.ModuleList(
            nn.Sequential(nn.Dropout(config.dropout), nn.Linear(dim, config.width), nn.LayerNorm(config.width))
            for dim in dims.values()
        )
        self.network = nn.Sequential(
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(len(dims) * config.width, config.hidden),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, 1),
        )

    def forward(self, batch: Features) -> HeadOutput:
        """Logits (n,); outside of training also the logit of every feature alone."""
        inputs, present = self.inputs(batch)
        blocks = torch.stack([project(x) for project, x in zip(self.projections, inputs, strict=True)], dim=1)
        if self.training:
            return HeadOutput(self._fuse(blocks, drop_features(present, self.feature_dropout)))
        alone = [self._fuse(blocks, _just(present, column)) for column in range(len(self.names))]
        return HeadOutput(self._fuse(blocks, present), masked_streams(self.names, torch.stack(alone, dim=1), present))

    def _fuse(self, blocks: Tensor, present: Tensor) -> Tensor:
        share = present.sum(1, keepdim=True).clamp(min=1) / present.shape[1]
        shown = torch.where(present[..., None], blocks / share[..., None], 0.0)
        logit: Tensor = self.network(shown.flatten(1)).squeeze(1)
        return logit


def _just(present: Tensor, column: int) -> Tensor:
    alone = torch.zeros_like(present)
    alone[:, column] = present[:, column]
    return alone
