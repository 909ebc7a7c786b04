"""Stage one: plan, decode, embed, commit, slice by slice.

The manifest is cut into fixed slices; a slice is decoded once, runs through every backbone, and each backbone's
embeddings become one part. A slice is all or nothing for each backbone and no batch crosses its border, so a run that
was killed and started again gives the same numbers as one that was not.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch

from mmdf.cache.errors import MediaError
from mmdf.cache.ledger import Failure, Seen, sample_key
from mmdf.cache.manifest import Item, Manifest
from mmdf.cache.store import FeatureStore
from mmdf.extract.backbones import VIEWS
from mmdf.extract.backbones.base import Backbone
from mmdf.extract.batching import Batcher
from mmdf.extract.media.decode import Decoded, DecodeRequest
from mmdf.extract.options import ExtractOptions
from mmdf.extract.views import make_views
from mmdf.extract.workers import DecodePool

_LOG = logging.getLogger(__name__)
Progress = Callable[[int, int], None]
_SHOWN_FAILURES = 10


@dataclass
class Summary:
    """What a run did, in items and seconds. `seconds` are wall-clock seconds of this process, stage by stage."""

    n_items: int = 0
    n_computed: int = 0
    n_present: int = 0
    n_absent: int = 0
    failures: dict[str, Failure] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @property
    def bottleneck(self) -> str:
        """The stage that took longest."""
        stages = {name: s for name, s in self.seconds.items() if name not in ("total", "in workers")}
        return max(stages, key=lambda name: stages[name]) if stages else "nothing"

    def to_dict(self) -> dict:
        """Plain JSON values."""
        return {
            "items": self.n_items,
            "computed": self.n_computed,
            "present": self.n_present,
            "absent": self.n_absent,
            "failed": len(self.failures),
            "failures": [
                {"item_id": f.item_id, "stage": f.stage, "message": f.message} for f in self.failures.values()
            ],
            "seconds": {name: round(s, 3) for name, s in self.seconds.items()},
            "bottleneck": self.bottleneck,
        }

    def to_text(self) -> str:
        """A few lines for people: counts, what failed and why, where the time went."""
        lines = [
            f"{self.n_items} items: {self.n_computed} embeddings computed, {self.n_present} items were complete, "
            f"{self.n_absent} absent (a silent film has no speech), {len(self.failures)} failed."
        ]
        shown = list(self.failures.values())[:_SHOWN_FAILURES]
        lines += [f"  FAILED {failure.path}: {failure.message}" for failure in shown]
        if len(self.failures) > len(shown):
            lines.append(f"  and {len(self.failures) - len(shown)} more: see `mmdf cache info`.")
        spent = ", ".join(f"{name} {s:.1f} s" for name, s in self.seconds.items() if name != "total" and s >= 0.05)
        lines.append(f"{self.seconds['total']:.1f} s ({spent}). Most of it: {self.bottleneck}.")
        return "\n".join(lines)


@dataclass(frozen=True)
class Work:
    """One item that still needs something: its bytes' key and the backbones that want it."""

    item: Item
    key: bytes
    request: DecodeRequest
    wanted: tuple[Backbone, ...]


def slices(manifest: Manifest, size: int) -> list[list[Item]]:
    """The manifest in fixed pieces: by modality, then duration (or size), then id. Does not depend on the store."""
    items = sorted(manifest.items(), key=lambda i: (i.modality, i.duration_s or 0.0, i.size_bytes or 0, i.item_id))
    return [items[start : start + size] for start in range(0, len(items), size)]


