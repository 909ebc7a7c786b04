"""One cell of a table into one value of the manifest, or an error that names row, column, value and what is known.

Knows nothing of files and tables. Empty text, null and NaN are None.
"""

import json
import math
from dataclasses import dataclass
from typing import Any

from mmdf.cache.errors import DataError
from mmdf.cache.manifest import STREAMS, Segment
from mmdf.extract.datasets.words import CLASS_WORDS, FAKE, SPLIT_WORDS

IS_FAKE = "is_fake"
NOBODY = ("nan", "none", "null", "na", "n/a", "unknown")
_TRUTH = {"true": 1, "false": 0, "yes": 1, "no": 0}


@dataclass(frozen=True)
class Cell:
    """A raw value and where it stands; rows count from 1, without the header."""

    row: int
    column: str
    value: Any

    @property
    def empty(self) -> bool:
        """Whether nothing is said: empty text, null or NaN."""
        value = self.value
        return (
            value is None
            or (isinstance(value, str) and not value.strip())
            or (isinstance(value, float) and math.isnan(value))
        )

    def error(self, wanted: str) -> DataError:
        """An error about this cell."""
        return DataError(f"Row {self.row}, column '{self.column}': cannot read '{self.value}'. {wanted}")


def text(cell: Cell) -> str | None:
    """Trimmed text. A whole float becomes an integer, since pandas makes floats of a column of ids with gaps."""
    if cell.empty:
        return None
    value = cell.value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def group(cell: Cell) -> str | None:
    """A value that groups files. A word for nothing (`NOBODY`), also after a prefix as in `corpus:nan`, is None.

    Otherwise all files of unknown people would count as one person and stand in one split.
    """
    value = text(cell)
    return None if value is None or value.lower().rpartition(":")[2] in NOBODY else value


def number(cell: Cell) -> float | None:
    """A finite number."""
    if cell.empty:
        return None
    try:
        value = float(cell.value)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise cell.error("Write a number, or nothing.")
    return value


def label_of(cell: Cell, fake_is: int) -> int | None:
    """1 = fake, 0 = real. `fake_is` says which number means fake, except in a column `is_fake`."""
    if cell.empty:
        return None
    word = str(cell.value).strip().lower()
    asks_for_fake = cell.column.strip().lower() == IS_FAKE
    if asks_for_fake and word in _TRUTH:
        return _TRUTH[word]
    if not asks_for_fake and word in CLASS_WORDS:
        return CLASS_WORDS[word]
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if value in (0, 1):
        return int(value) if asks_for_fake or fake_is == FAKE else 1 - int(value)
    if word in _TRUTH:
        raise cell.error("It could mean real or fake: write real or fake, or call the column 'is_fake'.")
    known = _TRUTH if asks_for_fake else CLASS_WORDS
    raise cell.error(f"Known: {', '.join(known)}, 0, 1 (1 = fake), or nothing for unknown.")


def split_of(cell: Cell) -> str | None:
    """One of train, val and test."""
    word = text(cell)
    if word is None:
        return None
    if word.lower() not in SPLIT_WORDS:
        raise cell.error(f"Known: {', '.join(SPLIT_WORDS)}, or nothing.")
    return SPLIT_WORDS[word.lower()]


def segments_of(cell: Cell, modality: str, video_label: int | None, audio_label: int | None) -> tuple[Segment, ...]:
    """Manipulated stretches: a list (as JSON in text) of [start_s, end_s], [start_s, end_s, stream] or objects.

    Where no stream is named, a segment holds for the streams that are labelled fake; without such labels for the
    sound of an audio file and the picture of everything else.
    """
    if cell.empty:
        return ()
    wanted = f'Write a JSON list like [[0.5, 1.2]] or [[0.5, 1.2, "sound"]], in seconds, stream one of {STREAMS}.'
    value = cell.value
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise cell.error(wanted) from error
    fallback = ("sound",) if modality == "audio" else ("picture",)
    labelled = tuple(s for s, label in zip(STREAMS, (video_label, audio_label), strict=True) if label == FAKE)
    try:
        parts = [_bounds(part) for part in value]
    except (TypeError, ValueError, KeyError) as error:
        raise cell.error(wanted) from error
    return tuple(
        Segment(start_s, end_s, name)
        for start_s, end_s, stream in parts
        for name in ((stream,) if stream else labelled or fallback)
    )


def _bounds(part: Any) -> tuple[float, float, str | None]:
    if isinstance(part, dict):
        return float(part["start_s"]), float(part["end_s"]), part.get("stream")
    start_s, end_s, *rest = part
    if len(rest) > 1:
        raise ValueError("too many values")
    return float(start_s), float(end_s), rest[0] if rest else None
