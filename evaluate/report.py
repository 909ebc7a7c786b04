"""The report: one page that stands alone, the same numbers as JSON, and the figures as PNG.

Everything that comes from data is escaped, the page loads nothing from elsewhere, and `index.html` appears whole or
not at all. The same score tables give the same bytes. Knows assessments and figures, nothing of how scores are made.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from mmdf.cache.errors import UsageError
from mmdf.cache.scores import ScoreTable
from mmdf.evaluate.assess import Assessment, assess, format_estimate, heading
from mmdf.evaluate.figures import confusion_figure, method_figure, roc_figure, save_png, score_figure, to_svg
from mmdf.evaluate.items import decision_threshold, scored_items
from mmdf.evaluate.metrics import METRICS

FORMAT = "mmdf-report"
VERSION = 1
MAX_FAILURES = 10


@dataclass(frozen=True)
class WrongItem:
    """An item on the wrong side of the threshold; `label` and `method` as in the manifest."""

    item_id: str
    label: int
    method: str | None
    score: float


@dataclass(frozen=True)
class Picture:
    """A figure in the page: its SVG, the name of its PNG, and what it shows for those who cannot see it."""

    svg: Markup
    file: str
    description: str


def write_report(
    folder: Path,
    tables: Mapping[str, ScoreTable],
    title: str,
    notes: Sequence[str] = (),
    timings: Mapping[str, float] | None = None,
) -> Path:
    """Write `index.html`, `report.json` and `figures/*.png` into `folder` and return the path of the page.

    Parameters
    ----------
    folder
        Made if it is missing; a report that stands there is replaced.
    tables
        Score tables by the name of the detector to be shown.
    title
        The page's title.
    notes
        Sentences to stand above everything, such as "The corpus is synthetic".
    timings
        Seconds by stage of the pipeline.

    Raises
    ------
    UsageError
        If there is no score table, or `folder` is a file.
    DataError
        If a table cannot be assessed.
    """
    if not tables:
        raise UsageError("A report needs at least one score table. Make one with `mmdf predict`.")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; a report needs a folder.")
    assessments = {name: assess(table) for name, table in tables.items()}
    document = {
        "format": FORMAT,
        "version": VERSION,
        "title": title,
        "notes": [*notes, *_item_notes(tables)],
        "timings_s": dict(timings) if timings else None,
        "detectors": {name: assessment.to_dict() for name, assessment in assessments.items()},
        "most_confidently_wrong": {name: [asdict(w) for w in wrong_items(table)] for name, table in tables.items()},
    }
    pictures = _pictures(folder / "figures", tables, assessments)
    template = _environment().from_string(_template())
    page = template.render(document=document, assessments=assessments, pictures=pictures, metrics=list(METRICS))
    _replace(folder / "report.json", json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    _replace(folder / "index.html", page)
    return folder / "index.html"


def named_by_file(paths: Sequence[Path]) -> dict[str, Path]:
    """Score tables by the name a report gives them: the file's, with as many folders before it as tell all apart.

    Raises
    ------
    UsageError
        If one file is given twice.
    """
    files = {path: path.resolve() for path in paths}
    if len(set(files.values())) < len(paths):
        raise UsageError(f"A score table is named twice among {', '.join(map(str, paths))}. Give each one once.")
    parts = {path: file.with_suffix("").parts for path, file in files.items()}
    if len(set(parts.values())) < len(paths):
        parts = {path: file.parts for path, file in files.items()}
    depth = 1
    while len({own[-depth:] for own in parts.values()}) < len(paths):
        depth += 1
    return {"/".join(own[-depth:]): path for path, own in parts.items()}


def wrong_items(table: ScoreTable, most: int = MAX_FAILURES) -> list[WrongItem]:
    """The items decided wrongly at the threshold, those first whose score is furthest from their label."""
    items, threshold = scored_items(table), decision_threshold(table)
    wrong = np.flatnonzero((items.scores > threshold) != (items.labels == 1))
    distance = np.abs(items.scores - items.labels)
    order = sorted(wrong.tolist(), key=lambda row: (-distance[row], items.item_ids[row]))
    return [
        WrongItem(items.item_ids[row], int(items.labels[row]), items.methods[row], float(items.scores[row]))
        for row in order[:most]
    ]


def _item_notes(tables: Mapping[str, ScoreTable]) -> list[str]:
    """Name the detectors whose scored items differ: their numbers cannot be set side by side."""
    scored = {name: frozenset(scored_items(table).item_ids) for name, table in tables.items()}
    return [
        f"{one} and {other} were not scored on the same items ({len(scored[one] ^ scored[other])} differ): "
        "their numbers cannot be compared directly."
        for one, other in combinations(scored, 2)
        if scored[one] != scored[other]
    ]


def _pictures(folder: Path, tables: Mapping[str, ScoreTable], assessments: Mapping[str, Assessment]) -> dict[str, Any]:
    names = {name: f"{number:02d}-{_slug(name)}" for number, name in enumerate(tables, start=1)}
    what = "ROC curves of all detectors; the areas and intervals stand in the table of detectors"
    return {
        "roc": _picture(roc_figure(tables, assessments), folder / "roc.png", what),
        "methods": _picture(
            method_figure(assessments),
            folder / "methods.png",
            "ROC-AUC by method; the values stand in the tables below",
        ),
        "confusion": {
            name: _picture(confusion_figure(table), folder / f"confusion-{names[name]}.png", f"Decisions of {name}")
            for name, table in tables.items()
        },
        "scores": {
            name: _picture(score_figure(table), folder / f"scores-{names[name]}.png", f"Histogram of scores of {name}")
            for name, table in tables.items()
        },
    }


def _picture(figure: Figure, path: Path, description: str) -> Picture:
    save_png(figure, path)
    # Each SVG numbers its elements from one; within a page their names must differ.
    svg = re.sub(r'( id="| xlink:href="#|url\(#)', rf"\g<1>{path.stem}-", to_svg(figure))
    return Picture(Markup(svg), f"figures/{path.name}", description)


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "detector"


def _template() -> str:
    return resources.files("mmdf.evaluate").joinpath("report.html").read_text(encoding="utf-8")


def _environment() -> Environment:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["estimate"] = lambda row, metric: format_estimate(metric, row.estimates[metric])
    environment.filters["heading"] = heading
    return environment


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
