"""The linear probe: the least a frozen feature can be asked, and the bar for every other head.

One logistic regression on pooled embeddings; knows nothing of interactions between features.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from mmdf.fuse.batches import Features
from mmdf.fuse.heads.base import Head, HeadOutput, masked_streams
from mmdf.fuse.layers import masked_mean


@dataclass(frozen=True)
class ProbeConfig:
    """A linear probe has no options; what is left to choose is in `TrainConfig`."""


class ProbeHead(Head):
    """logit = bias + mean over the present features of w_s · x_s / sqrt(2 D_s), x_s the standardised pooled embedding.

    The mean keeps the scale of the logit the same for one feature and for many, the root for narrow and for wide ones,
    so that one learning rate fits all. Which features are present is not an
    input, on purpose: in many collections the fakes have sound and the reals have none (or the reverse), so presence
    alone would tell the class without a look at the forgery. Since x_s has mean 0 over the training items that have it,
    a missing feature and an average one say the same.

    Linear probes on frozen features are the baseline of Ojha et al. 2023 (UnivFD, section 4) and of "self-supervised
    representations for deepfake detection" (ssr-dfd); unlike the latter we pool before the probe, so that a file's
    length can't enter the logit.
    """

    Config: ClassVar[type] = ProbeConfig
    train_defaults: ClassVar[Mapping[str, int | float]] = {"lr": 1e-2, "weight_decay": 1e-2}

    def __init__(self, dims: Mapping[str, int], config: ProbeConfig) -> None:
        super().__init__(dims, config)
        self.linears = nn.ModuleList(nn.Linear(dim, 1, bias=False) for dim in dims.values())
        self.bias = nn.Parameter(torch.zeros(1))
        # The problem is convex: from zero, no random direction is left over in dimensions the data say nothing about.
        for linear in self.linears:
            nn.init.zeros_(linear.weight)  # type: ignore[arg-type]

    def forward(self, batch: Features) -> HeadOutput:
        """Logits (n,), and per feature the logit it would give alone."""
        inputs, present = self.inputs(batch)
        pairs = zip(self.linears, inputs, strict=True)
        parts = torch.cat([linear(x) / x.shape[1] ** 0.5 for linear, x in pairs], dim=1)
        return HeadOutput(
            self.bias + masked_mean(parts, present), masked_streams(self.names, self.bias + parts, present)
        )
