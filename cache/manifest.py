"""The manifest: one row a media file, in Parquet. Who made the file and what is in its pixels is not known here.

Label 1 = fake everywhere, null = unknown. Times are seconds in float64. Paths are relative to one root and may not
leave it.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmdf.cache.errors import DataError, UsageError
from mmdf.cache.registry import did_you_mean

MODALITIES = ("image", "audio", "video")
SPLITS = ("train", "val", "test")
STREAMS = ("picture", "sound")
GROUP_COLUMNS = ("identity", "source", "pair_key")
FAMILIES = ("face-swap", "reenactment", "lip-sync", "full-synthesis", "tts", "voice-conversion", "both", "other")

_SEGMENT = pa.struct([("start_s", pa.float64()), ("end_s", pa.float64()), ("stream", pa.string())])
SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("path", pa.string()),
        ("dataset", pa.string()),
        ("modality", pa.string()),
        ("label", pa.int8()),
        ("video_label", pa.int8()),
        ("audio_label", pa.int8()),
        ("method", pa.string()),
        ("family", pa.string()),
        ("identity", pa.string()),
        ("source", pa.string()),
        ("pair_key", pa.string()),
        ("split", pa.string()),
        ("compression", pa.string()),
        ("fake_segments", pa.list_(_SEGMENT)),
        ("mask_path", pa.string()),
        ("duration_s", pa.float64()),
        ("size_bytes", pa.int64()),
    ]
)
REQUIRED = ("item_id", "path", "modality")
_ROOT_KEY = b"mmdf.root"


@dataclass(frozen=True)
class Segment:
    """A manipulated stretch of time: [start_s, end_s) of the stream "picture" or "sound"."""

    start_s: float
    end_s: float
    stream: str


@dataclass(frozen=True)
class Item:
    """One media file. The fields are the columns of the manifest; `None` means unknown."""

    item_id: str
    path: str
    modality: str
    dataset: str | None = None
    label: int | None = None
    video_label: int | None = None
    audio_label: int | None = None
    method: str | None = None
    family: str | None = None
    identity: str | None = None
    source: str | None = None
    pair_key: str | None = None
    split: str | None = None
    compression: str | None = None
    fake_segments: tuple[Segment, ...] = field(default=())
    mask_path: str | None = None
    duration_s: float | None = None
    size_bytes: int | None = None


@dataclass(frozen=True)
class Manifest:
    """A validated table of items and the root that their paths are relative to.

    Build one with `Manifest.of`, read one with `Manifest.read`; both validate, so a `Manifest` in hand is sound.
    """

    table: pa.Table
    root: Path

    @staticmethod
    def of(items: Sequence[Item], root: Path) -> "Manifest":
        """A manifest of `items`. Raises `DataError` where an item breaks the contract."""
        rows = [asdict(item) for item in items]
        try:
            table = pa.Table.from_pylist(rows, schema=SCHEMA)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise DataError(f"An item has a value of the wrong type: {error}.") from error
        except UnicodeEncodeError as error:
            raise DataError(f"A name is not valid UTF-8: {error.object!a}. Rename the file.") from error
        return validated(table, root)

    @staticmethod
    def read(path: Path, root: Path | None = None) -> "Manifest":
        """Read `path`; `root` overrides the root that is stored in the file (for data that has moved)."""
        if not path.is_file():
            raise DataError(f"No manifest at {path}. Make one: mmdf manifest build --layout folders ROOT -o {path}")
        try:
            table = pq.read_table(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{path} is not a Parquet manifest ({error}). Make one: mmdf manifest build") from error
        stored = (table.schema.metadata or {}).get(_ROOT_KEY)
        if root is None:
            root = Path(stored.decode()) if stored else path.parent
        return validated(table, root)

    def write(self, path: Path) -> None:
        """Write the manifest whole, or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        metadata = {_ROOT_KEY: str(self.root.absolute()).encode()}
        pq.write_table(self.table.replace_schema_metadata(metadata), temporary, compression="zstd")
        temporary.replace(path)

    def __len__(self) -> int:
        return self.table.num_rows

    def items(self) -> Iterator[Item]:
        """The rows as `Item`s, in the order of the table."""
        names = [f.name for f in fields(Item)]
        for row in self.table.to_pylist():
            row["fake_segments"] = tuple(Segment(**segment) for segment in row["fake_segments"] or ())
            yield Item(**{name: row[name] for name in names})

    def column(self, name: str) -> list:
        """One column as Python values, None where unknown."""
        return self.table.column(name).to_pylist()

    def labels(self, name: str = "label") -> np.ndarray:
        """A label column as float64 (n,): 0 real, 1 fake, NaN unknown."""
        return np.array([np.nan if value is None else value for value in self.column(name)], dtype=np.float64)

    def take(self, rows: np.ndarray) -> "Manifest":
        """The manifest of the given row numbers (int array) or of a boolean mask (n,)."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        return Manifest(self.table.take(pa.array(rows, pa.int64())), self.root)

    def split(self, name: str) -> "Manifest":
        """The items of one split."""
        return self.take(np.array([value == name for value in self.column("split")], dtype=bool))

    def require_split(self, name: str | None) -> "Manifest":
        """The items of one split, or all for None. Raises if there is no such split, or nothing in it."""
        if name is None:
            return self
        if name not in SPLITS:
            raise UsageError(f"Unknown split '{name}'.{did_you_mean(name, SPLITS)} Known: {', '.join(SPLITS)}.")
        found = self.split(name)
        if not len(found):
            there = sorted({value for value in self.column("split") if value is not None}, key=SPLITS.index)
            raise DataError(f"The manifest has no items in split '{name}'. It has: {', '.join(there) or 'no splits'}.")
        return found

    def with_splits(self, splits: Sequence[str | None]) -> "Manifest":
        """The same items with another split column."""
        position = self.table.schema.get_field_index("split")
        return Manifest(
            self.table.set_column(position, SCHEMA.field("split"), pa.array(splits, pa.string())), self.root
        )

    def file(self, item: Item) -> Path:
        """Where the item's bytes are. Raises `DataError` if the path leaves the root, symbolic links included."""
        return inside(self.root, item.path)


