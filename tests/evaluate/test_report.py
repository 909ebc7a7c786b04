"""The report: whole or not at all, escaped, self-contained, and the same each time."""

import json
import os
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mmdf.cache.errors import DataError, UsageError
from mmdf.cache.scores import ScoreTable
from mmdf.evaluate.report import WrongItem, named_by_file, write_report, wrong_items

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Outline(HTMLParser):
    """Collects tags, ids and addresses, and whether every element is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.tags.append(tag)
        self.ids += [value for name, value in attributes if name == "id"]
        self.addresses += [value for name, value in attributes if name in ("href", "src", "xlink:href")]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


def outline(path: Path) -> Outline:
    parsed = Outline()
    parsed.feed(path.read_text(encoding="utf-8"))
    assert parsed._open == []
    return parsed


def visible_text(path: Path) -> str:
    page = re.sub(r"<(svg|style).*?</\1>", " ", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def two_detectors(table: ScoreTable) -> dict[str, ScoreTable]:
    return {"early": table, "late": ScoreTable(table.table.slice(1), table.info)}


@pytest.fixture(scope="module")
def built(toy_table: ScoreTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report on two detectors of which one left an item out."""
    folder = tmp_path_factory.mktemp("report") / "out"
    page = write_report(folder, two_detectors(toy_table), "Toy", ["The corpus is synthetic."], {"extract": 1.5})
    assert page == folder / "index.html"
    return folder


def test_the_page_says_everything_it_must(built: Path) -> None:
    text = visible_text(built / "index.html")
    document = json.loads((built / "report.json").read_text())
    auc = document["detectors"]["early"]["overall"]["estimates"]["roc_auc"]
    for words in (
        "The corpus is synthetic.",
        "early and late were not scored on the same items (1 differ)",
        f"{auc['value']:.3f} [{auc['low']:.3f}, {auc['high']:.3f}]",
        "equal error rate on validation",
        "95 % intervals, bootstrapped by identity",
        "Most confidently wrong",
        "voice",
        "test split of toy",
        "100.0 %",
        "extract 1.50",
    ):
        assert words in text
    assert outline(built / "index.html").tags.count("svg") == 6


def test_the_json_has_a_version_and_every_assessment(built: Path) -> None:
    document = json.loads((built / "report.json").read_text())
    assert (document["format"], document["version"], document["timings_s"]) == ("mmdf-report", 1, {"extract": 1.5})
    assert [row["name"] for row in document["detectors"]["late"]["methods"]] == ["swap", "voice"]
    worst = document["most_confidently_wrong"]["early"]
    assert 0 < len(worst) <= 10


def test_the_page_loads_nothing_and_has_no_element_named_twice(built: Path) -> None:
    parsed = outline(built / "index.html")
    assert not {"script", "link", "iframe", "object"} & set(parsed.tags)
    assert len(parsed.ids) == len(set(parsed.ids))
    inner = {address[1:] for address in parsed.addresses if address.startswith("#")}
    assert inner <= set(parsed.ids)
    files = {address for address in parsed.addresses if not address.startswith("#")}
    assert all((built / address).is_file() for address in files)
    assert len(files) == 6


def test_whatever_comes_from_data_is_escaped(make_table: Callable[..., ScoreTable], tmp_path: Path) -> None:
    evil = '"><script>alert(1)</script>'
    table = make_table(
        [0, 1, 0, 1, 1],
        [0.9, 0.1, 0.2, 0.8, None],
        item_id=[f"{evil}{number}" for number in range(5)],
        method=[None, evil, None, evil, evil],
        dataset=[evil] * 5,
        reason=[None] * 4 + [evil],
        info={"detector": evil, "threshold": 0.5, "threshold_from": evil, "trained_on": [evil]},
    )
    page = write_report(tmp_path, {evil: table}, evil, [evil], {evil: 1.0})
    assert "script" not in outline(page).tags
    assert "<script" not in page.read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;0" in page.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures", "index.html", "report.json"]


def test_the_most_confidently_wrong_come_first_and_are_ten_at_most(make_table: Callable[..., ScoreTable]) -> None:
    table = make_table([0, 1, 0, 1, 1], [0.6, 0.1, 0.95, 0.9, 0.1], method=[None, "swap", None, "swap", None])
    assert wrong_items(table) == [
        WrongItem("item0002", 0, None, 0.95),
        WrongItem("item0001", 1, "swap", 0.1),
        WrongItem("item0004", 1, "unnamed", 0.1),
        WrongItem("item0000", 0, None, 0.6),
    ]
    assert len(wrong_items(make_table([1] * 30, [0.1] * 30))) == 10


def test_one_class_without_mistakes_makes_a_page_too(make_table: Callable[..., ScoreTable], tmp_path: Path) -> None:
    text = visible_text(write_report(tmp_path, {"early": make_table([1, 1], [0.8, 0.9])}, "Only fakes"))
    assert "No item was decided wrongly." in text
    assert "Only fake items: ROC-AUC needs both classes." in text
    assert "nan" not in text.lower().split()


def test_the_same_tables_give_the_same_bytes(built: Path, toy_table: ScoreTable, tmp_path: Path) -> None:
    write_report(tmp_path, two_detectors(toy_table), "Toy", ["The corpus is synthetic."], {"extract": 1.5})
    files = [path for path in built.rglob("*") if path.is_file()]
    assert len(files) == 8
    for path in files:
        assert path.read_bytes() == (tmp_path / path.relative_to(built)).read_bytes()


def test_a_failure_leaves_the_page_that_was_there(
    make_table: Callable[..., ScoreTable], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "index.html").write_text("before")
    with pytest.raises(DataError):
        write_report(tmp_path, {"early": make_table([None], [0.1])}, "Second")
    replace = os.replace

    def full_disk(source: Path, target: Path) -> None:
        if target.name == "index.html":
            raise OSError("No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_report(tmp_path, {"early": make_table([0, 1], [0.1, 0.9])}, "Third")
    assert (tmp_path / "index.html").read_text() == "before"


def test_nothing_to_report_and_a_file_in_the_way_are_refused(toy_table: ScoreTable, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least one score table"):
        write_report(tmp_path, {}, "Toy")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="is a file"):
        write_report(tmp_path / "file", {"early": toy_table}, "Toy")
    assert (tmp_path / "file").read_text() == "mine"


def test_score_tables_are_named_by_as_much_of_their_path_as_tells_them_apart(tmp_path: Path) -> None:
    def names(*files: str) -> list[str]:
        return list(named_by_file([tmp_path / file for file in files]))

    assert names("a/late.parquet") == ["late"]
    assert names("a/probe.parquet", "b/late.v2.parquet") == ["probe", "late.v2"]
    assert names("a/late.parquet", "b/late.parquet", "b/probe.parquet") == ["a/late", "b/late", "b/probe"]
    assert names("a/x/late.parquet", "b/x/late.parquet") == ["a/x/late", "b/x/late"]
    assert names("late.parquet", "late.old") == ["late.parquet", "late.old"]
    assert named_by_file([tmp_path / "late.parquet"]) == {"late": tmp_path / "late.parquet"}
    for again in ("late.parquet", "a/../late.parquet"):
        with pytest.raises(UsageError, match="named twice"):
            names("late.parquet", again)


def test_wrong_items_need_a_threshold(make_table: Callable[..., ScoreTable]) -> None:
    with pytest.raises(DataError, match="names no threshold"):
        wrong_items(make_table([0, 1], [0.1, 0.9], info={"detector": "early"}))
