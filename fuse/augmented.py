"""Augmented views that stage one made of the training items, as more training items. Reads the cache.

Validation and test never see one: what a detector scores is what was measured on files as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from mmdf.cache.manifest import Manifest
from mmdf.cache.spec import FeatureSpec
from mmdf.cache.store import FeatureStore
from mmdf.fuse.batches import Features, read_features


def with_views(plain: Features, store: FeatureStore, manifest: Manifest) -> Features:
    """`plain`, the features of `manifest`, followed by the same items in every augmented view that the store has.

    A view of one stream goes with the other stream as it is, where that has no view of the same number.
    """
    parts = [plain]
    for chosen in views_of(store, plain.specs):
        found = read_features(store, manifest, chosen)
        # Under the names of the plain features: to a head they are the same thing, seen differently.
        x = {spec.alias: found.x[view.alias] for spec, view in zip(plain.specs, chosen, strict=True)}
        parts.append(replace(plain, x=x, present=found.present))
    return joined(parts)


def usable_views(plain: Features, store: FeatureStore, manifest: Manifest) -> Features:
    """`with_views`, without items that cannot teach: no label, or no embedding."""
    found = with_views(plain, store, manifest)
    return found.take(found.usable())


def views_of(store: FeatureStore, specs: Sequence[FeatureSpec]) -> list[tuple[FeatureSpec, ...]]:
    """For each number of a view that any of `specs` has in the store: that view of each, or itself for want of one."""
    found: dict[int, dict[str, FeatureSpec]] = {}
    wanted = {spec.fingerprint: spec for spec in specs}
    for candidate in store.specs():
        if candidate.augment:
            origin = without_view(candidate).fingerprint
            if origin in wanted:
                found.setdefault(candidate.augment, {}).setdefault(origin, candidate)
    return [tuple(views.get(spec.fingerprint, spec) for spec in specs) for _, views in sorted(found.items())]


def without_view(spec: FeatureSpec) -> FeatureSpec:
    """The feature of the items as they are, to which an augmented one belongs."""
    variant = "+".join(part for part in spec.variant.split("+") if part != f"aug{spec.augment}")
    sampling = {name: value for name, value in spec.sampling.items() if name != "augment"}
    return replace(spec, variant=variant, sampling=sampling)


def joined(parts: Sequence[Features]) -> Features:
    """Several Features on the same specs, one after the other; items may occur again."""
    first = parts[0]

    def together(name: str) -> torch.Tensor:
        return torch.cat([getattr(part, name) for part in parts])

    x: Mapping[str, torch.Tensor] = {name: torch.cat([part.x[name] for part in parts]) for name in first.x}
    labels, video_labels, audio_labels = (together(name) for name in ("labels", "video_labels", "audio_labels"))
    item_ids = tuple(item_id for part in parts for item_id in part.item_ids)
    present, weights = together("present"), together("weights")
    return Features(first.specs, x, present, labels, video_labels, audio_labels, weights, item_ids)
