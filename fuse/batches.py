"""Features: the pooled embeddings and labels of some items, whole in memory, as the heads take them.

Reads the cache; knows nothing of heads or training. A missing stream is a mask beside NaN, never a vector of zeros that
looks like an embedding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mmdf.cache.errors import CacheError, UsageError
from mmdf.cache.manifest import Manifest
from mmdf.cache.spec import FeatureSpec
from mmdf.cache.store import FeatureStore, Ragged


@dataclass(frozen=True)
class Features:
    """Pooled embeddings of n items in S features, and what is known of the items.

    Attributes
    ----------
    specs
        The S features, sorted by alias; every alias occurs once.
    x
        Alias to (n, 2 D) float32: mean over time, then standard deviation over time. NaN rows where not present.
    present
        (n, S) bool, in the order of `specs`.
    labels, video_labels, audio_labels
        (n,) float32: 0 real, 1 fake, NaN unknown.
    weights
        (n,) float32, the weight of each item in the loss; its mean is 1.
    item_ids
        n ids, in the order of the manifest.
    """

    specs: tuple[FeatureSpec, ...]
    x: Mapping[str, Tensor]
    present: Tensor
    labels: Tensor
    video_labels: Tensor
    audio_labels: Tensor
    weights: Tensor
    item_ids: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The aliases of the features, sorted."""
        return tuple(spec.alias for spec in self.specs)

    def __len__(self) -> int:
        return len(self.item_ids)

    def has(self, name: str) -> Tensor:
        """Which items have the feature, (n,) bool."""
        return self.present[:, self.names.index(name)]

    def stream_labels(self, name: str) -> Tensor:
        """The label of the stream that the feature sees, (n,); the item's label where the stream's is unknown.

        In FakeAVCeleb about half of the fakes are fake in one stream only: a picture feature that is told "fake" of an
        untouched picture learns the data set, not the forgery.
        """
        spec = self.specs[self.names.index(name)]
        own = self.video_labels if spec.stream == "picture" else self.audio_labels
        return torch.where(own.isnan(), self.labels, own)

    def usable(self) -> Tensor:
        """Which items can teach or test: a known label and at least one feature, (n,) bool."""
        return ~self.labels.isnan() & self.present.any(1)

    def take(self, rows: Tensor) -> "Features":
        """The items of the given row numbers (int64) or of a boolean mask (n,)."""
        rows = rows.nonzero().flatten() if rows.dtype == torch.bool else rows
        return Features(
            self.specs,
            {name: values[rows] for name, values in self.x.items()},
            self.present[rows],
            self.labels[rows],
            self.video_labels[rows],
            self.audio_labels[rows],
            self.weights[rows],
            tuple(self.item_ids[row] for row in rows.tolist()),
        )

    def only(self, name: str) -> "Features":
        """One feature with its own stream's label; items without the feature or without a label are left out."""
        column = self.names.index(name)
        alone = replace(
            self,
            specs=(self.specs[column],),
            x={name: self.x[name]},
            present=self.present[:, column : column + 1],
            labels=self.stream_labels(name),
        )
        return alone.take(alone.usable())

    def balanced(self) -> "Features":
        """The same items, weighted so that each class has half of the loss. All labels must be known."""
        fakes = self.labels.mean()
        return replace(self, weights=0.5 / torch.where(self.labels == 1, fakes, 1 - fakes))


def choose_specs(store: FeatureStore, manifest: Manifest, names: Sequence[str] | None) -> tuple[FeatureSpec, ...]:
    """The features called `names`, or with None all that hold embeddings of an item of `manifest`; sorted by alias.

    Augmented views are chosen with their features, not by themselves, and what only accompanies others (where a face
    is) by name only.

    Raises
    ------
    CacheError
        If the store holds no embeddings of the manifest at all.
    UsageError
        If a name is unknown, or if two of the chosen features share an alias.
    """
    specs = _with_embeddings(store, manifest) if names is None else list({store.find(name) for name in names})
    if not specs:
        raise CacheError(
            f"The store {store.root} has no embeddings of these {len(manifest)} items. "
            f"Run `mmdf extract MANIFEST -s {store.root} -b BACKBONE` on the manifest that is used here."
        )
    specs.sort(key=lambda spec: spec.alias)
    aliases = [spec.alias for spec in specs]
    twice = sorted({alias for alias in aliases if aliases.count(alias) > 1})
    if twice:
        shown = ", ".join(f"{s.fingerprint[:8]} ({s.compute_dtype})" for s in specs if s.alias == twice[0])
        raise UsageError(f"'{twice[0]}' is in {store.root} more than once: {shown}. Name one by its fingerprint.")
    return tuple(specs)


