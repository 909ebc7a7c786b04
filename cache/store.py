"""FeatureStore: the cache between the stages, a folder of immutable parts and their commit records.

    mmdf.json                      format and version, read before anything else
    specs/<fp>.json                what the feature is
    features/<fp>/parts/…         arrays, a folder a part
    index/<fp>/frag-*.parquet     commit records, a fragment a part
    samples/, failures/, runs/     which item has which bytes, what could not be used, and who computed what
    tmp/                           work in progress; anything in it may be deleted while nothing runs

Readers ask for item ids and get ragged arrays. Nothing here knows what a backbone or a head is.
"""

import json
import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmdf.cache.errors import CacheError, UsageError
from mmdf.cache.index import Committed, Index, read_index
from mmdf.cache.ledger import Ledger
from mmdf.cache.manifest import Manifest
from mmdf.cache.parts import read_part, sync_file
from mmdf.cache.registry import did_you_mean
from mmdf.cache.spec import FeatureSpec
from mmdf.cache.writer import PartWriter

FORMAT = "mmdf-store"
VERSION = 2
READ_THREADS = 4


@dataclass(frozen=True)
class Ragged:
    """Embeddings of n items, one after the other, in the order they were asked for.

    Attributes
    ----------
    values
        (T, D) in the storage dtype.
    offsets
        (n + 1,) int64. An item without steps (missing, failed, or a file without that stream) has an empty range.
    times_s
        (T,) float64.
    indices
        (T,) int64, where each step begins in its file: number of the frame, or of the sample at 16 kHz; -1 unknown.
    """

    values: np.ndarray
    offsets: np.ndarray
    times_s: np.ndarray
    indices: np.ndarray

    @property
    def n_steps(self) -> np.ndarray:
        """(n,) int64, steps of every item."""
        return np.diff(self.offsets)


