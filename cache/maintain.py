"""gc: remove from a store what no reader can see. Which features are out of date is known in `superseded.py`.

It may run beside extractions, compactions and another gc, and be killed at any instant. It takes no lock: a record goes
only where others, which readers prefer, hold every sample of it, and no later commit turns that preference round (why:
`compact.py`). Records go before the parts they name, so that no record ever names a part that is gone.
"""

import math
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmdf.cache.errors import CacheError, UsageError
from mmdf.cache.parts import sync_file
from mmdf.cache.rewrite import Copies, Record, read_record, read_records, remove_record, rows_in_effect
from mmdf.cache.store import FeatureStore, read_spec
from mmdf.cache.superseded import superseded_features


@dataclass(frozen=True)
class Leftover:
    """A file or folder of a store, relative to its root, and why it can go or has to stay."""

    path: str
    bytes_: int
    reason: str


@dataclass(frozen=True)
class GcReport:
    """What `gc` removed, or would remove, and what it found but let be."""

    dry_run: bool
    removed: tuple[Leftover, ...]
    kept: tuple[Leftover, ...]

    @property
    def bytes_(self) -> int:
        """What this frees."""
        return sum(leftover.bytes_ for leftover in self.removed)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"bytes": self.bytes_}

    def to_text(self) -> str:
        """A line for each path, then the sum."""
        verb = "would remove" if self.dry_run else "removed"
        lines = [f"{verb} {one.path} ({one.bytes_ / 1e6:.1f} MB): {one.reason}" for one in self.removed]
        lines += [f"kept {one.path} ({one.bytes_ / 1e6:.1f} MB): {one.reason}" for one in self.kept]
        lines.append(f"{verb.capitalize()} {len(self.removed)} thing(s), {self.bytes_ / 1e6:.1f} MB.")
        return "\n".join(lines)


@dataclass
class _Plan:
    """What goes, in the order in which it goes; of a feature the records before the folders that they named."""

    root: Path
    limit_s: float
    tmp: list[Path] = field(default_factory=list)
    features: list["_FeaturePlan"] = field(default_factory=list)
    removed: list[Leftover] = field(default_factory=list)
    kept: list[Leftover] = field(default_factory=list)

    def note(self, to: list[Leftover], path: Path, reason: str) -> None:
        to.append(Leftover(path.relative_to(self.root).as_posix(), _measure(path)[0], reason))

    def is_old(self, path: Path) -> bool:
        # A clock that was put back makes files of the future: they count as new.
        return _measure(path)[1] <= self.limit_s


@dataclass(frozen=True)
class _FeaturePlan:
    fingerprint: str
    shadowed: tuple[Record, ...]
    parts: tuple[Path, ...]
    whole: bool = False


def gc(store: FeatureStore, older_than_s: float = 3600.0, superseded: bool = False, dry_run: bool = False) -> GcReport:
    """Remove what no reader of `store` can see: leftovers in tmp/, parts that no record names, shadowed records.

    Parameters
    ----------
    older_than_s
        Nothing is touched that was changed later than so many seconds ago: it may be work in progress. While tmp/
        holds anything newer, parts without a record stay as well, whatever their age: it may be about to come. Zero is
        for a store that nobody uses.
    superseded
        Whole features too, where one of the same alias, sampling and precision with other weights, preprocessing or
        decoders was committed later and has every sample of it.
    dry_run
        Change nothing; the report is that of a real run.

    Raises
    ------
    CacheError
        If something cannot be removed. Features with damaged records are let be, and said so in the report.
    """
    if not 0 <= older_than_s < math.inf:
        raise UsageError(f"An age is zero or more seconds, got {older_than_s}.")
    plan = _Plan(store.root, time.time() - older_than_s)
    busy = _plan_tmp(plan)
    replaced = _replaced(plan) if superseded else {}
    names = {path.name for folder in ("index", "features") for path in (store.root / folder).glob("*")}
    for fingerprint in sorted(names | replaced.keys()):
        if fingerprint in replaced:
            _plan_whole(plan, fingerprint, replaced[fingerprint])
        else:
            _plan_feature(plan, fingerprint, busy)
    if not dry_run:
        try:
            _remove(plan)
        except OSError as error:
            raise CacheError(
                f"Not all could be removed ({error}). The store is whole; mend that, run it again."
            ) from error
    return GcReport(dry_run, tuple(plan.removed), tuple(plan.kept))


def _plan_tmp(plan: _Plan) -> bool:
    """Whether tmp/ holds something so new that a writer may be at work."""
    busy = False
    for path in sorted((plan.root / "tmp").glob("*")):
        if plan.is_old(path):
            plan.tmp.append(path)
            plan.note(plan.removed, path, "left by an interrupted run")
        else:
            busy = True
            plan.note(plan.kept, path, "too new, a run may be at work on it")
    return busy


