"""Figures: what is drawn, that names are drawn as they are, and that the same table gives the same bytes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib import _pylab_helpers
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch
from matplotlib.text import Text
from PIL import Image

from mmdf.cache.errors import UsageError
from mmdf.cache.scores import ScoreTable
from mmdf.evaluate.assess import assess
from mmdf.evaluate.figures import (
    FAKE,
    REAL,
    confusion_figure,
    method_figure,
    plain,
    roc_figure,
    save_png,
    score_figure,
    to_svg,
)

HOSTILE = "_$\\frac$ <script>--> $x"


def texts(figure: Figure) -> str:
    return " | ".join(artist.get_text() for artist in figure.findobj(Text) if isinstance(artist, Text))


def test_roc_figure_holds_a_curve_for_each_detector_and_its_interval(toy_table: ScoreTable) -> None:
    assessed = {"one": assess(toy_table, 50), "two": assess(toy_table, 50)}
    figure = roc_figure({"one": toy_table, "two": toy_table}, assessed)
    whole, low = figure.axes
    assert len(whole.lines) == 3
    assert low.get_xscale() == "log"
    curve = np.asarray(whole.lines[0].get_xydata())
    area = float(np.sum(np.diff(curve[:, 0]) * (curve[1:, 1] + curve[:-1, 1]) / 2))
    auc = assessed["one"].overall.estimates["roc_auc"]
    assert area == pytest.approx(auc.value)
    assert f"one: {auc.value:.3f} [{auc.low:.3f}, {auc.high:.3f}]" in texts(figure)
    assert "test split of toy" in texts(figure)


def test_low_end_of_the_roc_shows_the_tpr_that_the_table_states(toy_table: ScoreTable) -> None:
    assessed = assess(toy_table, 10)
    steps = np.asarray(roc_figure({"one": toy_table}, {"one": assessed}).axes[1].lines[0].get_xydata())
    at_one_percent = steps[steps[:, 0] <= 0.01][-1, 1]
    assert at_one_percent == assessed.overall.estimates["tpr_at_1_fpr"].value


def test_confusion_figure_states_counts_and_shares(make_table: Callable[..., ScoreTable]) -> None:
    figure = confusion_figure(make_table([0, 0, 0, 0, 1, 1], [0.1, 0.2, 0.3, 0.9, 0.9, 0.1]))
    for words in ("3\n75.0%", "1\n25.0%", "1\n50.0%", "called fake", "threshold 0.500", "test split of toy"):
        assert words in texts(figure)
    tints = [patch.get_facecolor() for patch in figure.axes[0].patches]
    assert tints[0][2] > tints[0][0]
    assert tints[3][0] > tints[3][2]


def test_score_figure_draws_shares_of_each_class_in_its_colour(toy_table: ScoreTable) -> None:
    figure = score_figure(toy_table)
    outlines = [p for p in figure.axes[0].patches if isinstance(p, StepPatch) and not p.get_fill()]
    assert [to_hex(patch.get_edgecolor()).upper() for patch in outlines] == [REAL, FAKE]
    assert [patch.get_data()[0].sum() for patch in outlines] == pytest.approx([1.0, 1.0])
    assert "real, 60 items" in texts(figure)
    assert "threshold 0.500" in texts(figure)


def test_method_figure_has_a_dot_for_each_method_and_words_where_there_is_none(
    toy_table: ScoreTable, make_table: Callable[..., ScoreTable]
) -> None:
    other = assess(make_table([1, 1], [0.4, 0.9], method=["swap", "morph"]), 10)
    figure = method_figure({"one": assess(toy_table, 20), "two": other})
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["overall", "morph", "swap", "voice"]
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [np.size(line.get_xdata()) for line in dots] == [3]
    assert texts(figure).count("not defined") == 3
    assert texts(figure).count("not measured") == 2


def test_hostile_names_are_drawn_as_they_are(make_table: Callable[..., ScoreTable], tmp_path: Path) -> None:
    info = {"detector": HOSTILE, "threshold": 0.5}
    table = make_table([0, 1, 0, 1], [0.1, 0.9, 0.4, 0.6], info=info, method=[None, HOSTILE] * 2, dataset=[HOSTILE] * 4)
    tables = {HOSTILE: table}
    assessed = {HOSTILE: assess(table, 10)}
    figures = [roc_figure(tables, assessed), method_figure(assessed), confusion_figure(table), score_figure(table)]
    for number, figure in enumerate(figures):
        save_png(figure, tmp_path / f"{number}.png")
        assert "<script>" not in to_svg(figure)
    assert plain("a\x07$b$", 4) == "a?\\$…"


@pytest.mark.parametrize("labels", [[0, 0], [1, 1]])
def test_one_class_can_still_be_drawn(make_table: Callable[..., ScoreTable], tmp_path: Path, labels: list[int]) -> None:
    table = make_table(labels, [0.2, 0.8])
    assessed = {"one": assess(table, 10)}
    figures = [
        roc_figure({"one": table}, assessed),
        method_figure(assessed),
        confusion_figure(table),
        score_figure(table),
    ]
    for number, figure in enumerate(figures):
        save_png(figure, tmp_path / f"{number}.png")
        with Image.open(tmp_path / f"{number}.png") as image:
            assert min(image.size) > 200
    assert "only one class" in texts(figures[0])


def test_the_same_table_gives_the_same_bytes_and_no_global_figure(toy_table: ScoreTable, tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_png(score_figure(toy_table), tmp_path / f"{name}.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    first = to_svg(score_figure(toy_table))
    assert first == to_svg(score_figure(toy_table))
    assert first.startswith("<svg")
    assert "<dc:date>" not in first
    assert _pylab_helpers.Gcf.get_all_fig_managers() == []


def test_figures_of_nothing_are_refused() -> None:
    with pytest.raises(UsageError, match="at least one score table"):
        roc_figure({})
    with pytest.raises(UsageError, match="at least one assessment"):
        method_figure({})
