"""Training: the items of split `train` teach a head, split `val` decides when to stop and how to read the logits.

The same loop for every head, on features that are whole in memory. Never touches an item of split `test`.
"""

import math
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from mmdf.cache.errors import CacheError, DataError, UsageError
from mmdf.cache.manifest import Manifest
from mmdf.cache.registry import did_you_mean
from mmdf.cache.splits import check_overlap
from mmdf.cache.store import FeatureStore
from mmdf.fuse.augmented import usable_views
from mmdf.fuse.batches import Features, choose_specs, read_features
from mmdf.fuse.calibrate import auc, check_classes, choose_threshold, error_rates, platt, probability
from mmdf.fuse.detector import Detector
from mmdf.fuse.heads import heads
from mmdf.fuse.heads.base import Head, configured, option

Row = dict[str, float]
Progress = Callable[[str, Mapping[str, float]], None]
_WHOLE = "head"
_LIBRARIES = ("torch", "numpy", "scikit-learn", "safetensors")


@dataclass(frozen=True)
class TrainConfig:
    """Options of the training loop; a head may have other defaults (`Head.train_defaults`).

    Attributes
    ----------
    epochs
        Passes over the training items at most.
    lr, weight_decay
        Of AdamW (Loshchilov and Hutter 2019). Biases and norms do not decay. `lr` is the peak of the schedule.
    batch_size, min_steps
        Items a step; fewer where the training items would not give `min_steps` steps an epoch.
    patience
        Epochs without a better validation loss before training stops.
    warmup
        Share of all steps in which the learning rate rises to its peak; from there it falls as a half cosine.
    clip_norm
        Gradients are scaled down to this length.
    augmented
        1 to train on the augmented views in the store too, where there are some; 0 not to.
    """

    epochs: int = option(100, 1, 100_000)
    lr: float = option(1e-3, 1e-8, 10.0)
    weight_decay: float = option(1e-2, 0.0, 100.0)
    batch_size: int = option(256, 1, 2**31)
    min_steps: int = option(16, 1, 100_000)
    patience: int = option(10, 1, 100_000)
    warmup: float = option(0.05, 0.0, 1.0)
    clip_norm: float = option(1.0, 1e-6, 1e6)
    augmented: int = option(1, 0, 1)


def train(
    head_name: str,
    store: FeatureStore,
    manifest: Manifest,
    features: Sequence[str] | None = None,
    seed: int = 0,
    config: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Detector:
    """Train the head called `head_name` and calibrate it; bit-equal for the same seed on the same machine.

    Parameters
    ----------
    features
        Aliases, backbones or fingerprints; None for all that hold embeddings of the training items.
    config
        Options of the head and of `TrainConfig` by name.
    progress
        Called after every epoch with the name of what is trained and its row of the learning curve.

    Raises
    ------
    UsageError
        For an unknown head, feature or option.
    DataError
        If splits overlap, are missing, or lack a class.
    CacheError
        If a feature has no embeddings of the training items.
    """
    kind = heads.get(head_name)
    train_config, head_config = split_config(kind, config or {})
    if not 0 <= seed < 2**31:
        raise UsageError(f"The seed should be from 0 to 2147483647, got {seed}.")
    check_overlap(manifest)
    sides = {name: _side(manifest, name) for name in ("train", "val")}
    specs = choose_specs(store, sides["train"], features)
    loaded = {name: read_features(store, side, specs) for name, side in sides.items()}
    for name in loaded["train"].names:
        if not loaded["train"].has(name).any():
            raise CacheError(
                f"{store.root} has no embeddings of {name} for the items of split 'train'. "
                f"Run `mmdf extract MANIFEST -s {store.root} -b {name.split('/')[0]}`."
            )
    used = {name: _usable(found, name) for name, found in loaded.items()}
    taught = usable_views(loaded["train"], store, sides["train"]) if train_config.augmented else used["train"]

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        head = kind({spec.alias: 2 * spec.dim for spec in specs}, head_config)
        curves = fit(head, taught, used["val"], train_config, progress)
    head.eval()
    record = {
        "manifest": manifest.root.name,
        "datasets": sorted({d for side in sides.values() for d in side.column("dataset") if d is not None}),
        "items": {name: _counts(found) for name, found in used.items()},
        "augmented_items": len(taught) - len(used["train"]),
        "left_out": {name: _left_out(found) for name, found in loaded.items()},
        "coverage": {name: _coverage(found) for name, found in used.items()},
        "seed": seed,
        "training": asdict(train_config),
        "curves": curves,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES},
    }
    return _calibrated(head_name, head, used["val"], record)


def split_config(kind: type[Head], config: Mapping[str, Any]) -> tuple[TrainConfig, Any]:
    """Sort options by name into those of the loop and those of the head; `UsageError` for an unknown one."""
    loop = {f.name for f in fields(TrainConfig)}
    own = {f.name for f in fields(kind.Config)}
    for name in config:
        if name not in loop | own:
            known = sorted(loop | own)
            raise UsageError(f"Unknown option '{name}'.{did_you_mean(name, known)} Known: {', '.join(known)}.")
    for_loop = {**kind.train_defaults, **{name: value for name, value in config.items() if name in loop}}
    for_head = {name: value for name, value in config.items() if name in own}
    return configured(TrainConfig, for_loop), configured(kind.Config, for_head)