def _plan_feature(plan: _Plan, fingerprint: str, busy: bool) -> None:
    index, parts = plan.root / "index" / fingerprint, plan.root / "features" / fingerprint / "parts"
    # Listed before the records are read: what is committed meanwhile is then no orphan.
    folders = sorted(parts.glob("*"))
    try:
        records = read_records(index)
        shadowed = _shadowed(plan, records, fingerprint, parts)
    except CacheError as error:
        plan.note(plan.kept, index, f"nothing of this feature is touched: {error}")
        return
    for record in shadowed:
        plan.note(plan.removed, record.path, "every sample of it was committed before")
    named = {record.folder for record in records if record not in shadowed}
    dead = {record.folder for record in shadowed}
    gone = []
    for folder in folders:
        if folder.name in named or folder.is_symlink():
            continue
        if folder.name not in dead and (busy or not plan.is_old(folder)):
            plan.note(plan.kept, folder, "no record names it, but it is too new")
            continue
        gone.append(folder)
        plan.note(plan.removed, folder, "no record names it")
    plan.features.append(_FeaturePlan(fingerprint, tuple(shadowed), tuple(gone)))


def _shadowed(plan: _Plan, records: Sequence[Record], fingerprint: str, parts: Path) -> list[Record]:
    """Records without a row in effect, provided that the copies in effect are proved sound by reading them."""
    masks = rows_in_effect(records)
    dead = [record for record, mask in zip(records, masks, strict=True) if not mask.any()]
    dead = [
        r for r in dead if plan.is_old(r.path) and (not (parts / r.folder).exists() or plan.is_old(parts / r.folder))
    ]
    if not dead:
        return []
    copies = Copies(parts, records, masks, read_spec(plan.root / "specs" / f"{fingerprint}.json"))
    for record in dead:
        if not copies.sound(record.keys):
            plan.note(plan.kept, record.path, "the copy that readers see is damaged: run `mmdf cache verify`")
    return [record for record in dead if copies.sound(record.keys)]


def _replaced(plan: _Plan) -> dict[str, str]:
    found = superseded_features(plan.root)
    paths = {name: [path for path in _paths(plan.root, name) if path.exists()] for name in found}
    return {name: reason for name, reason in found.items() if all(plan.is_old(path) for path in paths[name])}


def _paths(root: Path, fingerprint: str) -> tuple[Path, Path, Path]:
    return (root / "index" / fingerprint, root / "specs" / f"{fingerprint}.json", root / "features" / fingerprint)


def _plan_whole(plan: _Plan, fingerprint: str, reason: str) -> None:
    index, spec, feature = _paths(plan.root, fingerprint)
    for path in (index, spec, feature):
        if path.exists():
            plan.note(plan.removed, path, reason)
    plan.features.append(_FeaturePlan(fingerprint, (), tuple(sorted((feature / "parts").glob("*"))), whole=True))


def _remove(plan: _Plan) -> None:
    for path in plan.tmp:
        _delete(path)
    for feature in plan.features:
        index, spec, folder = _paths(plan.root, feature.fingerprint)
        for record in feature.shadowed:
            remove_record(record)
        for fragment in index.glob("*.parquet") if feature.whole else ():
            fragment.unlink(missing_ok=True)
        if index.exists():
            sync_file(index)
        _remove_parts(plan.root, index, feature.parts)
        if feature.whole:
            _remove_empty(folder / "parts")
            _remove_empty(folder)
            if _remove_empty(index):
                spec.unlink(missing_ok=True)


def _remove_parts(root: Path, index: Path, folders: Sequence[Path]) -> None:
    # Out of sight in one step, so that no reader meets half a part, and back if its record came meanwhile.
    (root / "tmp").mkdir(exist_ok=True)
    for folder in folders:
        moved = root / "tmp" / f"gc-{uuid.uuid4().hex}"
        os.rename(folder, moved)
        if _is_named(index, folder):
            os.rename(moved, folder)
        else:
            _delete(moved)


def _is_named(index: Path, folder: Path) -> bool:
    fragment = index / f"frag-{folder.name.partition('-')[0]}.parquet"
    try:
        return read_record(fragment).folder == folder.name
    except CacheError:
        return fragment.exists()


def _remove_empty(folder: Path) -> bool:
    """Remove a folder if nothing came into it meanwhile; whether it is gone."""
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _measure(path: Path) -> tuple[int, float]:
    """Bytes in the files below `path`, and when the newest file or folder among them was changed, in seconds."""
    bytes_, newest_s = 0, -math.inf
    for one in _walk(path):
        try:
            status = one.lstat()
        except FileNotFoundError:
            # Somebody is at work in it.
            return bytes_, math.inf
        bytes_ += 0 if one.is_dir() else status.st_size
        newest_s = max(newest_s, status.st_mtime)
    return bytes_, newest_s


def _walk(path: Path) -> Iterator[Path]:
    yield path
    for folder, folders, files in os.walk(path):
        yield from (Path(folder, name) for name in (*folders, *files))
