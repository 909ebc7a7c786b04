"""What a backbone is to stage one: a spec, rows to look at, and a forward pass. Knows no model library."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from mmdf.cache.spec import FeatureSpec
from mmdf.extract.backbones import Card
from mmdf.extract.media.sampling import Sampling
from mmdf.extract.views import Views


@dataclass(frozen=True)
class Rows:
    """The steps of one item, ready for a forward pass.

    Attributes
    ----------
    inputs
        (n, ...) on the device; rows of equal shape share a batch, whichever item they belong to.
    times_s
        (n,) float64.
    """

    inputs: torch.Tensor
    times_s: np.ndarray


class Backbone(Protocol):
    """A frozen feature extractor. `rows` runs once an item, `forward` once a batch."""

    spec: FeatureSpec

    def rows(self, views: Views) -> Rows:
        """What this backbone looks at in one item. Signal-level features are computed here, being no batch's work."""
        ...

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, ...) to (n, dim) float32."""
        ...


@dataclass(frozen=True)
class LoadContext:
    """Everything a family needs to build a backbone from its card.

    Attributes
    ----------
    weights
        The file with the tensors; its folder holds the configuration. None for backbones without weights.
    digest
        sha256 of that file, or "none".
    """

    card: Card
    weights: Path | None
    digest: str
    device: torch.device
    dtype: torch.dtype
    sampling: Sampling

    @property
    def file(self) -> Path:
        """The file of the weights, for families that have some."""
        if self.weights is None:
            raise ValueError(f"'{self.card.name}' has no weights")
        return self.weights

    @property
    def folder(self) -> Path:
        """The folder of the weights, with the configuration of the model."""
        return self.file.parent


def make_spec(
    context: LoadContext,
    *,
    dim: int,
    layers: str,
    pooling: str,
    preprocessing: dict[str, Any],
    padding: str = "none",
    hop_s: float | None = None,
    signal: bool = False,
) -> FeatureSpec:
    """The spec of one backbone as loaded here. Signal-level features are always computed in float32."""
    card = context.card
    return FeatureSpec(
        backbone=card.name,
        view=card.view,
        stream=card.stream,
        dim=dim,
        hop_s=hop_s,
        weights_digest=context.digest,
        layers=layers,
        pooling=pooling,
        padding=padding,
        compute_dtype="float32" if signal else str(context.dtype).removeprefix("torch."),
        storage_dtype="float16",
        sampling=context.sampling.of_view(card.view),
        preprocessing=preprocessing,
        decoder=_decoders(card),
    )


def _decoders(card: Card) -> dict[str, str]:
    """Decoder and major version of each stream: another decoder may give other numbers."""
    if card.stream == "sound":
        return {
            "sound": _major("soundfile"),
            "container": _major("av"),
            "resampler": "torchaudio sinc_interp_hann, width 6, rolloff 0.99",
        }
    found = {"video": "decord 0.6"} if _installed("decord") else {"video": _major("decord2")}
    return found | ({"image": _major("pillow")} if "image" in card.modalities else {})


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _major(package: str) -> str:
    return f"{package} {version(package).split('.')[0]}"
