"""One row a file, in CSV, JSON Lines or Parquet beside the media. Reads names and sizes, never a medium.

Numbers in a label column mean 1 = FAKE, 0 = REAL, as everywhere in mmdf. Many datasets count the other way round: say
`fake_is=0` for those. The words `true` and `false` are refused, unless the column is called `is_fake`.
"""

import csv
import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmdf.cache.errors import DataError, UsageError
from mmdf.cache.manifest import GROUP_COLUMNS, SCHEMA, Item, Manifest, inside
from mmdf.cache.registry import did_you_mean
from mmdf.extract.datasets.cells import Cell, group, label_of, number, segments_of, split_of, text
from mmdf.extract.datasets.words import EXTENSIONS, modality_of

# Other names of a column, best first: the first that exists is read, after the column's own name.
ALIASES: dict[str, tuple[str, ...]] = {
    "path": ("file", "filename", "file_path", "filepath", "relpath"),
    "label": ("is_fake", "class", "target", "y"),
    "identity": ("speaker", "subject", "person", "id"),
    "source": ("source_id", "original", "video_source"),
    "method": ("attack", "generator", "manipulation"),
    "split": ("subset", "partition", "set"),
}
TABLE_NAMES = ("meta.csv", "metadata.csv", "manifest.csv", "manifest.jsonl", "manifest.parquet")
_TEXT_COLUMNS = ("method", "family", "compression", "mask_path")
_SHOWN = 5
_log = logging.getLogger(__name__)


def build(
    root: Path,
    dataset: str | None = None,
    table: str | None = None,
    fake_is: int = 1,
    allow_missing: bool = False,
) -> Manifest:
    """A manifest of the rows of one table.

    Columns are those of `mmdf.cache.manifest.SCHEMA` or their `ALIASES`, in any case; others are left alone. `item_id`
    is `<dataset>/<path>` and the modality follows from the extension where no column says otherwise. A missing label
    follows from `video_label` and `audio_label`: fake if one is, real if both are. Sizes are taken from the files.

    Parameters
    ----------
    root
        The table, whose folder is then the root, or the folder that holds it.
    dataset
        Name for rows without one in the column `dataset`; the root folder's name by default.
    table
        The table's name below `root`, where there are several or it has another name.
    fake_is
        Which number means fake: 1 or 0. A column `is_fake` always means what it says.
    allow_missing
        Drop rows whose file does not exist, and log how many, instead of refusing the table.

    Raises
    ------
    DataError
        With row, value and what is known, where a value cannot be read; where files are missing or leave the root.
    """
    if int(fake_is) not in (0, 1):
        raise UsageError(f"fake_is is '{fake_is}'. It says which number means fake: 0 or 1.")
    path = _find_table(root, table)
    root, rows = root if root.is_dir() else path.parent, _read(path)
    if not rows:
        raise DataError(f"{path} has no rows. Write one row a file, under a line of column names.")
    columns = _columns(list(rows[0]), path)
    items, missing = [], []
    for row, values in enumerate(rows, start=1):
        cells = {name: Cell(row, column, values.get(column)) for name, column in columns.items()}
        item = _item(cells, dataset or root.resolve().name, int(fake_is), row)
        size_bytes = _size_bytes(root, item)
        if size_bytes is None:
            missing.append(item.path)
        else:
            items.append(replace(item, size_bytes=size_bytes))
    _check_missing(missing, len(rows), root, allow_missing)
    return Manifest.of(items, root)


def _find_table(root: Path, table: str | None) -> Path:
    if table is not None:
        folder = root if root.is_dir() else root.parent
        if not (folder / table).is_file():
            near = did_you_mean(table, [entry.name for entry in folder.iterdir()] if folder.is_dir() else [])
            raise DataError(f"No table '{table}' in {folder}.{near}")
        return folder / table
    if root.is_file():
        return root
    if not root.is_dir():
        raise DataError(f"{root} does not exist. Give a table (CSV, JSONL, Parquet) or the folder that holds one.")
    found = [root / name for name in TABLE_NAMES if (root / name).is_file()]
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise DataError(f"{root} should hold one table, found: {names}. Name one of: {', '.join(TABLE_NAMES)}.")
    return found[0]


