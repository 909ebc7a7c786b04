"""What the benchmark found, as values: lines with a ratio each, and the same as text, JSON and Markdown. No torch."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

PARTS = {
    "a": "Extraction over the bare forward pass on preloaded tensors",
    "b": "All image backbones in one pass over the sum of separate passes",
    "c": "Our default over the plain loop of a notebook",
    "d": "Decoding: frames (seconds of sound) a second and core, ours over another decoder",
    "e": "Peak memory, many items over few",
}
_QUIET = 0.05
_HEAD = ("what", "ours", "reference", "ratio", "target", "met")


@dataclass(frozen=True)
class Target:
    """What a ratio must reach: at least `value`, or at most it."""

    value: float
    at_least: bool = True

    def is_met(self, ratio: float) -> bool:
        """Whether `ratio` reaches it, unrounded."""
        return ratio >= self.value if self.at_least else ratio <= self.value

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.value:.2f}"


@dataclass(frozen=True)
class Line:
    """One comparison.

    Attributes
    ----------
    part
        A key of `PARTS`.
    ours, reference
        Both in `unit`.
    note
        What must be known to read it.
    """

    part: str
    what: str
    unit: str
    ours: float
    reference: float
    target: Target | None = None
    note: str = ""

    @property
    def ratio(self) -> float:
        """Ours over the reference."""
        return self.ours / self.reference

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        return None if self.target is None else self.target.is_met(self.ratio)

    def cells(self) -> tuple[str, ...]:
        """The columns of a table for people."""
        met = {None: "", True: "met", False: "not met"}[self.met]
        values = (f"{self.ours:.4g} {self.unit}", f"{self.reference:.4g} {self.unit}", f"{self.ratio:.3f}")
        return (self.what, *values, "" if self.target is None else str(self.target), met)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        target = None if self.target is None else asdict(self.target)
        return asdict(self) | {"target": target, "ratio": self.ratio, "met": self.met}


@dataclass(frozen=True)
class Machine:
    """What decides the numbers and may be told of a machine: nothing that names it."""

    cores: int
    threads: int
    memory_gb: float
    instructions: str
    device: str
    dtype: str

    def __str__(self) -> str:
        return (
            f"{self.cores} cores with {self.instructions}, {self.memory_gb:.0f} GB, {self.threads} threads, "
            f"{self.dtype} on {self.device}"
        )


@dataclass(frozen=True)
class BenchReport:
    """All lines of one run.

    Attributes
    ----------
    workload
        What was run, in words.
    total_s
        How long all of it took.
    others_share
        Share of the machine's CPU time that went to other work meanwhile; None where the system does not say.
    """

    machine: Machine
    workload: tuple[str, ...]
    lines: tuple[Line, ...]
    total_s: float
    others_share: float | None = None

    @property
    def disturbance(self) -> str:
        """What to think of the numbers for the sake of what else ran; empty if little did."""
        if self.others_share is None or self.others_share < _QUIET:
            return ""
        return (
            f"Other work took {100 * self.others_share:.0f} % of the machine: these numbers say little. Run it again."
        )

    @property
    def missed(self) -> tuple[Line, ...]:
        """The lines that do not reach their target."""
        return tuple(line for line in self.lines if line.met is False)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "machine": asdict(self.machine),
            "workload": list(self.workload),
            "total_s": round(self.total_s, 1),
            "others_share": None if self.others_share is None else round(self.others_share, 3),
            "lines": [line.to_dict() for line in self.lines],
        }

    def to_text(self) -> str:
        """Tables for people, one a part."""
        text = [f"{self.machine}; {self.total_s:.0f} s in all.", *self.workload]
        for part, lines in self._by_part():
            table = [_HEAD, *(line.cells() for line in lines)]
            widths = [max(len(row[column]) for row in table) for column in range(len(_HEAD))]
            text += ["", f"({part}) {PARTS[part]}"]
            text += ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in table]
            text += _notes(lines)
        n_targets = sum(line.target is not None for line in self.lines)
        met = f"{n_targets - len(self.missed)} of {n_targets} targets met. {self.disturbance}"
        return "\n".join([*text, "", met.rstrip()])

    def to_markdown(self) -> str:
        """The same as Markdown, for docs/performance.md."""
        text = [f"{self.machine}. {' '.join(self.workload)} {self.disturbance}".rstrip()]
        for part, lines in self._by_part():
            text += ["", f"**({part}) {PARTS[part]}**", "", _row(_HEAD), _row(["---"] * len(_HEAD))]
            text += [_row(line.cells()) for line in lines]
            notes = _notes(lines)
            text += ["", *notes] if notes else []
        return "\n".join(text)

    def _by_part(self) -> list[tuple[str, list[Line]]]:
        grouped = ((part, [line for line in self.lines if line.part == part]) for part in PARTS)
        return [(part, lines) for part, lines in grouped if lines]


def _notes(lines: Sequence[Line]) -> list[str]:
    return [f"- {line.what}: {line.note}" for line in lines if line.note]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
