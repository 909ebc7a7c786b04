"""`mmdf extract --dry-run`: what a run would do, from headers alone. Loads no model and writes nothing."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmdf.cache.errors import MediaError, WeightsError
from mmdf.cache.manifest import Item, Manifest
from mmdf.cache.store import FeatureStore
from mmdf.extract.backbones import VIEWS, Card
from mmdf.extract.backbones.names import chosen_cards
from mmdf.extract.media.decode import MediaInfo, probe
from mmdf.extract.media.sampling import Sampling
from mmdf.extract.options import ExtractOptions
from mmdf.extract.outputs import PLAIN
from mmdf.extract.weights import find_weights

# Headers read for each modality; more items than that are extrapolated.
PROBED_ITEMS = 200
_BYTES_PER_STEP = 8
_BYTES_PER_VALUE = 2
_SOUND_STEPS_HZ = 100
_CLIP_S = 1.28


@dataclass(frozen=True)
class Estimate:
    """What a run would do.

    Attributes
    ----------
    items
        Files, by modality.
    hours
        Of sound and video together; about, where there are more files than headers were read.
    bytes_
        Size of all embeddings, by backbone.
    cached
        Items whose embeddings are in the store already, by backbone.
    missing_weights
        Backbone to what to do about it.
    unreadable
        Items, among those probed, whose header could not be read.
    """

    items: dict[str, int]
    hours: float
    bytes_: dict[str, int]
    cached: dict[str, int]
    missing_weights: dict[str, str]
    unreadable: int

    @property
    def total_bytes(self) -> int:
        """All features together."""
        return sum(self.bytes_.values())

    def to_line(self) -> str:
        """One line for people, before a run."""
        kinds = ", ".join(f"{count} {name}" for name, count in self.items.items())
        return f"{kinds}; about {self.total_bytes / 1e6:.1f} MB of embeddings in {len(self.bytes_)} features."

    def to_dict(self) -> dict:
        """Plain JSON values."""
        return {
            "items": self.items,
            "hours": round(self.hours, 4),
            "bytes": self.bytes_,
            "cached": self.cached,
            "missing_weights": self.missing_weights,
            "unreadable": self.unreadable,
        }

    def to_text(self) -> str:
        """A few lines for people."""
        kinds = ", ".join(f"{count} {name}" for name, count in self.items.items())
        lines = [f"{kinds}; about {self.hours:.2f} h of sound and video."]
        for name, size in self.bytes_.items():
            lines.append(f"  {name:<28} {size / 1e6:10.1f} MB   {self.cached[name]} items are in the store")
        lines += [f"Weights missing: {text}" for text in self.missing_weights.values()]
        if self.unreadable:
            lines.append(f"{self.unreadable} of the headers read were bad; `mmdf extract` will say why.")
        return "\n".join(lines)


def estimate(manifest: Manifest, store_path: Path, names: Sequence[str], options: ExtractOptions) -> Estimate:
    """Estimate a run. Raises `UsageError` for unknown backbones; bad files and missing weights are in the result."""
    cards = chosen_cards(names, options.outputs, options.weights_dir)
    by_modality: dict[str, list[Item]] = defaultdict(list)
    for item in manifest.items():
        by_modality[item.modality].append(item)
    seconds, unreadable = 0.0, 0
    bytes_ = dict.fromkeys((card.alias for card in cards), 0.0)
    for modality, items in sorted(by_modality.items()):
        infos, bad = _probed(manifest, items)
        unreadable += bad
        scale = len(items) / len(infos) if infos else 0.0
        seconds += scale * sum(info.duration_s for info in infos)
        # Augmented views are made of the train split alone.
        views = 1 + options.augment * sum(item.split == "train" for item in items) / len(items)
        for card in cards:
            if modality in card.modalities:
                bytes_[card.alias] += views * scale * sum(_bytes(card, info, options) for info in infos)
    return Estimate(
        {name: len(items) for name, items in sorted(by_modality.items())},
        seconds / 3600,
        {name: round(size) for name, size in bytes_.items()},
        _cached(manifest, store_path, cards, options),
        _missing_weights(cards, options.weights_dir),
        unreadable,
    )


def _probed(manifest: Manifest, items: Sequence[Item]) -> tuple[list[MediaInfo], int]:
    infos: list[MediaInfo] = []
    bad = 0
    step = max(1, len(items) // PROBED_ITEMS)
    for item in items[::step]:
        try:
            infos.append(probe(manifest.file(item), item.modality))
        except (MediaError, OSError):
            bad += 1
    return infos, bad


def _bytes(card: Card, info: MediaInfo, options: ExtractOptions) -> float:
    is_there = info.has_picture if VIEWS[card.view].stream == "picture" else info.has_sound
    steps = _steps(card, info, options.sampling) if is_there else 0
    outputs = options.outputs.of(card)
    shape = outputs.shape(card.n_layers, card.dim if outputs == PLAIN else card.token_dim or card.dim)
    dim = math.prod(shape) if shape else card.dim
    return steps * (dim * _BYTES_PER_VALUE + _BYTES_PER_STEP)


def _steps(card: Card, info: MediaInfo, sampling: Sampling) -> int:
    if card.view in ("frame", "face"):
        if not info.duration_s:
            return 1
        return round(info.duration_s * sampling.frame_rate_hz) if sampling.frame_rate_hz else sampling.frames
    if card.view == "mouth":
        return int(min(info.duration_s, sampling.mouth_max_s) * min(sampling.mouth_rate_hz, info.rate_hz or np.inf))
    if card.view in ("clip", "face-clip"):
        clips = min(sampling.clips, int(info.duration_s / _CLIP_S))
        return clips * (sampling.clip_frames - 1) if card.name == "motion" else clips
    if card.view in ("speech", "speech-trimmed"):
        if sampling.steps_hz:
            return max(1, round(info.duration_s * sampling.steps_hz))
        return 1 + max(0, round((info.duration_s - sampling.window_s) / sampling.window_hop_s + 0.5))
    return int(info.duration_s * _SOUND_STEPS_HZ) + 1


def _cached(manifest: Manifest, store_path: Path, cards: Sequence[Card], options: ExtractOptions) -> dict[str, int]:
    """Items in the store by backbone, of any precision and any weights: exact fingerprints need the models."""
    cached = {card.alias: 0 for card in cards}
    if not (store_path / "mmdf.json").exists():
        return cached
    store = FeatureStore.open(store_path)
    wanted = {card.alias: (options.outputs.of(card).variant, options.sampling.of_view(card.view)) for card in cards}
    for spec in store.specs():
        name = f"{spec.backbone}/{spec.view}"
        if name not in wanted or spec.augment:
            continue
        variant, sampling = wanted[name]
        if dict(spec.sampling) == sampling and spec.variant.startswith(variant):
            there = len(manifest) - len(store.missing(manifest, spec))
            cached[name] = max(cached[name], there)
    return cached


def _missing_weights(cards: Sequence[Card], weights_dir: Path | None) -> dict[str, str]:
    missing = {}
    for card in cards:
        try:
            find_weights(card, weights_dir)
        except WeightsError as error:
            missing[card.alias] = str(error)
    return missing