def _side(manifest: Manifest, name: str) -> Manifest:
    side = manifest.split(name)
    remedy = "Make new splits: `mmdf manifest build … --resplit`."
    if not len(side):
        raise DataError(f"The manifest has no items in split '{name}', which training needs. {remedy}")
    check_classes(side.labels(), f"Split '{name}' of the manifest", remedy)
    return side


def _usable(found: Features, name: str) -> Features:
    used = found.take(found.usable())
    what = f"Split '{name}', as far as it has embeddings,"
    check_classes(used.labels.numpy(), what, "Run `mmdf extract` on the whole manifest first.")
    return used


@contextmanager
def _one_thread() -> Iterator[None]:
    # Heads are small: threads cost more than they bring, and their number would change the last bits of every sum.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@_one_thread()
def fit(
    head: Head, train: Features, val: Features, config: TrainConfig, progress: Progress | None = None
) -> dict[str, list[Row]]:
    """Train `head` in place, member by member where it has some; the learning curves by name.

    Draws from torch's global generator and computes on one thread. All labels must be known.
    """
    members = head.members()
    if not members:
        return {_WHOLE: _fit_one(head, _WHOLE, train, val, config, progress)}
    curves = {}
    for name, member in members.items():
        sides = {"train": train.only(name), "val": val.only(name)}
        for split, side in sides.items():
            what = f"Split '{split}', seen by {name} with the labels of its stream,"
            check_classes(side.labels.numpy(), what, "Leave the feature out (-f), or use another head (probe, early).")
        curves[name] = _fit_one(member, name, sides["train"], sides["val"], config, progress)
    head.combine(val)
    return curves


def _fit_one(
    head: Head, name: str, train: Features, val: Features, config: TrainConfig, progress: Progress | None
) -> list[Row]:
    head.standardise(train)
    train, val = train.balanced(), val.balanced()
    optimiser = _optimiser(head, config)
    # Steps of nearly equal size: no step hangs on a last handful of items.
    n_steps = min(len(train), max(config.min_steps, math.ceil(len(train) / config.batch_size)))
    schedule = LambdaLR(optimiser, _schedule(config.epochs * n_steps, config.warmup))
    curve: list[Row] = []
    best_loss, best_epoch, best_state = math.inf, -1, _copy(head)
    for epoch in range(config.epochs):
        batches = torch.randperm(len(train)).tensor_split(n_steps)
        train_loss = _epoch(head, train, batches, optimiser, schedule, config.clip_norm)
        row = {"epoch": epoch, "train_loss": train_loss, **_validate(head, val)}
        if not all(math.isfinite(value) for value in row.values()):
            break
        curve.append(row)
        if progress is not None:
            progress(name, row)
        if row["val_loss"] < best_loss:
            best_loss, best_epoch, best_state = row["val_loss"], epoch, _copy(head)
        if epoch - best_epoch >= config.patience:
            break
    if best_epoch < 0:
        raise DataError(f"Training {name} gave no finite loss. Lower the learning rate (lr = {config.lr:g}).")
    head.load_state_dict(best_state)
    return [row | {"best": float(row["epoch"] == best_epoch)} for row in curve]


def _epoch(
    head: Head, train: Features, batches: Sequence[torch.Tensor], optimiser: AdamW, schedule: LambdaLR, clip_norm: float
) -> float:
    head.train()
    total = 0.0
    for rows in batches:
        batch = train.take(rows)
        loss = head.loss(head(batch), batch)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(head.parameters(), clip_norm)
        optimiser.step()
        schedule.step()
        total += float(loss.detach()) * len(batch)
    return total / len(train)


def _validate(head: Head, val: Features) -> Row:
    head.eval()
    with torch.no_grad():
        output = head(val)
        loss = float(head.loss(output, val))
    if not math.isfinite(loss):
        return {"val_loss": loss, "val_auc": math.nan}
    return {"val_loss": loss, "val_auc": auc(val.labels.numpy(), output.logit.numpy())}


def _optimiser(head: Head, config: TrainConfig) -> AdamW:
    matrices = [p for p in head.parameters() if p.ndim > 1]
    vectors = [p for p in head.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return AdamW(groups, lr=config.lr)


def _schedule(n_steps: int, warmup: float) -> Callable[[int], float]:
    n_warm = max(1, round(warmup * n_steps))

    def factor(step: int) -> float:
        if step < n_warm:
            return (step + 1) / n_warm
        return 0.5 + 0.5 * math.cos(math.pi * (step - n_warm) / max(1, n_steps - n_warm))

    return factor


def _copy(head: Head) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in head.state_dict().items()}


def _calibrated(head_name: str, head: Head, val: Features, record: dict[str, Any]) -> Detector:
    with torch.no_grad():
        logits = head(val).logit.double().numpy()
    labels = val.labels.numpy().astype(np.float64)
    calibration = platt(labels, logits)
    scores = probability(calibration.log_odds(logits))
    threshold = choose_threshold(labels, scores)
    record["validation"] = {"auc": auc(labels, logits), **error_rates(labels, scores, threshold)}
    return Detector(head_name, head, val.specs, calibration, threshold, record)


def _counts(found: Features) -> dict[str, int]:
    return {"real": int((found.labels == 0).sum()), "fake": int((found.labels == 1).sum())}


def _left_out(found: Features) -> dict[str, int]:
    known = ~found.labels.isnan()
    return {"unknown_label": int((~known).sum()), "no_embeddings": int((known & ~found.present.any(1)).sum())}


def _coverage(found: Features) -> dict[str, float]:
    return {name: float(found.has(name).double().mean()) for name in found.names}
