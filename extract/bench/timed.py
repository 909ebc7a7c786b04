"""Extraction as `mmdf extract` runs it, but for start and end of its workers, and the bare forward pass beside it."""

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mmdf.cache.manifest import Manifest
from mmdf.cache.store import FeatureStore
from mmdf.extract.backbones.base import Backbone
from mmdf.extract.media.decode import DecodeRequest, decode
from mmdf.extract.options import ExtractOptions
from mmdf.extract.stage import Extraction
from mmdf.extract.summary import DECODING, Summary
from mmdf.extract.views import make_views


@dataclass(frozen=True)
class Extracted:
    """One run of the real extraction.

    Attributes
    ----------
    seconds
        Without `startup_s` and `shutdown_s`.
    startup_s, shutdown_s
        Until the decode worker ran, and for it to end: once a run, whatever its length.
    """

    seconds: float
    startup_s: float
    shutdown_s: float
    summary: Summary


def extract(
    manifest: Manifest, backbones: Sequence[Backbone], device: torch.device, options: ExtractOptions, folder: Path
) -> Extracted:
    """Extract everything into a new store below `folder`, which is thrown away.

    Raises
    ------
    RuntimeError
        If an item fails, since then a time says nothing.
    """
    with tempfile.TemporaryDirectory(prefix="store-", dir=folder) as temporary:
        store = FeatureStore.open(Path(temporary) / "store", create=True)
        marks = Marks()
        run = Extraction(manifest, store, backbones, device, options, "bench", marks)
        marks.summary = run.summary
        started = time.perf_counter()
        summary = run.run()
    if summary.failures:
        raise RuntimeError(f"{len(summary.failures)} items failed: {next(iter(summary.failures.values())).message}")
    # After the last item come only its slice's last batches and their writing, which the clock knows.
    ended = marks.last_at + sum(summary.clock.seconds.values()) - marks.last_known_s
    shutdown_s = max(0.0, started + summary.total_s - ended)
    return Extracted(summary.total_s - marks.startup_s - shutdown_s, marks.startup_s, shutdown_s, summary)


class Marks:
    """Listens to the progress of a run and keeps when its first and its last item were through."""

    def __init__(self) -> None:
        self.summary: Summary | None = None
        self.startup_s = self.last_at = self.last_known_s = 0.0
        self._begun = False

    def __call__(self, done: int, failed: int) -> None:
        """An item is through."""
        if self.summary is None:
            return
        seconds = self.summary.clock.seconds
        if not self._begun:
            # All that was waited for so far, but for the decoding of the first file itself.
            self.startup_s = max(0.0, seconds[DECODING] - self.summary.worker_s)
            self._begun = True
        self.last_at = time.perf_counter()
        self.last_known_s = sum(seconds.values())


def preloaded(manifest: Manifest, backbone: Backbone, device: torch.device, options: ExtractOptions) -> torch.Tensor:
    """What the model sees of all rows of all items, (n, ...) on the device. All rows are of one shape."""
    view = "frame" if backbone.spec.stream == "picture" else "sound"
    found = []
    with torch.inference_mode():
        for item in manifest.items():
            request = DecodeRequest(manifest.file(item), item.modality, frozenset({view}), options.sampling)
            found.append(backbone.rows(make_views(decode(request), device)).inputs)
        rows = torch.cat(found)
        # Where a backbone normalises whole batches in its forward pass, that is none of the bare pass's work.
        normalise = getattr(backbone, "normalise", None)
        return (
            rows
            if normalise is None
            else torch.cat([normalise(part) for part in torch.split(rows, options.batch_rows)])
        )


def bare(backbone: Backbone, inputs: torch.Tensor, batch_rows: int) -> None:
    """The forward pass alone, in batches; the embeddings are brought to the CPU at the end."""
    with torch.inference_mode():
        outputs = [backbone.forward(batch) for batch in torch.split(inputs, batch_rows)]
        torch.cat(outputs).cpu()


def seconds_of(work: Callable[[], object]) -> float:
    """What `work` takes on the wall."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def in_turn(contestants: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """Median of what each contestant says it took, in seconds.

    They take turns, so that whatever else the machine does meets all of them, and every second round runs backwards.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(repeats):
        names = list(contestants)
        for name in names if number % 2 == 0 else reversed(names):
            seconds[name].append(contestants[name]())
    return {name: statistics.median(values) for name, values in seconds.items()}
