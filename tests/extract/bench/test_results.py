"""Ratios, targets, and the three ways to print them."""

import json
from dataclasses import replace

import pytest

from mmdf.extract.bench.results import BenchReport, Line, Machine, Target
from mmdf.extract.bench.workload import BenchOptions

MACHINE = Machine(2, 2, 16.0, "AVX2", "cpu", "float32")
LINES = (
    Line("a", "clip-vit-b32", "rows/s", 19.0, 20.0, Target(0.95), "forward 9 s"),
    Line("a", "convnext-tiny", "rows/s", 5.0, 10.0),
    Line("b", "five", "s", 8.0, 10.0, Target(0.7, at_least=False)),
)
REPORT = BenchReport(MACHINE, ("Three images.",), LINES, 12.34)


def test_a_ratio_is_ours_over_the_reference_and_met_unrounded() -> None:
    assert [line.ratio for line in LINES] == [0.95, 0.5, 0.8]
    assert [line.met for line in LINES] == [True, None, False]
    # 0.9499 prints as 0.950 and is still too little.
    assert Line("a", "x", "s", 0.9499, 1.0, Target(0.95)).met is False
    assert Line("e", "x", "MB", 1.0, 1.0, Target(1.0, at_least=False)).met is True
    assert REPORT.missed == (LINES[2],)


def test_json_holds_what_the_lines_hold() -> None:
    document = json.loads(json.dumps(REPORT.to_dict()))
    assert document["machine"]["instructions"] == "AVX2"
    assert [line["ratio"] for line in document["lines"]] == [0.95, 0.5, 0.8]
    assert document["lines"][2]["target"] == {"value": 0.7, "at_least": False}
    assert [line["met"] for line in document["lines"]] == [True, None, False]


def test_markdown_is_a_table_a_part() -> None:
    lines = REPORT.to_markdown().splitlines()
    rows = [line.strip("|").split("|") for line in lines if line.startswith("|")]
    assert {len(row) for row in rows} == {6}
    assert [row[0].strip() for row in rows] == ["what", "---", "clip-vit-b32", "convnext-tiny", "what", "---", "five"]
    assert [cell.strip() for cell in rows[6][1:]] == ["8 s", "10 s", "0.800", "<= 0.70", "not met"]


def test_text_counts_the_targets_and_keeps_the_notes() -> None:
    text = REPORT.to_text()
    assert "1 of 2 targets met." in text
    assert "- clip-vit-b32: forward 9 s" in text
    assert "(c)" not in text
    assert text.startswith("2 cores with AVX2, 16 GB, 2 threads, float32 on cpu; 12 s in all.")


def test_a_busy_machine_is_told() -> None:
    assert "Other work" not in replace(REPORT, others_share=0.04).to_text()
    busy = replace(REPORT, others_share=0.31)
    assert "Other work took 31 % of the machine" in busy.to_text()
    assert "Other work took 31 % of the machine" in busy.to_markdown()
    assert busy.to_dict()["others_share"] == 0.31


def test_an_unknown_part_is_refused() -> None:
    from mmdf.cache.errors import UsageError

    with pytest.raises(UsageError, match="no part 'z'"):
        BenchOptions(parts=("a", "z"))
