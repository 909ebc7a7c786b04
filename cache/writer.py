"""PartWriter: collects the embeddings of a slice of work and commits them as one part.

The order of a commit: arrays into tmp/, read back, forced to disk, renamed; then the Parquet fragment, linked
exclusively. A crash at any instant leaves either nothing visible or a whole part.
"""

import shutil
import time
import uuid
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa

from mmdf.cache.errors import MediaError
from mmdf.cache.index import SCHEMA, commit_table
from mmdf.cache.parts import Part, part_id, sync_file, write_part
from mmdf.cache.spec import FeatureSpec

KEY_BYTES = 16


class PartWriter:
    """One part in the making. Use `FeatureStore.writer`; one writer belongs to one thread."""

    def __init__(self, root: Path, spec: FeatureSpec, run_id: str) -> None:
        self.spec = spec
        self._root = root
        self._run_id = run_id
        self._rows: list[dict] = []
        self._values: list[np.ndarray] = []
        self._times_s: list[np.ndarray] = []
        self._indices: list[np.ndarray] = []
        self._n_steps = 0

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, key: bytes, values: np.ndarray, times_s: np.ndarray, indices: np.ndarray | None = None) -> None:
        """Add one sample: `values` (T, D), T >= 1, `times_s` (T,) in seconds, `indices` (T,) as in `Part`. All copied.

        Raises
        ------
        MediaError
            If a value is not finite or too large for the storage dtype: such a vector is a failure, not data.
        """
        _check_key(key)
        if values.ndim != 2 or values.shape[1] != self.spec.dim or not len(values) or len(values) != len(times_s):
            raise ValueError(f"expected (T >= 1, {self.spec.dim}) and (T,), got {values.shape} and {times_s.shape}")
        with np.errstate(over="ignore"):
            # Always a copy: the caller's batch buffer may be filled again before the commit.
            stored = np.array(values, dtype=self.spec.storage_dtype, order="C")
        times_s = np.array(times_s, np.float64)
        indices = np.full(len(values), -1) if indices is None else np.array(indices, np.int64)
        if indices.shape != times_s.shape:
            raise ValueError(f"expected indices of shape {times_s.shape}, got {indices.shape}")
        if not np.isfinite(times_s).all():
            raise MediaError(f"{self.spec.alias} got a step without a time: look at the file, it may be damaged.")
        if not np.isfinite(stored).all():
            raise MediaError(
                f"{self.spec.alias} gave NaN, infinity or a value beyond {self.spec.storage_dtype}: "
                "look at the file, it may be damaged.",
                "forward",
            )
        hop_s = float(np.median(np.diff(times_s))) if len(times_s) > 1 else None
        self._rows.append(
            {
                "sample_key": key,
                "row": len(self._values),
                "start": self._n_steps,
                "n_steps": len(stored),
                "t0_s": float(times_s[0]),
                "hop_s": hop_s,
                "status": "ok",
                "row_crc32": zlib.crc32(stored.tobytes()),
                "norm_mean": float(np.linalg.norm(stored.astype(np.float64), axis=1).mean()),
            }
        )
        self._values.append(stored)
        self._times_s.append(times_s)
        self._indices.append(indices)
        self._n_steps += len(stored)

    def absent(self, key: bytes, reason: str) -> None:
        """Record that the file lacks what the feature needs (a silent film has no speech): a status, not a failure."""
        _check_key(key)
        self._rows.append(
            {
                "sample_key": key,
                "row": -1,
                "start": 0,
                "n_steps": 0,
                "status": "absent",
                "reason": reason,
                "row_crc32": 0,
                "norm_mean": 0.0,
            }
        )

    def commit(self) -> str | None:
        """Make the part visible. Returns its id, or None if there was nothing to write."""
        if not self._rows:
            return None
        fingerprint = self.spec.fingerprint
        name = part_id(fingerprint, [row["sample_key"] for row in self._rows])
        folder = f"{name}-{uuid.uuid4().hex[:8]}"
        if self._values:
            self._place(self._root / "features" / fingerprint / "parts" / folder)
        now_ns = time.time_ns()
        shared = {"part_id": name, "folder": folder, "dim": self.spec.dim, "run_id": self._run_id}
        rows = [{**row, **shared, "committed_at_ns": now_ns} for row in self._rows]
        temporary = self._root / "tmp" / f"{uuid.uuid4().hex}.parquet"
        target = self._root / "index" / fingerprint / f"frag-{name}.parquet"
        if not commit_table(pa.Table.from_pylist(rows, schema=SCHEMA), target, temporary):
            # Another process committed the same work first. Its part counts, ours is surplus.
            shutil.rmtree(self._root / "features" / fingerprint / "parts" / folder, ignore_errors=True)
        return name

    def _place(self, folder: Path) -> None:
        offsets = np.cumsum([0, *(len(v) for v in self._values)], dtype=np.int64)
        values, times_s = np.concatenate(self._values), np.concatenate(self._times_s)
        part = Part(values, times_s, offsets, np.concatenate(self._indices))
        temporary = self._root / "tmp" / uuid.uuid4().hex
        write_part(temporary, part)
        temporary.rename(folder)
        sync_file(folder.parent)


def _check_key(key: bytes) -> None:
    # Refused here, where one sample is at stake, and not at the commit, where the whole part would be lost.
    if len(key) != KEY_BYTES:
        raise ValueError(f"expected a sample key of {KEY_BYTES} bytes, got {len(key)}: take it from `sample_key`")
