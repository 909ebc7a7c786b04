"""What a run did and where its time went: counts, failures, seconds by stage and by backbone, the bottleneck."""

import resource
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from mmdf.cache.ledger import Failure

_SHOWN_FAILURES, _SHOWN_BACKBONES = 10, 6
DECODING, PREPARE, FORWARD = "wait for decoding", "prepare", "forward"
_REMEDIES = {
    DECODING: "decoding is slower than the backbones: give it more --workers, or extract more backbones in one pass",
    FORWARD: "the backbones are: a faster device or --dtype is what would help",
    PREPARE: "that is resizing, resampling, and signal-level features, which are finished before any forward pass",
    "write": "the store's disk is",
    "hash and plan": "reading the files to hash them is",
}


class Clock:
    """Seconds by stage, on the wall of this process; forward passes on CUDA by events on the device itself."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.forward_s: dict[str, float] = defaultdict(float)
        self.prepare_s: dict[str, float] = defaultdict(float)
        self.rows: dict[str, int] = defaultdict(int)
        self._cuda = device.type == "cuda"
        self._waiting: list[tuple[str, Any, Any]] = []

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add what the block takes to `stage`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - started

    @contextmanager
    def preparing(self, alias: str) -> Iterator[None]:
        """Add what the block takes to the stage "prepare", and to the backbone called `alias`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            self.seconds[PREPARE] += spent
            self.prepare_s[alias] += spent

    @contextmanager
    def forward(self, alias: str, n_rows: int) -> Iterator[None]:
        """Add what the block takes on the device to the backbone called `alias`."""
        self.rows[alias] += n_rows
        if self._cuda:
            before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            before.record()
            yield
            after.record()
            self._waiting.append((alias, before, after))
            return
        started = time.perf_counter()
        yield
        self.forward_s[alias] += time.perf_counter() - started

    def settle(self) -> None:
        """Read the events of passes that are over; call it after waiting for the device."""
        for alias, before, after in self._waiting:
            self.forward_s[alias] += before.elapsed_time(after) / 1000
        self._waiting.clear()


@dataclass
class Summary:
    """What a run did.

    Attributes
    ----------
    n_computed, n_absent
        Embeddings: items times features.
    n_present
        Items that were complete before.
    clock
        Seconds by stage.
    """

    clock: Clock
    n_items: int = 0
    n_computed: int = 0
    n_present: int = 0
    n_absent: int = 0
    n_decoded: int = 0
    worker_s: float = 0.0
    total_s: float = 0.0
    failures: dict[str, Failure] = field(default_factory=dict)

    @property
    def bottleneck(self) -> str:
        """The stage that took longest."""
        seconds = self.clock.seconds
        return max(seconds, key=lambda name: seconds[name]) if seconds else "nothing"

    @property
    def forward_share(self) -> float:
        """Share of the run in which the backbones computed: what is left to gain by feeding them better."""
        return min(1.0, sum(self.clock.forward_s.values()) / self.total_s) if self.total_s else 0.0

    def profile(self) -> dict[str, Any]:
        """Where the time went, as plain JSON values; what `--profile` writes."""
        clock = self.clock
        return {
            "seconds": {"total": round(self.total_s, 3)} | {name: round(s, 3) for name, s in clock.seconds.items()},
            "backbones": {
                alias: {
                    "rows": clock.rows[alias],
                    "forward_s": round(s, 3),
                    "prepare_s": round(clock.prepare_s[alias], 3),
                    "rows_per_s": round(clock.rows[alias] / s, 1),
                }
                for alias, s in clock.forward_s.items()
                if s > 0
            },
            "decode_core_s": round(self.worker_s, 3),
            "items_per_s": round(self.n_decoded / self.total_s, 2) if self.total_s else 0.0,
            "forward_share": round(self.forward_share, 3),
            "bottleneck": self.bottleneck,
            "peak_memory_mb": round(peak_memory_mb()),
        }

    def to_dict(self) -> dict[str, Any]:
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
        } | self.profile()

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
        return "\n".join([*lines, *self._where_the_time_went()])

    def _where_the_time_went(self) -> list[str]:
        if not self.n_decoded:
            return [f"{self.total_s:.1f} s."]
        clock = self.clock
        spent = ", ".join(f"{name} {s:.1f} s" for name, s in clock.seconds.items() if s >= 0.05)
        return [
            f"{self.total_s:.1f} s, {self.n_decoded / self.total_s:.1f} items/s: {spent or 'nothing worth naming'}; "
            f"decode workers computed {self.worker_s:.1f} s beside that.",
            *_by_backbone("Prepare", clock.prepare_s),
            *_by_backbone("Forward passes", clock.forward_s, f"; {100 * self.forward_share:.0f} % of the run"),
            f"Bottleneck: {self.bottleneck}; {_REMEDIES.get(self.bottleneck, 'nothing to mend')}.",
        ]


def _by_backbone(what: str, seconds: Mapping[str, float], more: str = "") -> list[str]:
    slowest = sorted(seconds.items(), key=lambda pair: -pair[1])
    named = ", ".join(f"{alias} {s:.1f} s" for alias, s in slowest[:_SHOWN_BACKBONES] if s >= 0.05)
    return [f"{what}: {named}{more}."] if named else []


def peak_memory_mb() -> float:
    """The most memory that this process has held, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
