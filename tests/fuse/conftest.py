"""Small feature stores with known answers, written through the store's own writer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmdf.cache.ledger import Seen
from mmdf.cache.manifest import Item, Manifest
from mmdf.cache.spec import FeatureSpec
from mmdf.cache.store import FeatureStore

Steps = Sequence[np.ndarray | None]
SPLITS = ("train", "train", "train", "val", "test")


@dataclass(frozen=True)
class Corpus:
    store: FeatureStore
    manifest: Manifest


def spec_of(alias: str, dim: int, **changes: Any) -> FeatureSpec:
    backbone, view = alias.split("/")
    stream = "sound" if view == "speech" else "picture"
    values = {"hop_s": None, "weights_digest": "none", "layers": "last", "pooling": "mean", "padding": "none"}
    values |= {"compute_dtype": "float32", "storage_dtype": "float32"} | changes
    return FeatureSpec(backbone, view, stream, dim, **values)


def key_of(item_id: str) -> bytes:
    return item_id.encode().rjust(16, b".")


def add_feature(store: FeatureStore, spec: FeatureSpec, ids: Sequence[str], steps: Steps) -> None:
    """None means that the file lacks what the feature needs."""
    writer = store.writer(spec, "run")
    for item_id, values in zip(ids, steps, strict=True):
        if values is None:
            writer.absent(key_of(item_id), f"the file has no {spec.stream}")
        else:
            writer.add(key_of(item_id), values, np.arange(len(values)) / 2)
    writer.commit()


def build_corpus(
    folder: Path,
    labels: Sequence[int | None],
    features: Mapping[str, Steps],
    splits: Sequence[str | None] | None = None,
    **columns: Sequence,
) -> Corpus:
    """A store and a manifest: labels, alias to steps (T, D) an item, and further columns by name."""
    n = len(labels)
    splits = splits if splits is not None else balanced_splits(labels)
    store = FeatureStore.open(folder / "store", create=True)
    extra = [{name: values[i] for name, values in columns.items()} for i in range(n)]
    items = [Item(f"item{i}", f"{i}.mp4", "video", "toy", labels[i], split=splits[i], **extra[i]) for i in range(n)]
    manifest = Manifest.of(items, folder)
    store.ledger.add_samples([Seen(item.item_id, 1, 1, key_of(item.item_id)) for item in items])
    for alias, steps in features.items():
        dim = next(values.shape[1] for values in steps if values is not None)
        add_feature(store, spec_of(alias, dim), manifest.column("item_id"), steps)
    return Corpus(store, manifest)


@pytest.fixture
def make_corpus(tmp_path: Path) -> Callable[..., Corpus]:
    """`build_corpus` in a folder of the test's own."""

    def make(*args: Any, name: str = "corpus", **columns: Any) -> Corpus:
        return build_corpus(tmp_path / name, *args, **columns)

    return make


@pytest.fixture
def noisy() -> Callable[..., list[np.ndarray]]:
    return noisy_steps


@pytest.fixture
def make_spec() -> Callable[..., FeatureSpec]:
    return spec_of


@pytest.fixture
def add() -> Callable[..., None]:
    return add_feature


def balanced_splits(labels: Sequence[int | None]) -> list[str]:
    """Three of five items of every class to train, one to val, one to test."""
    seen: dict[int | None, int] = {}
    splits = []
    for label in labels:
        seen[label] = seen.get(label, -1) + 1
        splits.append(SPLITS[seen[label] % len(SPLITS)])
    return splits


def noisy_steps(labels: np.ndarray, shift: float, dim: int = 8, seed: int = 0, n_steps: int = 3) -> list[np.ndarray]:
    """Gaussian steps (n_steps, dim); fakes are moved by `shift` in the first dimension."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((len(labels), n_steps, dim)).astype(np.float32)
    values[:, :, 0] += shift * np.asarray(labels)[:, None]
    return list(values)


@pytest.fixture
def separable(tmp_path: Path) -> Corpus:
    """400 items, one picture and one sound feature, both of which tell fakes well."""
    return build_separable(tmp_path / "separable")


@pytest.fixture(scope="session")
def separable_to_read(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The same, made once: for tests that write nothing to it."""
    return build_separable(tmp_path_factory.mktemp("separable"))


def build_separable(folder: Path) -> Corpus:
    labels = np.tile([0, 1], 200)
    features = {
        "toy-picture/frame": noisy_steps(labels, 2.5, seed=1),
        "toy-sound/speech": noisy_steps(labels, 2.5, dim=6, seed=2),
    }
    return build_corpus(folder, labels.tolist(), features)
