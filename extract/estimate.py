"""`mmdf extract --dry-run`: what a run would do, from headers alone. Loads no model and writes nothing."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmdf.cache.errors import MediaError, WeightsError
from mmdf.cache.manifest import Item, Manifest
from mmdf.cache.store import FeatureStore
from mmdf.extract.backbones import VIEWS, Card, card_of
from mmdf.extract.media.decode import MediaInfo, probe
from mmdf.extract.media.sampling import Sampling
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
            lines.append(f"  {name:<20} {size / 1e6:10.1f} MB   {self.cached[name]} items are in the store")
        lines += [f"Weights missing: {text}" for text in self.missing_weights.values()]
        if self.unreadable:
            lines.append(f"{self.unreadable} of the headers read were bad; `mmdf extract` will say why.")
        return "\n".join(lines)


def estimate(
    manifest: Manifest, store_path: Path, names: Sequence[str], sampling: Sampling, weights_dir: Path | None
) -> Estimate:
    """Estimate a run. Raises `UsageError` for unknown backbones; bad files and missing weights are in the result."""
    cards = [card_of(name) for name in names]
    by_modality: dict[str, list[Item]] = defaultdict(list)
    for item in manifest.items():
        by_modality[item.modality].append(item)
    seconds, unreadable = 0.0, 0
    bytes_ = dict.fromkeys(names, 0.0)
    for modality, items in sorted(by_modality.items()):
        infos, bad = _probed(manifest, items)
        unreadable += bad
        scale = len(items) / len(infos) if infos else 0.0
        seconds += scale * sum(info.duration_s for info in infos)
        for card in cards:
            if modality in card.modalities:
                bytes_[card.name] += scale * sum(_bytes(card, info, sampling) for info in infos)
    return Estimate(
        {name: len(items) for name, items in sorted(by_modality.items())},
        seconds / 3600,
        {name: round(bytes_[name]) for name in names},
        _cached(manifest, store_path, cards, sampling),
        _missing_weights(cards, weights_dir),
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


def _bytes(card: Card, info: MediaInfo, sampling: Sampling) -> float:
    is_there = info.has_picture if VIEWS[card.view].stream == "picture" else info.has_sound
    steps = _steps(card, info, sampling) if is_there else 0
    return steps * (card.dim * _BYTES_PER_VALUE + _BYTES_PER_STEP)


def _steps(card: Card, info: MediaInfo, sampling: Sampling) -> int:
    if card.view == "frame":
        return sampling.frames if info.duration_s else 1
    if card.view == "clip":
        clips = min(sampling.clips, int(info.duration_s / _CLIP_S))
        return clips * (sampling.clip_frames - 1) if card.name == "motion" else clips
    if card.view == "speech":
        return 1 + max(0, round((info.duration_s - sampling.window_s) / sampling.window_hop_s + 0.5))
    return int(info.duration_s * _SOUND_STEPS_HZ) + 1


def _cached(manifest: Manifest, store_path: Path, cards: Sequence[Card], sampling: Sampling) -> dict[str, int]:
    """Items in the store by backbone, of any precision and any weights: exact fingerprints need the models."""
    cached = {card.name: 0 for card in cards}
    if not (store_path / "mmdf.json").exists():
        return cached
    store = FeatureStore.open(store_path)
    for spec in store.specs():
        if spec.backbone in cached and dict(spec.sampling) == sampling.of_view(spec.view):
            there = len(manifest) - len(store.missing(manifest, spec))
            cached[spec.backbone] = max(cached[spec.backbone], there)
    return cached


def _missing_weights(cards: Sequence[Card], weights_dir: Path | None) -> dict[str, str]:
    missing = {}
    for card in cards:
        try:
            find_weights(card, weights_dir)
        except WeightsError as error:
            missing[card.name] = str(error)
    return missing