class Extraction:
    """One run over one manifest into one store.

    Parameters
    ----------
    progress
        Called with items done and items failed after every item.
    """

    def __init__(
        self,
        manifest: Manifest,
        store: FeatureStore,
        backbones: Sequence[Backbone],
        device: torch.device,
        options: ExtractOptions,
        run_id: str,
        progress: Progress = lambda done, failed: None,
    ) -> None:
        self._manifest, self._store, self._backbones = manifest, store, list(backbones)
        self._device, self._options, self._run_id, self._progress = device, options, run_id, progress
        self._batchers = {b.spec.fingerprint: Batcher(b.forward, options.batch_rows) for b in backbones}
        self._samples = store.ledger.samples()
        table = store.ledger.failures()
        columns = (table.column(n).to_pylist() for n in ("sample_key", "fingerprint", "stage", "error", "message"))
        self._failed = {(row[0], row[1]): row[2:] for row in zip(*columns, strict=True)}
        self._failures: list[Failure] = []
        self.summary = Summary(n_items=len(manifest))

    def run(self) -> Summary:
        """Extract everything that is missing. Safe to kill and to run again at any moment."""
        started = time.perf_counter()
        with DecodePool(self._options.n_workers) as pool, torch.inference_mode():
            for items in slices(self._manifest, self._options.slice_items):
                self._run_slice(items, pool)
        self.summary.seconds["total"] = time.perf_counter() - started
        return self.summary

    def _run_slice(self, items: list[Item], pool: DecodePool) -> None:
        with self._timed("hash and plan"):
            work = self._plan(items)
        times_s: dict[tuple[bytes, str], np.ndarray] = {}
        absent: dict[tuple[bytes, str], str] = {}
        results = pool.decode([w.request for w in work])
        for one in work:
            with self._timed("wait for decoding"):
                decoded = next(results)
            self.summary.seconds["in workers"] += decoded.decode_s
            if decoded.error is not None:
                self._fail(one.item, one.key, [b.spec.fingerprint for b in one.wanted], decoded.error)
            else:
                self._embed(one, decoded, times_s, absent)
            self._progress(1, len(self.summary.failures))
        for backbone in self._backbones:
            self._commit(backbone, work, times_s, absent)
        self._store.ledger.add_failures(self._failures, self._run_id)
        self._failures.clear()

    def _plan(self, items: list[Item]) -> list[Work]:
        """What is missing of a slice, each distinct content once, in the order of the slice."""
        keys = self._sight(items)
        work: dict[bytes, Work] = {}
        for item in items:
            key = keys.get(item.item_id)
            if key is None or key in work:
                self._progress(1, len(self.summary.failures))
                continue
            wanted = tuple(b for b in self._backbones if self._is_wanted(b, item, key))
            if wanted:
                views = frozenset(VIEWS[b.spec.view].needs for b in wanted)
                path = self._manifest.file(item)
                request = DecodeRequest(path, item.modality, views, self._options.sampling, self._options.limits)
                work[key] = Work(item, key, request, wanted)
            else:
                self.summary.n_present += item.item_id not in self.summary.failures
                self._progress(1, len(self.summary.failures))
        return list(work.values())

    def _is_wanted(self, backbone: Backbone, item: Item, key: bytes) -> bool:
        fingerprint = backbone.spec.fingerprint
        if item.modality not in VIEWS[backbone.spec.view].modalities or key in self._store.index(backbone.spec):
            return False
        before = self._failed.get((key, fingerprint))
        if before is None or self._options.retry_failed:
            return True
        self.summary.failures[item.item_id] = Failure(key, item.item_id, item.path, fingerprint, *before)
        return False

    def _sight(self, items: list[Item]) -> dict[str, bytes]:
        """The key of every readable item; new sightings are committed, unreadable items become failures."""

        def look(item: Item) -> Seen | OSError:
            path = self._manifest.file(item)
            try:
                status = path.stat()
                known = self._samples.unchanged(item.item_id, status.st_size, status.st_mtime_ns)
                return Seen(item.item_id, status.st_size, status.st_mtime_ns, known or sample_key(path))
            except OSError as error:
                return error

        with ThreadPoolExecutor(4) as threads:
            found = dict(zip((i.item_id for i in items), threads.map(look, items), strict=True))
        seen = {item_id: s for item_id, s in found.items() if isinstance(s, Seen)}
        for item in items:
            error = found[item.item_id]
            if isinstance(error, OSError):
                wanted = [b.spec.fingerprint for b in self._backbones]
                reason = f"the file cannot be opened ({error.strerror}). Check the root, or build the manifest anew."
                self._fail(item, None, wanted, MediaError(reason, "probe"))
        self._store.ledger.add_samples([s for s in seen.values() if s != self._samples.latest.get(s.item_id)])
        return {item_id: s.sample_key for item_id, s in seen.items()}

    def _embed(self, work: Work, decoded: Decoded, times_s: dict, absent: dict) -> None:
        reasons = dict(decoded.absent)
        with self._timed("prepare"):
            views = make_views(decoded, self._device)
        for backbone in work.wanted:
            cell = (work.key, backbone.spec.fingerprint)
            needs = VIEWS[backbone.spec.view].needs
            if needs in reasons:
                absent[cell] = reasons[needs]
                continue
            with self._timed("prepare"):
                rows = backbone.rows(views)
            times_s[cell] = rows.times_s
            with self._timed("forward"):
                self._batchers[backbone.spec.fingerprint].add(work.key, rows.inputs)

    def _commit(self, backbone: Backbone, work: list[Work], times_s: dict, absent: dict) -> None:
        fingerprint = backbone.spec.fingerprint
        with self._timed("forward"):
            values = self._batchers[fingerprint].take()
        with self._timed("write"):
            writer = self._store.writer(backbone.spec, self._run_id)
            for one in work:
                cell = (one.key, fingerprint)
                if cell in absent:
                    writer.absent(one.key, absent[cell])
                    self.summary.n_absent += 1
                elif one.key in values:
                    try:
                        writer.add(one.key, values[one.key], times_s[cell])
                        self.summary.n_computed += 1
                    except MediaError as error:
                        self._fail(one.item, one.key, [fingerprint], error)
            if writer.commit():
                self._store.index(backbone.spec, refresh=True)

    def _fail(self, item: Item, key: bytes | None, fingerprints: Sequence[str], error: MediaError) -> None:
        rows = [
            Failure(key, item.item_id, item.path, f, error.stage, type(error).__name__, error.message)
            for f in fingerprints
        ]
        self._failures += rows
        self.summary.failures[item.item_id] = rows[0]
        _LOG.debug("%s: %s", item.path, error.message)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.summary.seconds[stage] += time.perf_counter() - started
