"""What a run has to do: the manifest in fixed slices, and of each slice what the store does not have yet.

Planning runs ahead of the computation, so it keeps in mind what was planned already and is not in the store so far.
"""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from mmdf.cache.errors import MediaError
from mmdf.cache.ledger import Failure, Seen, sample_key
from mmdf.cache.manifest import Item, Manifest
from mmdf.cache.store import FeatureStore
from mmdf.extract.backbones import VIEWS
from mmdf.extract.backbones.base import Backbone
from mmdf.extract.media.decode import DecodeRequest
from mmdf.extract.options import ExtractOptions
from mmdf.extract.summary import Summary

_LOG = logging.getLogger(__name__)
Progress = Callable[[int, int], None]


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


class Planner:
    """Plans slices one after the other; knows what failed before and what this run has taken on.

    Parameters
    ----------
    progress
        Called with items done and items failed, for every item that needs nothing.
    """

    def __init__(
        self,
        manifest: Manifest,
        store: FeatureStore,
        backbones: Sequence[Backbone],
        options: ExtractOptions,
        summary: Summary,
        progress: Progress,
    ) -> None:
        self._manifest, self._store, self._backbones, self._options = manifest, store, list(backbones), options
        self._summary, self._progress = summary, progress
        self._samples = store.ledger.samples()
        self._taken: set[tuple[bytes, str]] = set()
        self._committed = {b.spec.fingerprint: store.committed(b.spec) for b in backbones}
        table = store.ledger.failures()
        columns = (table.column(n).to_pylist() for n in ("sample_key", "fingerprint", "stage", "error", "message"))
        self._failed = {(row[0], row[1]): row[2:] for row in zip(*columns, strict=True)}
        self._new: list[Failure] = []

    def plan(self, items: list[Item]) -> list[Work]:
        """What is missing of a slice, each distinct content once, in the order of the slice."""
        keys = self._sight(items)
        for committed in self._committed.values():
            committed.update()
        work: list[Work] = []
        for item in items:
            key = keys.get(item.item_id)
            wanted = () if key is None else tuple(b for b in self._backbones if self._is_wanted(b, item, key))
            if key is None or not wanted:
                self._summary.n_present += item.item_id not in self._summary.failures
                self._progress(1, len(self._summary.failures))
                continue
            self._taken.update((key, b.spec.fingerprint) for b in wanted)
            work.append(Work(item, key, self._request(item, key, wanted), wanted))
        return work

    def fail(self, item: Item, key: bytes | None, fingerprints: Sequence[str], error: MediaError) -> None:
        """Take down a failure; `flush` hands it out to be committed."""
        rows = [
            Failure(key, item.item_id, item.path, f, error.stage, type(error).__name__, error.message)
            for f in fingerprints
        ]
        self._new += rows
        if key is not None:
            self._failed |= {(key, row.fingerprint): (row.stage, row.error, row.message) for row in rows}
        self._summary.failures[item.item_id] = rows[0]
        _LOG.debug("%s: %s", item.path, error.message)

    def flush(self) -> list[Failure]:
        """The failures since the last call."""
        new, self._new = self._new, []
        return new

    def _request(self, item: Item, key: bytes, wanted: Sequence[Backbone]) -> DecodeRequest:
        options = self._options
        views = frozenset(VIEWS[b.spec.view].needs for b in wanted)
        augment = tuple(sorted({b.spec.augment for b in wanted} - {0}))
        return DecodeRequest(
            self._manifest.file(item), item.modality, views, options.sampling, options.limits,
            augment, key, options.augment_seed, item.size_bytes or 0,
        )  # fmt: skip

    def _is_wanted(self, backbone: Backbone, item: Item, key: bytes) -> bool:
        spec = backbone.spec
        if item.modality not in VIEWS[spec.view].modalities or (spec.augment and item.split != "train"):
            return False
        if key in self._committed[spec.fingerprint]:
            return False
        before = self._failed.get((key, spec.fingerprint))
        taken = (key, spec.fingerprint) in self._taken
        if before is None or (self._options.retry_failed and not taken):
            return not taken
        self._summary.failures[item.item_id] = Failure(key, item.item_id, item.path, spec.fingerprint, *before)
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
                self.fail(item, None, wanted, MediaError(reason, "probe"))
        self._store.ledger.add_samples([s for s in seen.values() if s != self._samples.latest.get(s.item_id)])
        return {item_id: s.sample_key for item_id, s in seen.items()}
