"""One answer about one file: the whole path from bytes to verdict, as `mmdf detect` runs it.

The file goes through the same extraction and the same detector as a data set does, with a store that is thrown away.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmdf.cache.errors import CacheError, DataError
from mmdf.cache.manifest import Item, Manifest
from mmdf.cache.scores import ScoreTable
from mmdf.cache.spec import FeatureSpec
from mmdf.cache.store import FeatureStore
from mmdf.extract.backbones.load import load_backbones
from mmdf.extract.datasets.words import EXTENSIONS, modality_of
from mmdf.extract.device import choose_compute
from mmdf.extract.media.sampling import Sampling
from mmdf.extract.options import ExtractOptions
from mmdf.extract.outputs import Outputs
from mmdf.extract.stage import Extraction
from mmdf.fuse.detector import Detector


@dataclass(frozen=True)
class Verdict:
    """What a detector says of one file.

    Attributes
    ----------
    verdict
        "fake", "real", or "cannot say" with the `reason`.
    score
        Calibrated probability of fake, None if it cannot say.
    threshold
        Above it the verdict is fake; chosen on the detector's validation split.
    streams
        Probability of fake by feature, where the head tells.
    """

    path: str
    verdict: str
    score: float | None
    threshold: float
    streams: Mapping[str, float]
    reason: str | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "path": self.path,
            "verdict": self.verdict,
            "score": self.score,
            "threshold": self.threshold,
            "streams": dict(self.streams),
            "reason": self.reason,
        }

    def to_text(self) -> str:
        """One line for people."""
        if self.score is None:
            return f"{self.path}: CANNOT SAY ({self.reason})"
        streams = "".join(f"  {name} {value:.2f}" for name, value in sorted(self.streams.items()))
        return f"{self.path}: {self.verdict.upper()}  {self.score:.3f} (fake above {self.threshold:.3f}){streams}"


def detect(detector_path: Path, files: Sequence[Path], options: ExtractOptions) -> list[Verdict]:
    """Score files with a detector, in the order given.

    Raises
    ------
    DataError
        If a name does not end like any medium.
    CacheError
        If the detector is damaged, or was trained on other weights than those found here.
    WeightsError
        If the detector's backbones are not on this machine.
    """
    detector = Detector.load(detector_path)
    manifest = _manifest(files)
    with tempfile.TemporaryDirectory(prefix="mmdf-detect-") as folder:
        store = FeatureStore.open(Path(folder) / "store", create=True)
        failures = _extract(detector.specs, manifest, store, options)
        table = detector.predict(store, manifest)
    return [_verdict(path, row, table, failures) for row, path in enumerate(files)]


def _manifest(files: Sequence[Path]) -> Manifest:
    items = []
    for number, file in enumerate(files):
        modality = modality_of(file.name)
        if modality is None:
            known = ", ".join(e for extensions in EXTENSIONS.values() for e in extensions)
            raise DataError(f"{file} does not end like a medium. Known: {known}.")
        absolute = file.resolve()
        items.append(Item(f"{number}:{file}", str(absolute.relative_to(absolute.anchor)), modality))
    # Every file that the caller may read is allowed here: the names come from the shell, not from a manifest.
    return Manifest.of(items, Path(Path.cwd().anchor))


def _extract(
    specs: Sequence[FeatureSpec], manifest: Manifest, store: FeatureStore, options: ExtractOptions
) -> dict[str, str]:
    """Run the detector's backbones; item id to reason for what could not be read."""
    compute = choose_compute(options.device, options.dtype)
    failures: dict[str, str] = {}
    # Features may differ in their sampling and in what is kept; each kind is a run of its own.
    for sampling, outputs, group in _runs(specs):
        names = [f"{spec.backbone}/{spec.view}" for spec in group]
        loaded = load_backbones(names, compute, sampling, options.weights_dir, options.download, outputs)
        # With faces comes their geometry, which this detector may not know.
        backbones = loaded[: len(group)]
        for backbone, spec in zip(backbones, group, strict=True):
            if not backbone.spec.same_but_precision(spec):
                raise CacheError(_mismatch(backbone.spec, spec))
        run_options = replace(options, n_workers=0, sampling=sampling)
        summary = Extraction(manifest, store, backbones, compute.device, run_options, "detect").run()
        failures |= {item_id: failure.message for item_id, failure in summary.failures.items()}
    return failures


def _runs(specs: Sequence[FeatureSpec]) -> list[tuple[Sampling, Outputs, list[FeatureSpec]]]:
    groups: list[tuple[dict[str, Any], Outputs, list[FeatureSpec]]] = []
    for spec in specs:
        wanted = Outputs.of_variant(spec.variant)
        for merged, outputs, group in groups:
            views = {f"{s.backbone}/{s.view}" for s in group}
            agrees = all(merged.get(name, value) == value for name, value in spec.sampling.items())
            if agrees and wanted == outputs and f"{spec.backbone}/{spec.view}" not in views:
                merged.update(spec.sampling)
                group.append(spec)
                break
        else:
            groups.append((dict(spec.sampling), wanted, [spec]))
    return [(Sampling(**merged), outputs, group) for merged, outputs, group in groups]


def _mismatch(here: FeatureSpec, wanted: FeatureSpec) -> str:
    ours, theirs = here.to_dict(), wanted.to_dict()
    other = [name for name in theirs if ours.get(name) != theirs[name] and name != "compute_dtype"]
    return (
        f"The detector was trained on {wanted.alias} with another {' and '.join(other)} than this machine computes. "
        "Use the weights and library versions it was trained with, or train it anew."
    )


def _verdict(path: Path, row: int, table: ScoreTable, failures: Mapping[str, str]) -> Verdict:
    values = table.table.slice(row, 1).to_pylist()[0]
    score = values["score"]
    reason = None if score is not None else failures.get(values["item_id"], values["reason"])
    verdict = "cannot say" if score is None else "fake" if score > table.threshold else "real"
    return Verdict(str(path), verdict, score, table.threshold, dict(values["stream_scores"] or ()), reason)
