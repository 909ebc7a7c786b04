"""Figures of assessed score tables: ROC curves, confusion, scores by class, ROC-AUC by method.

Real is blue and fake is vermillion in every figure; detectors have other colours and differ by line style too, so that
nothing rests on colour alone (palette after Okabe and Ito 2008). Uses matplotlib's objects, never pyplot: no figure
here touches global state. Knows score tables and assessments, nothing of pages.
"""

import io
from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, PercentFormatter

from mmdf.cache.errors import UsageError
from mmdf.cache.scores import ScoreTable
from mmdf.evaluate.assess import Assessment, Row, assess, format_estimate
from mmdf.evaluate.items import decision_threshold, place, scored_items
from mmdf.evaluate.metrics import FPR_LIMIT, measure, roc_curve

REAL, FAKE = "#0072B2", "#D55E00"
DETECTORS = ("#00795A", "#AA3377", "#B8860B", "#222222", "#56B4E9", "#7A5BA8")
LINES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "D", "^", "v", "P")
_GREY, _PALE = "#767676", "#E4E4E4"
_CHANCE_SHOWN_BELOW = 0.6
_WHITE_TEXT_ABOVE = 0.6
_DPI = 160


def roc_figure(tables: Mapping[str, ScoreTable], assessments: Mapping[str, Assessment] | None = None) -> Figure:
    """ROC curves of several detectors: the whole square, and beside it the low false positive rates on a log axis.

    Parameters
    ----------
    tables
        Score tables by the name to be shown.
    assessments
        Of the same names, for the intervals in the legend; computed where None.

    Raises
    ------
    UsageError
        If there is no table.
    """
    if not tables:
        raise UsageError("A ROC figure needs at least one score table.")
    known = assessments if assessments is not None else {name: assess(table) for name, table in tables.items()}
    figure = _figure(10.0, 5.2)
    whole, low = figure.subplots(1, 2, sharey=True)
    floor = min(0.5 / max(known[name].overall.n_real, 1) for name in tables)
    handles, texts = [], []
    for number, (name, table) in enumerate(tables.items()):
        items = scored_items(table)
        curve = roc_curve(items.labels, items.scores)
        auc = known[name].overall.estimates["roc_auc"]
        texts.append(f"{plain(name, 28)}: {'only one class' if curve is None else format_estimate('roc_auc', auc)}")
        fpr, tpr = (np.full(1, np.nan),) * 2 if curve is None else curve
        line = LINES[number % len(LINES)]
        handles += whole.plot(fpr, tpr, color=_colour(number), linestyle=line, linewidth=2)
        # Steps, not slopes: at 1 % a reader sees the TPR of a real operating point, as TPR@1%FPR is defined.
        last = np.append(np.diff(fpr) > 0, True)
        steps = np.maximum(fpr[last], floor)
        low.plot(steps, tpr[last], color=_colour(number), linestyle=line, linewidth=2, drawstyle="steps-post")
    _style_roc(whole, low, floor)
    legend = whole.legend(handles, texts, loc="lower right", title="ROC-AUC, 95 % interval", alignment="left")
    legend.get_title().set_fontweight("bold")
    figure.suptitle(f"ROC curves, {_places(known)}", fontsize=13, fontweight="bold")
    return figure


def confusion_figure(table: ScoreTable) -> Figure:
    """Counts of decisions at the detector's threshold, with shares of the real and of the fake items."""
    items, threshold = scored_items(table), decision_threshold(table)
    counts = measure(items.labels, items.scores, threshold).confusion
    cells = np.array([[counts.tn, counts.fp], [counts.fn, counts.tp]])
    shares = cells / np.maximum(cells.sum(1, keepdims=True), 1)
    figure = _figure(4.6, 4.2)
    axes = figure.subplots()
    for row, column in np.ndindex(2, 2):
        share = shares[row, column]
        tint = 1 - share * (1 - np.array(to_rgb((REAL, FAKE)[row])))
        corner = (column - 0.5, row - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, facecolor=tuple(tint), edgecolor="white", linewidth=4))
        text = f"{cells[row, column]}\n{share:.1%}" if cells[row].sum() else "none"
        colour = "white" if share > _WHITE_TEXT_ABOVE else "black"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=14)
    axes.set(xlim=(-0.5, 1.5), ylim=(1.5, -0.5), aspect="equal")
    axes.set_xticks([0, 1], ["called real", "called fake"])
    axes.set_yticks([0, 1], ["real", "fake"], fontweight="bold")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    _title(axes, table, f"Decisions at threshold {threshold:.3f}")
    return figure


def score_figure(table: ScoreTable, n_bins: int = 40) -> Figure:
    """Histograms of the scores of real and of fake items, each as shares of its class, with the threshold."""
    items, threshold = scored_items(table), decision_threshold(table)
    figure = _figure(6.4, 4.2)
    axes = figure.subplots()
    edges = np.linspace(0, 1, n_bins + 1)
    for label, name, colour, hatch in ((0, "real", REAL, ""), (1, "fake", FAKE, "///")):
        scores = items.scores[items.labels == label]
        shares = np.histogram(scores, edges)[0] / max(len(scores), 1)
        face = (*to_rgb(colour), 0.3)
        axes.stairs(shares, edges, fill=True, facecolor=face, linewidth=0)
        # Apart from the face: in SVG a hatch takes on the face's opacity and vanishes.
        axes.stairs(shares, edges, fill=True, facecolor="none", edgecolor=colour, linewidth=0, hatch=hatch)
        axes.stairs(shares, edges, color=colour, linewidth=1.8, label=f"{name}, {len(scores)} items")
    axes.axvline(threshold, color="black", linestyle="--", linewidth=1.4, label=f"threshold {threshold:.3f}")
    axes.set_xlabel("score, the probability of fake")
    axes.set_ylabel("share of the class")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlim(0, 1)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    _title(axes, table, "Scores of real and fake items")
    return figure


