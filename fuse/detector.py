"""A detector: a trained head, the features it needs, its calibration and its threshold. Scores items.

From a store or from memory, by the same path; it never sees a media file. The folder on disk is `folder.py`'s.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import safetensors.torch
import torch
from safetensors import SafetensorError

from mmdf import __version__
from mmdf.cache.errors import CacheError, UsageError
from mmdf.cache.manifest import Manifest
from mmdf.cache.scores import SCHEMA, ScoreTable
from mmdf.cache.spec import FeatureSpec
from mmdf.cache.store import FeatureStore
from mmdf.fuse.batches import Features, item_features, read_features
from mmdf.fuse.calibrate import Calibration, probability
from mmdf.fuse.folder import damaged, read_folder, write_folder
from mmdf.fuse.heads import heads
from mmdf.fuse.heads.base import Head, configured

_SCORE_BATCH = 4096


@dataclass(frozen=True)
class ItemScore:
    """What a detector says of one item.

    Attributes
    ----------
    score, logit
        Calibrated probability and log-odds of fake; None where `reason` says why.
    stream_scores
        Feature alias to the probability of fake by that feature alone; only features that the item has.
    """

    score: float | None
    logit: float | None
    stream_scores: Mapping[str, float]
    reason: str | None = None


@dataclass(frozen=True)
class Detector:
    """A trained head with all that is needed to use it on other items.

    Attributes
    ----------
    specs
        The features it needs, sorted by alias.
    calibration
        From the head's logit to log-odds, fitted on validation.
    threshold
        Scores above it are called fake; equal error on validation.
    record
        What it was trained on and how, and what it scored on validation; plain JSON values.
    """

    head_name: str
    head: Head
    specs: tuple[FeatureSpec, ...]
    calibration: Calibration
    threshold: float
    record: Mapping[str, Any]

    @property
    def config(self) -> dict[str, Any]:
        """The options of the head."""
        return asdict(self.head.config)

    @property
    def name(self) -> str:
        """Head and features in one line, for tables."""
        return f"{self.head_name} on {' + '.join(spec.alias for spec in self.specs)}"

    @property
    def threshold_from(self) -> str:
        """Where the threshold comes from, in words."""
        counts = self.record["items"]["val"]
        return f"equal error on {counts['real']} real and {counts['fake']} fake validation items"

    @property
    def trained_on(self) -> str:
        """Names of the data sets."""
        return ", ".join(self.record["datasets"]) or "unnamed data"

    def summary(self) -> dict[str, Any]:
        """What it is and how good it was on validation, as plain JSON values."""
        return {
            "head": self.head_name,
            "features": [spec.alias for spec in self.specs],
            "seed": self.record["seed"],
            "trained_on": self.trained_on,
            "items": self.record["items"],
            "left_out": self.record["left_out"],
            "threshold": self.threshold,
            "threshold_from": self.threshold_from,
            "validation": self.record["validation"],
        }

    def to_text(self) -> str:
        """The summary for people."""
        validation, lines = self.record["validation"], [f"{self.name}, trained on {self.trained_on}"]
        for split, counts in self.record["items"].items():
            left = self.record["left_out"][split]
            lines.append(
                f"{split}: {counts['real']} real, {counts['fake']} fake; left out {left['unknown_label']} without "
                f"label, {left['no_embeddings']} without embeddings"
            )
        lines.append(
            f"validation: ROC-AUC {validation['auc']:.4f}, false alarms {validation['false_alarm_rate']:.1%}, "
            f"missed {validation['miss_rate']:.1%} at threshold {self.threshold:.4f}"
        )
        return "\n".join(lines)

    def save(self, folder: Path) -> None:
        """Write the detector; an older detector in `folder` is replaced. `UsageError` if something else lies there."""
        document = {
            "mmdf": __version__,
            "head": {"name": self.head_name, "config": self.config},
            "features": [spec.to_dict() | {"fingerprint": spec.fingerprint} for spec in self.specs],
            "calibration": asdict(self.calibration),
            "threshold": self.threshold,
            "threshold_from": self.threshold_from,
            "record": dict(self.record),
        }
        write_folder(folder, document, safetensors.torch.save(self.head.state_dict()))

    @staticmethod
    def load(folder: Path) -> "Detector":
        """Read what `save` wrote.

        Raises
        ------
        CacheError
            If there is no detector, a newer mmdf wrote it, or it is damaged.
        """
        document, weights = read_folder(folder)
        try:
            specs = tuple(_spec(values) for values in document["features"])
            kind = heads.get(document["head"]["name"])
            head = kind({s.alias: 2 * s.dim for s in specs}, configured(kind.Config, document["head"]["config"]))
            head.load_state_dict(safetensors.torch.load(weights))
            head.eval()
            calibration = Calibration(**{name: float(value) for name, value in document["calibration"].items()})
            threshold, record = float(document["threshold"]), document["record"]
            detector = Detector(document["head"]["name"], head, specs, calibration, threshold, record)
            # Reads every field that is needed later, so that a damaged record is met here.
            detector.to_text()
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError, UsageError, SafetensorError) as error:
            raise damaged(folder, error) from error
        return detector

    def predict(self, store: FeatureStore, manifest: Manifest, head_name_label: str | None = None) -> ScoreTable:
        """Score every item of `manifest`, in its order; items that can't be scored keep their row, with the reason.

        Parameters
        ----------
        head_name_label
            What stands in the table's column "head"; default the name of the head.

        Raises
        ------
        CacheError
            If the store lacks a feature that the detector needs.
        """
        specs = self._specs_in(store, manifest)
        scores = self.score(read_features(store, manifest, specs))
        unscored = [row for row, item in enumerate(scores) if item.score is None]
        reasons: list[str | None] = [None] * len(scores)
        for row, reason in zip(unscored, _reasons(store, manifest.take(np.array(unscored, int)), specs), strict=True):
            reasons[row] = reason
        n = len(manifest)
        columns = {
            name: manifest.table.column(name) for name in ("item_id", "dataset", "label", "method", "identity", "split")
        } | {
            "score": [item.score for item in scores],
            "logit": [item.logit for item in scores],
            "stream_scores": [list(item.stream_scores.items()) for item in scores],
            "family_scores": [[]] * n,
            "segments": [[]] * n,
            "reason": reasons,
            "head": [head_name_label or self.head_name] * n,
            "seed": [self.record["seed"]] * n,
        }
        info = {
            "detector": self.name,
            "threshold": self.threshold,
            "threshold_from": self.threshold_from,
            "trained_on": self.trained_on,
            "head": self.head_name,
            "seed": self.record["seed"],
        }
        return ScoreTable(pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA), info)

    def score_embeddings(self, embeddings: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> ItemScore:
        """Score one item from memory: fingerprint or alias to `values` (T, D) and `times_s` (T,).

        Raises
        ------
        UsageError
            If an array has another width than the detector's spec says.
        """
        return self.score(item_features(self.specs, embeddings))[0]

    def score(self, features: Features) -> list[ItemScore]:
        """Score items whose features are in memory, in their order; they must hold exactly the detector's features."""
        rows = torch.arange(len(features))
        chunks = [rows[start : start + _SCORE_BATCH] for start in range(0, len(features), _SCORE_BATCH)]
        return [item for chunk in chunks for item in self._score_batch(features.take(chunk))]

    def _score_batch(self, batch: Features) -> list[ItemScore]:
        with torch.no_grad():
            output = self.head(batch)
        log_odds = self.calibration.log_odds(output.logit.double().numpy())
        scores = probability(log_odds)
        streams = {}
        for name, logits in output.streams.items():
            own = logits.double().numpy()
            streams[name] = probability(own if output.streams_calibrated else self.calibration.log_odds(own))
        nothing = ItemScore(None, None, {}, f"no embeddings of {', '.join(spec.alias for spec in self.specs)}")
        items = []
        for row, present in enumerate(batch.present.numpy()):
            own_scores = {name: float(p[row]) for name, p in streams.items() if not np.isnan(p[row])}
            scored = ItemScore(float(scores[row]), float(log_odds[row]), own_scores)
            items.append(scored if present.any() else nothing)
        return items

    def _specs_in(self, store: FeatureStore, manifest: Manifest) -> list[FeatureSpec]:
        """The store's own variants of the features that are needed: exact ones, else in another compute precision."""
        there, chosen, lacking = store.specs(), [], []
        for wanted in self.specs:
            fits = sorted((s for s in there if s.same_but_precision(wanted)), key=lambda s: s != wanted)
            filled = [s for s in fits if len(store.missing(manifest, s)) < len(manifest)]
            if fits:
                chosen.append((filled or fits)[0])
            else:
                lacking.append(wanted)
        if lacking:
            names = ", ".join(spec.alias for spec in lacking)
            backbones = ",".join(dict.fromkeys(spec.backbone for spec in lacking))
            other = sorted({s.alias for s in there} & {s.alias for s in lacking})
            hint = f" It has {', '.join(other)}, but computed from other weights or otherwise." if other else ""
            raise CacheError(
                f"The store {store.root} lacks {names}, which the detector needs.{hint} "
                f"Run: mmdf extract MANIFEST -s {store.root} -b {backbones}"
            )
        return chosen


def _spec(values: Mapping[str, Any]) -> FeatureSpec:
    spec = FeatureSpec.from_dict({name: value for name, value in values.items() if name != "fingerprint"})
    if spec.fingerprint != values["fingerprint"]:
        raise ValueError(f"the spec of {spec.alias} was altered")
    return spec


def _reasons(store: FeatureStore, manifest: Manifest, specs: list[FeatureSpec]) -> list[str]:
    """Why none of the features is there, for every item of `manifest`; different reasons are joined."""
    if not len(manifest):
        return []
    failed = {(f["item_id"], f["fingerprint"]): f for f in store.ledger.failures().to_pylist()}
    reasons = []
    for item_id, key in zip(manifest.column("item_id"), store.keys(manifest), strict=True):
        found = []
        for spec in specs:
            index, failure = store.index(spec), failed.get((item_id, spec.fingerprint))
            if key is not None and key in index:
                found.append(index.reason[index.position[key]] or f"no steps of {spec.alias}")
            elif failure is not None:
                found.append(f"{spec.alias} failed in {failure['stage']}: {failure['message']}")
            else:
                found.append(f"no embeddings of {spec.alias}: run mmdf extract")
        reasons.append("; ".join(dict.fromkeys(found)))
    return reasons
