"""ScoreTable: what is written is read, and nothing else is taken for a score table."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmdf.cache.errors import DataError
from mmdf.cache.scores import SCHEMA, ScoreTable

ROWS = [
    {
        "item_id": "a",
        "dataset": "toy",
        "label": 1,
        "method": "wav2lip",
        "score": 0.9,
        "logit": 2.2,
        "stream_scores": [("picture", 0.2), ("sound", 0.95)],
        "family_scores": [("lip-sync", 0.8)],
        "segments": [{"start_s": 0.5, "end_s": 1.25, "stream": "sound", "score": 0.95}],
        "head": "late",
        "seed": 3,
    },
    {"item_id": "b", "label": None, "reason": "no face found", "head": "late", "seed": 3},
]
INFO = {"detector": "toy", "threshold": 0.5, "trained_on": ["toy"], "chosen_on": "val"}


def table() -> ScoreTable:
    return ScoreTable(pa.Table.from_pylist(ROWS, schema=SCHEMA), INFO)


def test_a_table_comes_back_with_maps_segments_and_info(tmp_path: Path) -> None:
    path = tmp_path / "new" / "scores.parquet"
    table().write(path)
    again = ScoreTable.read(path)
    assert again.table.equals(table().table)
    assert again.table.schema.equals(SCHEMA)
    assert again.info == INFO
    assert again.threshold == 0.5
    assert again.column("stream_scores")[0] == [("picture", 0.2), ("sound", 0.95)]
    assert again.column("segments")[0] == ROWS[0]["segments"]


def test_writing_again_replaces_and_leaves_nothing_else_behind(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    table().write(path)
    ScoreTable(table().table.slice(1), INFO).write(path)
    assert ScoreTable.read(path).column("item_id") == ["b"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_number_that_is_not_known_is_nan() -> None:
    np.testing.assert_array_equal(table().numbers("label"), [1.0, np.nan])
    np.testing.assert_array_equal(table().numbers("score"), [0.9, np.nan])


def test_a_missing_table_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="mmdf predict"):
        ScoreTable.read(tmp_path / "none.parquet")


def test_a_foreign_parquet_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.parquet"
    pq.write_table(pa.table({"item_id": ["a"], "score": [0.5]}), path)
    with pytest.raises(DataError, match="not a score table"):
        ScoreTable.read(path)


def test_our_mark_on_other_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.parquet"
    pq.write_table(pa.table({"item_id": ["a"]}).replace_schema_metadata({b"mmdf.scores": b"{}"}), path)
    with pytest.raises(DataError, match="not a score table"):
        ScoreTable.read(path)


def test_columns_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.parquet"
    columns = {name: pa.array([[1]]) for name in SCHEMA.names}
    pq.write_table(pa.table(columns).replace_schema_metadata({b"mmdf.scores": b"{}"}), path)
    with pytest.raises(DataError, match="not a score table"):
        ScoreTable.read(path)


@pytest.mark.parametrize("content", [b"", b"item_id,score\na,0.5\n"])
def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "scores.parquet"
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a score table"):
        ScoreTable.read(path)
