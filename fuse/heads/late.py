"""Late fusion: a linear probe a feature, each told only of its own stream, joined by learned weights.

The one head that can say which stream is forged. Knows nothing of what features say only together.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from mmdf.fuse.batches import Features
from mmdf.fuse.calibrate import MIN_ITEMS_A_CLASS, Calibration, check_classes, combine, platt
from mmdf.fuse.heads.base import Head, HeadOutput, masked_streams
from mmdf.fuse.heads.probe import ProbeConfig, ProbeHead


@dataclass(frozen=True)
class LateConfig:
    """Late fusion has no options; its probes follow `TrainConfig`."""


class LateHead(Head):
    """logit = bias + sum over the present streams of weight_s * (log-odds_s - prior_s), renormalised.

    Each probe is trained on the label of its own stream (`Features.stream_labels`), Platt-calibrated on validation
    (Platt 1999), and the calibrated log-odds are joined by a logistic regression on validation. A missing stream adds
    nothing to the prior, and the present ones are given its weight (`calibrate.renormalised`). Early stopping,
    calibration and weights use the same validation items, so validation scores of this head are a little too good;
    test scores are not touched by that.
    """

    Config: ClassVar[type] = LateConfig
    train_defaults: ClassVar[Mapping[str, int | float]] = ProbeHead.train_defaults

    slope: Tensor
    intercept: Tensor
    prior: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, dims: Mapping[str, int], config: LateConfig) -> None:
        super().__init__({}, config)
        self.names = tuple(dims)
        self.probes = nn.ModuleList(ProbeHead({name: dim}, ProbeConfig()) for name, dim in dims.items())
        for name in ("slope", "intercept", "prior", "weight"):
            self.register_buffer(name, torch.zeros(len(dims), dtype=torch.float64))
        self.register_buffer("bias", torch.zeros((), dtype=torch.float64))

    def members(self) -> Mapping[str, Head]:
        """The probes by feature name."""
        return dict(zip(self.names, self.probes, strict=True))  # type: ignore[arg-type]

    def combine(self, val: Features) -> None:
        """Calibrate each probe and learn the weights, on validation items.

        Raises
        ------
        DataError
            If a stream, or the whole, has fewer than five validation items of a class.
        """
        for column, name in enumerate(self.names):
            own = val.only(name)
            remedy = (
                f"Leave the feature out, use another head (probe, early), or give split 'val' more items with {name}."
            )
            check_classes(own.labels.numpy(), f"Validation of {name}", remedy, MIN_ITEMS_A_CLASS)
            fitted: Calibration = platt(own.labels.numpy().astype(float), _logits(self.probes[column], own))
            self.slope[column], self.intercept[column] = fitted.slope, fitted.intercept
            self.prior[column] = fitted.prior_log_odds
        remedy = "Use another head (probe, early), or give split 'val' more items."
        check_classes(val.labels.numpy(), "Validation", remedy, MIN_ITEMS_A_CLASS)
        with torch.no_grad():
            log_odds, present = self._log_odds(val)
        evidence = torch.where(present, log_odds - self.prior, 0.0).numpy()
        fit = combine(val.labels.numpy().astype(int), evidence, present.numpy())
        self.weight.copy_(torch.from_numpy(fit.weights))
        self.bias.fill_(fit.bias)

    def forward(self, batch: Features) -> HeadOutput:
        """Combined log-odds (n,) float64, and per feature the calibrated log-odds of its own stream's label."""
        log_odds, present = self._log_odds(batch)
        evidence = torch.where(present, log_odds - self.prior, 0.0)
        share = (present * self.weight).sum(1) / self.weight.sum().clamp(min=1e-12)
        scale = torch.where(share > 1e-6, 1 / share.clamp(min=1e-6), 0.0)
        logit = self.bias + (evidence * self.weight).sum(1) * scale
        return HeadOutput(logit, masked_streams(self.names, log_odds, present), streams_calibrated=True)

    def _log_odds(self, batch: Features) -> tuple[Tensor, Tensor]:
        logits = torch.stack([probe(batch).logit.double() for probe in self.probes], dim=1)
        present = torch.stack([batch.has(name) for name in self.names], dim=1)
        return self.slope * logits + self.intercept, present


def _logits(probe: nn.Module, items: Features) -> np.ndarray:
    with torch.no_grad():
        return probe(items).logit.double().numpy()
