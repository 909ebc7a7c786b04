"""ScoreTable: what a detector said of each item, beside what is known of it. The contract between fuse and evaluate.

Score and logit grow with fakeness; score is the calibrated probability of fake. An item that could not be scored keeps
its row, with the reason: a detector that skips the hard files must not look better for it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmdf.cache.errors import DataError

_SEGMENT = pa.struct(
    [("start_s", pa.float64()), ("end_s", pa.float64()), ("stream", pa.string()), ("score", pa.float64())]
)
SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("dataset", pa.string()),
        ("label", pa.int8()),
        ("method", pa.string()),
        ("identity", pa.string()),
        ("split", pa.string()),
        ("score", pa.float64()),
        ("logit", pa.float64()),
        ("stream_scores", pa.map_(pa.string(), pa.float64())),
        ("family_scores", pa.map_(pa.string(), pa.float64())),
        ("segments", pa.list_(_SEGMENT)),
        ("reason", pa.string()),
        ("head", pa.string()),
        ("seed", pa.int32()),
    ]
)
_INFO_KEY = b"mmdf.scores"


@dataclass(frozen=True)
class ScoreTable:
    """Scores of one detector on one set of items.

    Attributes
    ----------
    table
        Columns as in `SCHEMA`; score and logit are null where `reason` says why.
    info
        The detector's name, its threshold on the score and where that came from, and what it was trained on.
    """

    table: pa.Table
    info: Mapping[str, Any]

    @property
    def threshold(self) -> float:
        """Scores above it are called fake. Chosen on validation, never on what is evaluated."""
        return float(self.info["threshold"])

    def column(self, name: str) -> list:
        """One column as Python values."""
        return self.table.column(name).to_pylist()

    def numbers(self, name: str) -> np.ndarray:
        """A numeric column as float64 (n,), NaN where null."""
        return np.array([np.nan if value is None else value for value in self.column(name)], dtype=np.float64)

    def write(self, path: Path) -> None:
        """Write whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        metadata = {_INFO_KEY: json.dumps(dict(self.info)).encode()}
        pq.write_table(self.table.replace_schema_metadata(metadata), temporary, compression="zstd")
        temporary.replace(path)

    @staticmethod
    def read(path: Path) -> "ScoreTable":
        """Read what `write` wrote; `DataError` if it is something else."""
        if not path.is_file():
            raise DataError(f"No score table at {path}. Make one: mmdf predict DETECTOR -s STORE -m MANIFEST -o {path}")
        try:
            table = pq.read_table(path)
            info = json.loads((table.schema.metadata or {})[_INFO_KEY])
            return ScoreTable(table.cast(SCHEMA), info)
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise DataError(f"{path} is not a score table ({error}). Make one: mmdf predict … -o {path}") from error