def _read(path: Path) -> list[dict[str, Any]]:
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".ndjson": _read_jsonl, ".parquet": _read_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path.name} is not a table that can be read. Use one of: {', '.join(readers)}.")
    try:
        return reader(path)
    except (UnicodeDecodeError, csv.Error, pa.ArrowInvalid) as error:
        raise DataError(f"{path} cannot be read as {path.suffix} ({error}). Save it anew, in UTF-8.") from error


def _read_csv(path: Path) -> list[dict[str, Any]]:
    # Not pyarrow's reader: it would guess types, and the speaker 007 would become the number 7.
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, restkey="")
        rows = list(reader)
    for row, values in enumerate(rows, start=1):
        if "" in values and isinstance(values[""], list):
            raise DataError(f"Row {row} of {path} has more values than there are columns. Quote values with commas.")
    return [dict(values) for values in rows]


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for number_of_line, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(
                f"Line {number_of_line} of {path} is not JSON ({error}). Write one object a line."
            ) from error
        if not isinstance(values, dict):
            raise DataError(f"Line {number_of_line} of {path} is not a JSON object. Write one object a line.")
        rows.append(values)
    names = dict.fromkeys(name for values in rows for name in values)
    return [{name: values.get(name) for name in names} for values in rows]


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def _columns(found: list[str], path: Path) -> dict[str, str]:
    """Contract name to the name that the table uses."""
    by_name = {name.strip().lower(): name for name in found}
    columns = {}
    for target in SCHEMA.names:
        name = next((n for n in (target, *ALIASES.get(target, ())) if n in by_name), None)
        if name is not None:
            columns[target] = by_name[name]
    if "path" not in columns:
        hint = did_you_mean("path", by_name)
        raise DataError(
            f"{path} lacks the column 'path'.{hint} It has: {', '.join(found)}. "
            f"Other names that are known: {', '.join(ALIASES['path'])}."
        )
    _log.info("read columns: %s", ", ".join(f"{used} as {name}" for name, used in columns.items()))
    return columns


def _item(cells: Mapping[str, Cell], default_dataset: str, fake_is: int, row: int) -> Item:
    empty = Cell(row, "", None)
    path = text(cells["path"])
    if path is None:
        raise DataError(f"Row {row} has no path. Every row needs one, relative to the root.")
    path = PurePosixPath(path).as_posix()
    dataset = text(cells.get("dataset", empty)) or default_dataset
    modality = text(cells.get("modality", empty)) or modality_of(path)
    if modality is None:
        known = " ".join(extension for extensions in EXTENSIONS.values() for extension in extensions)
        raise DataError(
            f"Row {row}: the type of '{path}' is not known. Add a column 'modality', or use one of: {known}."
        )
    video_label = label_of(cells.get("video_label", empty), fake_is)
    audio_label = label_of(cells.get("audio_label", empty), fake_is)
    label = label_of(cells.get("label", empty), fake_is)
    return Item(
        item_id=text(cells.get("item_id", empty)) or f"{dataset}/{path}",
        path=path,
        modality=modality,
        dataset=dataset,
        label=_either(video_label, audio_label) if label is None else label,
        video_label=video_label,
        audio_label=audio_label,
        split=split_of(cells.get("split", empty)),
        fake_segments=segments_of(cells.get("fake_segments", empty), modality, video_label, audio_label),
        duration_s=number(cells.get("duration_s", empty)),
        size_bytes=None,
        **{name: text(cells.get(name, empty)) for name in _TEXT_COLUMNS},
        **{name: group(cells.get(name, empty)) for name in GROUP_COLUMNS},
    )


def _either(video_label: int | None, audio_label: int | None) -> int | None:
    known = {video_label, audio_label}
    if 1 in known:
        return 1
    return 0 if known == {0} else None


def _size_bytes(root: Path, item: Item) -> int | None:
    """The file's size, None where there is no such file."""
    if item.mask_path is not None:
        inside(root, item.mask_path)
    file = inside(root, item.path)
    return file.stat().st_size if file.is_file() else None


def _check_missing(missing: list[str], n_rows: int, root: Path, allow_missing: bool) -> None:
    if not missing:
        return
    shown = ", ".join(missing[:_SHOWN]) + (" …" if len(missing) > _SHOWN else "")
    if len(missing) == n_rows or not allow_missing:
        raise DataError(
            f"{len(missing)} of {n_rows} files are missing below {root}: {shown}. "
            "Paths are relative to that folder. To go on without them: --allow-missing."
        )
    _log.info("dropped %d of %d rows, their files are missing: %s", len(missing), n_rows, shown)
