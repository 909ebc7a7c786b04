"""FeatureSpec: everything that changes a number in the cache, and the fingerprint made of it.

Batch size, worker count, machine and library patch versions are provenance: they never enter the fingerprint.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

SPEC_SCHEMA = 1


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no white space: equal values give equal text, 1.0 and 1 too (as in RFC 8785)."""
    return json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _canonical(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _canonical(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(inner) for inner in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


@dataclass(frozen=True, eq=False)
class FeatureSpec:
    """What was computed, exactly.

    Attributes
    ----------
    backbone, view
        Names; together the alias `backbone/view` that people type.
    stream
        "picture" or "sound": which label (video_label, audio_label) the feature can know about.
    dim
        Width of one embedding.
    hop_s
        Usual distance of two steps in seconds, None where steps are spread evenly over a clip of any length.
    weights_digest
        sha256 of the weights file, "none" for signal-level features.
    variant
        What sets it apart from the backbone's plain embedding ("layers-all", "aug1"); a part of the alias.
    shape
        Axes of one embedding where there are several, such as (layers, dim); their product is `dim`. Else empty.
    """

    backbone: str
    view: str
    stream: str
    dim: int
    hop_s: float | None
    weights_digest: str
    layers: str
    pooling: str
    padding: str
    compute_dtype: str
    storage_dtype: str
    sampling: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    decoder: Mapping[str, Any] = field(default_factory=dict)
    variant: str = ""
    shape: tuple[int, ...] = ()
    schema: int = SPEC_SCHEMA

    def __post_init__(self) -> None:
        if self.shape and math.prod(self.shape) != self.dim:
            raise ValueError(f"the shape {self.shape} does not hold {self.dim} values")

    @property
    def alias(self) -> str:
        """The readable name, e.g. `clip-vit-b32/frame` or `hubert-base/speech+layers-all`."""
        return f"{self.backbone}/{self.view}" + (f"+{self.variant}" if self.variant else "")

    @property
    def augment(self) -> int:
        """Which augmented view of the items this is, from 1; 0 for the items as they are."""
        return int(self.sampling.get("augment", {}).get("index", 0))

    @property
    def accompanies(self) -> bool:
        """Whether it is kept beside other features rather than for itself, so that heads take it by name only.

        Where a face is in its frame often tells the data set, and so the label, before any face is looked at.
        """
        return self.backbone == "face-geometry"

    @cached_property
    def fingerprint(self) -> str:
        """blake2b-128 of the canonical JSON, as 32 hexadecimal digits."""
        return hashlib.blake2b(canonical_json(self.to_dict()).encode(), digest_size=16).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FeatureSpec) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON values. `variant` and `shape` only where set, as in stores made before they were."""
        values = asdict(self)
        extra = {"variant": values.pop("variant"), "shape": list(values.pop("shape"))}
        return values | {name: value for name, value in extra.items() if value}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "FeatureSpec":
        """The inverse of `to_dict`."""
        return FeatureSpec(**{**values, "shape": tuple(values.get("shape", ()))})

    def same_but_precision(self, other: "FeatureSpec") -> bool:
        """Whether the two differ at most in compute precision (float16 on one machine, float32 on the other)."""
        return replace(self, compute_dtype="") == replace(other, compute_dtype="")