class FeatureStore:
    """A cache on disk. Open one with `FeatureStore.open`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ledger = Ledger(root)
        self._indices: dict[str, Index] = {}

    @staticmethod
    def open(root: Path, create: bool = False) -> "FeatureStore":
        """Open the store at `root`; with `create`, make it if nothing is there.

        Raises
        ------
        CacheError
            If there is no store, something else lies there, or a newer mmdf wrote it.
        """
        head = root / "mmdf.json"
        if not head.exists():
            if not create:
                raise CacheError(f"No feature store at {root}. Make one: mmdf extract MANIFEST -s {root} -b BACKBONE")
            _initialise(root)
        try:
            found = json.loads(head.read_text())
            kind, version = found["format"], int(found["version"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CacheError(f"{head} cannot be read ({error}). Is {root} a feature store?") from error
        if kind != FORMAT or version != VERSION:
            remedy = "Upgrade mmdf (pip install -U mmdf)" if version > VERSION else "It is from a test version of mmdf"
            raise CacheError(
                f"{root} is in the format {kind} {version}; this mmdf reads {FORMAT} {VERSION}. "
                f"{remedy}; or extract into another folder."
            )
        return FeatureStore(root)

    def specs(self) -> list[FeatureSpec]:
        """Every feature in the store, by alias."""
        found = [read_spec(path) for path in sorted((self.root / "specs").glob("*.json"))]
        return sorted(found, key=lambda spec: (spec.alias, spec.fingerprint))

    def find(self, name: str) -> FeatureSpec:
        """The feature called `name`: an alias, a backbone with one view here, or the start of a fingerprint.

        Raises
        ------
        UsageError
            If there is none or more than one.
        """
        specs = self.specs()
        found = [s for s in specs if name in (s.alias, s.backbone)] or [
            s for s in specs if len(name) >= 6 and s.fingerprint.startswith(name)
        ]
        if not found:
            names = sorted({spec.alias for spec in specs})
            raise UsageError(
                f"The store {self.root} has no feature '{name}'.{did_you_mean(name, names)} "
                f"It has: {', '.join(names) or 'none'}."
            )
        if len(found) > 1:
            shown = "; ".join(f"{s.fingerprint[:8]} = {s.alias} in {s.compute_dtype}" for s in found)
            raise UsageError(f"'{name}' is not one feature but {len(found)}: {shown}. Name one by its fingerprint.")
        return found[0]

    def index(self, spec: FeatureSpec, refresh: bool = False) -> Index:
        """What is committed of `spec`. Read once, then kept; `refresh` reads again."""
        fingerprint = spec.fingerprint
        if refresh or fingerprint not in self._indices:
            self._indices[fingerprint] = read_index(self.root / "index" / fingerprint)
        return self._indices[fingerprint]

    def forget(self, spec: FeatureSpec) -> None:
        """Read the index of `spec` anew the next time."""
        self._indices.pop(spec.fingerprint, None)

    def committed(self, spec: FeatureSpec) -> Committed:
        """The keys that are committed of `spec`, for those who write: call its `update` to see what others added."""
        return Committed(self.root / "index" / spec.fingerprint)

    def keys(self, manifest: Manifest) -> list[bytes | None]:
        """The sample key of every item, None for items that were never seen by `mmdf extract`."""
        known = self.ledger.samples()
        pairs = zip(manifest.column("item_id"), manifest.column("size_bytes"), strict=True)
        return [known.key(item_id, size) for item_id, size in pairs]

    def missing(self, manifest: Manifest, spec: FeatureSpec) -> list[str]:
        """Ids of the items whose embeddings of `spec` are not in the store."""
        index = self.index(spec)
        pairs = zip(manifest.column("item_id"), self.keys(manifest), strict=True)
        return [item_id for item_id, key in pairs if key is None or key not in index]

    def read(self, spec: FeatureSpec, manifest: Manifest) -> Ragged:
        """Embeddings of every item of `manifest`, in its order; an empty range where there are none.

        Raises
        ------
        CacheError
            If a part is damaged. Nothing wrong is ever returned.
        """
        try:
            return self._read(spec, manifest)
        except CacheError:
            # Compaction and its cleaning may have put other parts in place since the index was read.
            before = self.index(spec).folders
            if self.index(spec, refresh=True).folders == before:
                raise
            return self._read(spec, manifest)

    def _read(self, spec: FeatureSpec, manifest: Manifest) -> Ragged:
        index = self.index(spec)
        rows = np.array([-1 if k is None else index.position.get(k, -1) for k in self.keys(manifest)], np.int64)
        steps = np.where(rows >= 0, index.n_steps[rows] if len(index.n_steps) else 0, 0)
        offsets = np.concatenate([[0], np.cumsum(steps)])
        values = np.empty((offsets[-1], spec.dim), spec.storage_dtype)
        times_s, indices = np.empty(offsets[-1]), np.empty(offsets[-1], np.int64)

        stored = np.flatnonzero(steps > 0)
        stored = stored[np.argsort(index.part[rows[stored]], kind="stable")]
        numbers, first = np.unique(index.part[rows[stored]], return_index=True)

        def fill(number: int, items: np.ndarray) -> None:
            part = read_part(self._part_folder(spec, index.folders[number]))
            starts, lows, n_steps = index.start[rows[items]], offsets[items], steps[items]
            if part.values.shape[1:] != (spec.dim,) or part.values.dtype != values.dtype:
                raise self._mismatch(spec, index.folders[number])
            if starts.min() < 0 or (starts + n_steps).max() > len(part.values):
                raise self._mismatch(spec, index.folders[number])
            # Items that are neighbours in the part and in the answer are copied as one run.
            joined = (lows[1:] == lows[:-1] + n_steps[:-1]) & (starts[1:] == starts[:-1] + n_steps[:-1])
            heads = np.flatnonzero(np.concatenate([[True], ~joined]))
            for low, start, length in zip(lows[heads], starts[heads], np.add.reduceat(n_steps, heads), strict=True):
                values[low : low + length] = part.values[start : start + length]
                times_s[low : low + length] = part.times_s[start : start + length]
                indices[low : low + length] = part.indices[start : start + length]

        with ThreadPoolExecutor(READ_THREADS) as pool:
            list(pool.map(fill, numbers.tolist(), np.split(stored, first[1:])))
        return Ragged(values, offsets, times_s, indices)

    def writer(self, spec: FeatureSpec, run_id: str) -> PartWriter:
        """A writer for one new part of `spec`; registers the spec."""
        fingerprint = spec.fingerprint
        # tmp too: copying a store often drops its empty folders.
        folders = (self.root / "specs", self._part_folder(spec, ""), self.root / "index" / fingerprint)
        for folder in (*folders, self.root / "tmp"):
            folder.mkdir(parents=True, exist_ok=True)
        path = self.root / "specs" / f"{fingerprint}.json"
        if not path.exists():
            write_json(path, spec.to_dict(), self.root / "tmp")
        return PartWriter(self.root, spec, run_id)

    def _part_folder(self, spec: FeatureSpec, folder: str) -> Path:
        return self.root / "features" / spec.fingerprint / "parts" / folder

    def _mismatch(self, spec: FeatureSpec, folder: str) -> CacheError:
        return CacheError(
            f"The part {self._part_folder(spec, folder)} is not what the index and the spec of {spec.alias} say. "
            "Delete its fragment under index/ and run `mmdf extract` again: only this part is computed anew."
        )


def _initialise(root: Path) -> None:
    head = root / "mmdf.json"
    foreign = root.exists() and (not root.is_dir() or any(p.name != "tmp" for p in root.iterdir()))
    # Asked again: another process may have made the store since.
    if foreign and not head.exists():
        raise CacheError(f"{root} is not empty and not a feature store. Give -s a new folder.")
    # The head comes first, so that a crash or a second process never meets folders without it.
    write_json(head, {"format": FORMAT, "version": VERSION}, root / "tmp")
    for name in ("specs", "features", "index", "samples", "failures", "runs"):
        (root / name).mkdir(exist_ok=True)


def read_spec(path: Path) -> FeatureSpec:
    """The spec in a file that is named by its fingerprint; `CacheError` if it was altered or cannot be read."""
    try:
        spec = FeatureSpec.from_dict(json.loads(path.read_text()))
        fingerprint = spec.fingerprint
    except (OSError, ValueError, TypeError) as error:
        raise CacheError(f"The spec {path} cannot be read ({error}). {_spec_remedy(path)}") from error
    if fingerprint != path.stem:
        raise CacheError(
            f"The spec {path} was altered: its content has the fingerprint {fingerprint}. {_spec_remedy(path)}"
        )
    return spec


def _spec_remedy(path: Path) -> str:
    return (
        f"Restore it from a copy of the store, or delete it and index/{path.stem} and run `mmdf extract` again: "
        "the feature is computed anew."
    )


def write_json(path: Path, value: object, temporary_folder: Path) -> None:
    """Write JSON whole or not at all, and force it to disk."""
    temporary_folder.mkdir(parents=True, exist_ok=True)
    temporary = temporary_folder / f"{uuid.uuid4().hex}.json"
    temporary.write_text(json.dumps(value, indent=2) + "\n")
    sync_file(temporary)
    os.replace(temporary, path)
    sync_file(path.parent)
