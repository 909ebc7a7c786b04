"""Stage one: plan, decode, embed, commit, slice by slice.

The manifest is cut into fixed slices; a slice is decoded once, runs through every backbone, and each backbone's
embeddings become one part. A slice is all or nothing for each backbone and no batch crosses its border, so a run that
was killed and started again gives the same numbers as one that was not. Decoding runs ahead into the next slices.
"""

import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from mmdf.cache.errors import MediaError
from mmdf.cache.manifest import Manifest
from mmdf.cache.store import FeatureStore
from mmdf.extract.backbones import VIEWS
from mmdf.extract.backbones.base import Backbone, Rows
from mmdf.extract.batching import Batcher
from mmdf.extract.media.decode import Decoded, DecodeRequest
from mmdf.extract.options import ExtractOptions
from mmdf.extract.plan import Planner, Progress, Work, slices
from mmdf.extract.summary import DECODING, FORWARD, PREPARE, Clock, Summary
from mmdf.extract.views import Views, make_views
from mmdf.extract.workers import DecodePool

Cell = tuple[bytes, str]


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
        self._store, self._backbones = store, list(backbones)
        self._device, self._options, self._run_id, self._progress = device, options, run_id, progress
        self._clock = Clock(device)
        self.summary = Summary(self._clock, n_items=len(manifest))
        self._slices = slices(manifest, options.slice_items)
        self._planner = Planner(manifest, store, backbones, options, self.summary, progress)
        self._batchers = {b.spec.fingerprint: Batcher(self._forward(b), options.batch_rows) for b in backbones}
        # Of the slice that is being computed: the steps of every item, and why some have none.
        self._rows: dict[Cell, Rows] = {}
        self._absent: dict[Cell, str] = {}

    def run(self) -> Summary:
        """Extract everything that is missing. Safe to kill and to run again at any moment."""
        started = time.perf_counter()
        current = 0
        done: list[Work] = []
        with DecodePool(self._options.n_workers) as pool, torch.inference_mode():
            results = pool.decode(self._requests())
            while True:
                with self._clock.timed(DECODING):
                    found = next(results, None)
                if found is None:
                    break
                (number, work), decoded = found
                if number != current:
                    self._commit(done)
                    current, done = number, []
                self._embed(work, decoded)
                done.append(work)
                self._progress(1, len(self.summary.failures))
            self._commit(done)
        for backbone in self._backbones:
            # Whoever reads from the same store object next sees what was committed.
            self._store.forget(backbone.spec)
        self.summary.total_s = time.perf_counter() - started
        return self.summary

    def _requests(self) -> Iterator[tuple[tuple[int, Work], DecodeRequest]]:
        """Work of all slices, planned as the decode workers come to need it."""
        for number, items in enumerate(self._slices):
            started = time.perf_counter()
            work = self._planner.plan(items)
            planning_s = time.perf_counter() - started
            # Planning runs inside of waiting for the next result, which it is no part of.
            self._clock.seconds["hash and plan"] += planning_s
            self._clock.seconds[DECODING] -= planning_s
            yield from (((number, one), one.request) for one in work)

    def _embed(self, work: Work, decoded: Decoded) -> None:
        self.summary.n_decoded += 1
        self.summary.worker_s += decoded.decode_s
        if decoded.error is not None:
            self._planner.fail(work.item, work.key, [b.spec.fingerprint for b in work.wanted], decoded.error)
            return
        takes = {0: decoded} | dict(zip(work.request.augment, decoded.augmented, strict=False))
        reasons = dict(decoded.absent)
        for index in sorted({b.spec.augment for b in work.wanted}):
            take = takes.get(index, Decoded())
            with self._clock.timed(PREPARE):
                views = make_views(take, self._device)
            for backbone in work.wanted:
                if backbone.spec.augment == index:
                    self._queue(work, backbone, views, reasons | dict(take.absent))

    def _queue(self, work: Work, backbone: Backbone, views: Views, reasons: dict[str, str]) -> None:
        fingerprint = backbone.spec.fingerprint
        cell, needs = (work.key, fingerprint), VIEWS[backbone.spec.view].needs
        if needs in reasons:
            self._absent[cell] = reasons[needs]
            return
        with self._clock.preparing(backbone.spec.alias):
            rows = backbone.rows(views)
        self._rows[cell] = rows
        with self._clock.timed(FORWARD):
            self._batchers[fingerprint].add(work.key, rows.inputs)

    def _forward(self, backbone: Backbone) -> "Timed":
        return Timed(backbone, self._clock)

    def _commit(self, work: list[Work]) -> None:
        """Write one part a backbone for the slice that ends here, then what failed."""
        for backbone in self._backbones:
            self._commit_backbone(backbone, work)
        self._rows.clear()
        self._absent.clear()
        self._store.ledger.add_failures(self._planner.flush(), self._run_id)

    def _commit_backbone(self, backbone: Backbone, work: list[Work]) -> None:
        fingerprint = backbone.spec.fingerprint
        with self._clock.timed(FORWARD):
            values = self._batchers[fingerprint].take()
        self._clock.settle()
        with self._clock.timed("write"):
            writer = self._store.writer(backbone.spec, self._run_id)
            for one in work:
                cell = (one.key, fingerprint)
                if cell in self._absent:
                    writer.absent(one.key, self._absent[cell])
                    self.summary.n_absent += 1
                elif one.key in values:
                    try:
                        writer.add(one.key, *_steps(values[one.key], self._rows[cell]))
                        self.summary.n_computed += 1
                    except MediaError as error:
                        self._planner.fail(one.item, one.key, [fingerprint], error)
            writer.commit()


class Timed:
    """A backbone's forward pass with the clock running."""

    def __init__(self, backbone: Backbone, clock: Clock) -> None:
        self._backbone, self._clock = backbone, clock

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, ...) to (n, dim) or (n, k, dim)."""
        with self._clock.forward(self._backbone.spec.alias, len(inputs)):
            return self._backbone.forward(inputs)


def _steps(values: np.ndarray, rows: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The steps that are kept of one item: values (steps, dim), their times, and their places in the file."""
    return values if rows.pick is None else values[rows.pick], rows.times_s, rows.indices