def inside(root: Path, relative: str) -> Path:
    """`root / relative`, refused with `DataError` where it points outside of `root`."""
    resolved = (root / relative).resolve()
    if Path(relative).is_absolute() or not resolved.is_relative_to(root.resolve()):
        raise DataError(
            f"'{relative}' points outside of the root {root}. Paths in a manifest must stay under its root."
        )
    return resolved


def validated(table: pa.Table, root: Path) -> Manifest:
    """Check a raw table against the contract and bring it to `SCHEMA`; `DataError` names column, row and remedy."""
    for name in REQUIRED:
        if name not in table.column_names:
            raise DataError(
                f"The manifest lacks the column '{name}'.{did_you_mean(name, table.column_names)} "
                f"It has: {', '.join(table.column_names)}."
            )
    if table.num_rows == 0:
        raise DataError("The manifest has no rows. Check that ROOT holds media files of a supported type.")
    unknown = [name for name in table.column_names if name not in SCHEMA.names]
    if unknown:
        table = table.drop_columns(unknown)
    columns = []
    for target in SCHEMA:
        if target.name not in table.column_names:
            columns.append(pa.nulls(table.num_rows, target.type))
            continue
        try:
            columns.append(table.column(target.name).cast(target.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(f"Column '{target.name}' should hold {target.type}: {error}") from error
    manifest = Manifest(pa.table(columns, schema=SCHEMA), root)
    _check_values(manifest)
    return manifest


def _check_values(manifest: Manifest) -> None:
    for name in REQUIRED:
        if any(not value for value in manifest.column(name)):
            raise DataError(f"Column '{name}' has empty values. Every row needs one.")
    _check_vocabulary(manifest, "modality", MODALITIES)
    _check_vocabulary(manifest, "split", SPLITS)
    _check_vocabulary(manifest, "family", FAMILIES)
    for name in ("label", "video_label", "audio_label"):
        _check_vocabulary(manifest, name, (0, 1))
    for name in ("duration_s", "size_bytes"):
        _check_amount(manifest, name)
    ids = manifest.column("item_id")
    if len(set(ids)) != len(ids):
        seen: set[str] = set()
        twice = next(i for i in ids if i in seen or seen.add(i))  # type: ignore[func-returns-value]
        raise DataError(f"item_id '{twice}' stands in two rows. Every item needs an id of its own.")
    for item_id, segments in zip(ids, manifest.column("fake_segments"), strict=True):
        for segment in segments or ():
            start_s, end_s = (math.nan if segment[n] is None else segment[n] for n in ("start_s", "end_s"))
            if not 0 <= start_s < end_s < math.inf or segment["stream"] not in STREAMS:
                raise DataError(f"Item '{item_id}' has the segment {segment}: 0 <= start_s < end_s, stream {STREAMS}.")


def _check_vocabulary(manifest: Manifest, name: str, allowed: tuple) -> None:
    for row, value in enumerate(manifest.column(name)):
        if value is not None and value not in allowed:
            wanted = ", ".join(str(a) for a in allowed)
            raise DataError(f"Row {row + 1} has {name} '{value}'. Known: {wanted}, or empty for unknown.")


def _check_amount(manifest: Manifest, name: str) -> None:
    for row, value in enumerate(manifest.column(name)):
        if value is not None and not 0 <= value < math.inf:
            raise DataError(f"Row {row + 1} has {name} {value}. It is zero or more, or empty for unknown.")