def method_figure(assessments: Mapping[str, Assessment]) -> Figure:
    """ROC-AUC with 95 % intervals by method, each against all real items, the detectors side by side.

    Raises
    ------
    UsageError
        If there is no assessment.
    """
    if not assessments:
        raise UsageError("A figure by method needs at least one assessment.")
    rows = {name: {row.name: row for row in (*a.methods, a.overall)} for name, a in assessments.items()}
    methods = ["overall", *sorted({method for found in rows.values() for method in found} - {"overall"})]
    figure = _figure(7.6, 1.7 + len(methods) * (0.2 + 0.17 * len(rows)))
    axes = figure.subplots()
    offsets = np.linspace(-0.36, 0.36, len(rows) + 2)[1:-1]
    drawn = [_whiskers(axes, methods, found, float(offsets[n]), n) for n, found in enumerate(rows.values())]
    texts = [plain(name, 28) for name in rows]
    axes.set_yticks(range(len(methods)), [plain(method, 28) for method in methods])
    axes.get_yticklabels()[0].set_fontweight("bold")
    axes.set_ylim(len(methods) - 0.4, -0.6)
    axes.set_xlim(right=1.005)
    if axes.get_xlim()[0] < _CHANCE_SHOWN_BELOW:
        axes.set_xlim(left=min(axes.get_xlim()[0], 0.49))
        drawn.append(axes.axvline(0.5, color=_GREY, linestyle=":", linewidth=1.4))
        texts.append("chance")
    for line in np.arange(len(methods) - 1) + 0.5:
        axes.axhline(line, color=_PALE, linewidth=0.8)
    axes.grid(axis="x", color=_PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("ROC-AUC, 95 % interval")
    figure.legend(drawn, texts, loc="outside lower center", ncols=min(len(texts), 3), frameon=False)
    axes.set_title(f"ROC-AUC by method, {_places(assessments)}", loc="left", fontweight="bold", fontsize=12)
    return figure


def save_png(figure: Figure, path: Path) -> None:
    """Write `figure` as a PNG at 160 dots per inch. The same figure gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    figure.savefig(path, format="png", dpi=_DPI, metadata={"Software": None})


def to_svg(figure: Figure) -> str:
    """`figure` as an `<svg>` element to stand in a page: no XML head, no date, the same text each time."""
    buffer = io.StringIO()
    FigureCanvasSVG(figure)
    with matplotlib.rc_context({"svg.hashsalt": "mmdf"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def plain(text: str, length: int | None = None) -> str:
    """Text that matplotlib draws as it is: no formulas between dollar signs, nothing unprintable, cut to `length`."""
    shown = "".join(character if character.isprintable() else "?" for character in text)
    if length is not None and len(shown) > length:
        shown = shown[: length - 1] + "…"
    return shown.replace("$", r"\$")


def _figure(width_in: float, height_in: float) -> Figure:
    return Figure(figsize=(width_in, height_in), layout="constrained", facecolor="white")


def _colour(number: int) -> str:
    return DETECTORS[number % len(DETECTORS)]


def _style_roc(whole: Axes, low: Axes, floor: float) -> None:
    diagonal = np.append(0, np.geomspace(floor, 1, 200))
    for axes in (whole, low):
        axes.plot(diagonal, diagonal, color=_GREY, linestyle=":", linewidth=1.2, zorder=1)
        axes.grid(color=_PALE, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    whole.set(
        xlim=(-0.01, 1.0), ylim=(0, 1.02), xlabel="false positive rate", ylabel="true positive rate (fakes found)"
    )
    whole.set_title("all operating points", fontsize=11)
    low.set(xscale="log", xlim=(floor, 1), xlabel="false positive rate, logarithmic")
    low.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{100 * rate:g} %"))
    low.set_title("few false alarms, line at 1 %", fontsize=11)
    low.axvline(FPR_LIMIT, color=_GREY, linewidth=1)


def _whiskers(axes: Axes, methods: list[str], found: Mapping[str, Row], offset: float, number: int) -> Artist:
    """Draw one detector's dots and intervals and return what stands for it in the legend."""
    colour, places, values = _colour(number), [], []
    for y, method in enumerate(methods):
        auc = found[method].estimates["roc_auc"] if method in found else None
        if auc is None or auc.value is None:
            text = "not measured" if auc is None else "not defined"
            axes.text(0.01, y + offset, text, color=colour, va="center", transform=axes.get_yaxis_transform())
            continue
        if auc.low is not None and auc.high is not None:
            axes.plot([auc.low, auc.high], [y + offset] * 2, color=colour, linewidth=1.8)
        places.append(y + offset)
        values.append(auc.value)
    marker = MARKERS[number % len(MARKERS)]
    return axes.plot(values, places, linestyle="none", marker=marker, markersize=6, color=colour)[0]


def _title(axes: Axes, table: ScoreTable, what: str) -> None:
    detector = plain(str(table.info.get("detector") or "unnamed detector"), 40)
    axes.set_title(f"{what}\n{detector}\n{plain(place(table), 50)}", loc="left", fontweight="bold", fontsize=11)


def _places(assessments: Mapping[str, Assessment]) -> str:
    return plain("; ".join(sorted({a.place for a in assessments.values()})), 70)