def _with_embeddings(store: FeatureStore, manifest: Manifest) -> list[FeatureSpec]:
    keys = [key for key in store.keys(manifest) if key is not None]
    found = []
    for spec in store.specs():
        if spec.augment or spec.accompanies:
            continue
        index = store.index(spec)
        rows = [index.position[key] for key in keys if key in index]
        if (index.n_steps[rows] > 0).any():
            found.append(spec)
    return found


def load_features(store: FeatureStore, manifest: Manifest, names: Sequence[str] | None = None) -> Features:
    """Read the features called `names` (None: all there are) of every item of `manifest` into memory."""
    return read_features(store, manifest, choose_specs(store, manifest, names))


def read_features(store: FeatureStore, manifest: Manifest, specs: Sequence[FeatureSpec]) -> Features:
    """Read exactly `specs` for every item of `manifest`, in its order."""
    pools = [pooled(store.read(spec, manifest)) for spec in specs]
    labels = [torch.from_numpy(manifest.labels(name)).float() for name in ("label", "video_label", "audio_label")]
    return _features(specs, pools, labels, manifest.column("item_id"))


def item_features(specs: Sequence[FeatureSpec], embeddings: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Features:
    """One unlabelled item from memory, pooled exactly as the store's items are.

    Parameters
    ----------
    specs
        The features that are wanted.
    embeddings
        Fingerprint or alias of a feature to `values` (T, D) and `times_s` (T,). Features that are not in here are
        missing; entries that no spec asks for are not looked at.

    Raises
    ------
    UsageError
        If an array has another width than its spec says, or no steps.
    """
    pools = []
    for spec in specs:
        values, times_s = embeddings.get(spec.fingerprint, embeddings.get(spec.alias, (None, None)))
        if values is None or times_s is None:
            values, times_s = np.empty((0, spec.dim)), np.empty(0)
        elif values.ndim != 2 or values.shape[1] != spec.dim or not 0 < len(values) == len(times_s):
            raise UsageError(
                f"{spec.alias} needs values (T >= 1, {spec.dim}) and times_s (T,); "
                f"got {values.shape} and {times_s.shape}."
            )
        # Through the storage type, so that a file scores the same from memory and from the cache.
        stored = values.astype(spec.storage_dtype)
        pools.append(pooled(Ragged(stored, np.array([0, len(stored)]), times_s, np.full(len(stored), -1))))
    return _features(specs, pools, [torch.full((1,), torch.nan)] * 3, ["item"])


def _features(
    specs: Sequence[FeatureSpec],
    pools: Sequence[tuple[np.ndarray, np.ndarray]],
    labels: Sequence[Tensor],
    item_ids: Sequence[str],
) -> Features:
    x = {spec.alias: torch.from_numpy(values) for spec, (values, _) in zip(specs, pools, strict=True)}
    present = torch.from_numpy(np.stack([present for _, present in pools], axis=1))
    label, video_label, audio_label = labels
    weights = torch.ones(len(item_ids))
    return Features(tuple(specs), x, present, label, video_label, audio_label, weights, tuple(item_ids))


def pooled(ragged: Ragged) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation over time of every item, (n, 2 D) float32, and which items have steps, (n,) bool.

    Items without steps get NaN, never zeros that look like an embedding.
    """
    n_items, dim = len(ragged.n_steps), ragged.values.shape[1]
    present = ragged.n_steps > 0
    out = np.full((n_items, 2 * dim), np.nan, np.float32)
    for item in np.flatnonzero(present):
        steps = ragged.values[ragged.offsets[item] : ragged.offsets[item + 1]].astype(np.float32)
        out[item, :dim] = steps.mean(0)
        out[item, dim:] = steps.std(0)
    return out, present
