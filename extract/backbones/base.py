"""What a backbone is to stage one: a spec, rows to look at, and a forward pass. Knows no model library."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from mmdf.cache.spec import FeatureSpec
from mmdf.extract.backbones.cards import Card
from mmdf.extract.media.sampling import Sampling
from mmdf.extract.media.sound import TRIM_DB
from mmdf.extract.outputs import PLAIN, Outputs
from mmdf.extract.views import Views


@dataclass(frozen=True)
class Rows:
    """One item, ready for a forward pass.

    Attributes
    ----------
    inputs
        (n, ...) on the device; rows of equal shape share a batch, whichever item they belong to.
    times_s, indices
        (steps,) float64 and int64: when each step is, and the number of its first frame in the file, or of its first
        sample at 16 kHz. As many as rows, unless `pick` says otherwise.
    pick
        Where a row gives several steps: which of all n * k of them are kept, in the order of time.
    """

    inputs: torch.Tensor
    times_s: np.ndarray
    indices: np.ndarray
    pick: np.ndarray | None = None


class Backbone(Protocol):
    """A frozen feature extractor. `rows` runs once an item, `forward` once a batch."""

    @property
    def spec(self) -> FeatureSpec:
        """What it computes, exactly."""
        ...

    def rows(self, views: Views) -> Rows:
        """What this backbone looks at in one item. Signal-level features are computed here, being no batch's work."""
        ...

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, ...) to (n, dim) float32; (n, k, dim) where a row gives k steps."""
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
    outputs
        Layers and tokens to keep, already narrowed down to what the card has.
    compile_
        Whether forward passes may go through `torch.compile`.
    """

    card: Card
    weights: Path | None
    digest: str
    device: torch.device
    dtype: torch.dtype
    sampling: Sampling
    outputs: Outputs = PLAIN
    compile_: bool = False

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` through `torch.compile` if that was asked for.

        Once for the shape that comes first and once for all others: the last batch of a slice may have any number of
        rows, and each shape of its own took 10 to 40 s on 2 cores, for toy models.
        """
        return torch.compile(function) if self.compile_ else function

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
    storage_dtype: str = "float16",
) -> FeatureSpec:
    """The spec of one backbone as loaded here. Signal-level features are always computed in float32.

    Parameters
    ----------
    dim
        Width of one plain embedding; layers and tokens multiply it.
    """
    card, outputs = context.card, context.outputs
    shape = outputs.shape(card.n_layers, dim)
    steps_hz = context.sampling.steps_hz if card.view in ("speech", "speech-trimmed") else None
    parts = [outputs.variant, f"{steps_hz:g}hz" if steps_hz else ""]
    return FeatureSpec(
        backbone=card.name,
        view=card.view,
        stream=card.stream,
        dim=math.prod(shape) if shape else dim,
        hop_s=hop_s,
        weights_digest=context.digest,
        layers=layers if outputs.layers == "last" else outputs.layers,
        pooling=",".join(outputs.tokens) or pooling,
        padding=padding,
        compute_dtype="float32" if signal else str(context.dtype).removeprefix("torch."),
        storage_dtype=storage_dtype,
        sampling=context.sampling.of_view(card.view),
        preprocessing=preprocessing,
        decoder=_decoders(card, context.sampling),
        variant="+".join(part for part in parts if part),
        shape=shape,
    )


def _decoders(card: Card, sampling: Sampling) -> dict[str, Any]:
    """Decoder and major version of each stream, and what finds faces or silence: others may give other numbers."""
    if card.stream == "sound":
        found: dict[str, Any] = {
            "sound": _major("soundfile"),
            "container": _major("av"),
            "resampler": "torchaudio sinc_interp_hann, width 6, rolloff 0.99",
        }
        return found | ({"trim_db": TRIM_DB} if card.view.endswith("-trimmed") else {})
    found = {"video": "decord 0.6"} if _installed("decord") else {"video": _major("decord2")}
    if card.view in ("face", "face-clip", "mouth"):
        from mmdf.extract.media.cropping import faces_spec

        found["faces"] = faces_spec(card.view, sampling.face_detector)
    return found | ({"image": _major("pillow")} if "image" in card.modalities else {})


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _major(package: str) -> str:
    return f"{package} {version(package).split('.')[0]}"
