"""The whole benchmark on tiny models: which lines come, and that they are made of what was measured."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmdf.extract.bench import memory, run
from mmdf.extract.bench.workload import QUICK, BenchOptions


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


def test_lines_are_made_of_what_was_measured(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def in_turn(contestants: dict, repeats: int) -> dict[str, float]:
        seen.append(list(contestants))
        # Ours is run all the same, for what it tells of itself.
        contestants[next(iter(contestants))]()
        known = {"ours": 4.0, "bare": 3.0, "plain": 12.0, "together": 5.0}
        return {name: known.get(name, 4.0) for name in contestants}

    monkeypatch.setattr(run, "in_turn", in_turn)
    report = run.bench_extract(BenchOptions(("a", "b", "c"), quick=True, folder=folder, n_workers=0))
    assert seen == [
        ["ours", "bare", "plain"], ["ours", "bare"], ["ours", "bare", "plain"],
        ["together", *QUICK.pictures, "plain"],
    ]  # fmt: skip
    lines = {(line.part, line.what): line for line in report.lines}
    clip = lines["a", "clip-vit-b32"]
    assert (clip.ours, clip.reference, clip.ratio) == (QUICK.n_images / 4, QUICK.n_images / 3, 0.75)
    # Sounds of 4, 4.5 and 5 s are 1, 2 and 2 windows.
    assert lines["a", "wav2vec2-base"].reference == 5 / 3
    assert lines["b", "2 backbones, 2 films"].ratio == 5.0 / 8.0
    assert lines["c", "wavs, wav2vec2-base"].ratio == pytest.approx(3.0)
    assert lines["c", "overall"].ratio == pytest.approx(36.0 / 13.0)
    assert "the bare pass 3.00 s" in clip.note
    assert [line.part for line in report.lines] == ["a"] * 3 + ["b"] + ["c"] * 4


def test_memory_is_many_items_over_few(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "peak_of_extraction", lambda manifest, names, n, folder, **options: 100.0 + n)
    report = run.bench_extract(BenchOptions(("e",), quick=True, folder=folder))
    assert [(line.ours, line.reference) for line in report.lines] == [(108.0, 104.0)]


@pytest.mark.slow
def test_the_peak_is_that_of_the_child(folder: Path) -> None:
    from mmdf.extract.bench import media

    ballast = b"x" * 2**20
    assert memory.high_water_mb("self") > 50
    assert memory.high_water_mb(2**31) == 0.0
    peak_mb = memory.peak_of_extraction(media.images(folder, 12, 64), ["toy-picture"], 12, folder, n_workers=1)
    # Both processes are in it: the worker with its decoders takes a hundred megabytes itself.
    assert 200 < peak_mb < 4000
    assert ballast


@pytest.mark.parametrize("form", ["--json", "--markdown"])
def test_the_verb_prints_what_can_be_parsed(folder: Path, form: str) -> None:
    from mmdf.cli import app

    arguments = ["bench", "extract", "--quick", "--only", "a,b,d", "--workers", "0", "--out", str(folder), form]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    if form == "--json":
        document = json.loads(result.stdout)
        assert {line["part"] for line in document["lines"]} == {"a", "b", "d"}
        assert all(line["ratio"] == line["ours"] / line["reference"] > 0 for line in document["lines"])
    else:
        rows = [line for line in result.stdout.splitlines() if line.startswith("|")]
        assert len(rows) == 3 * 2 + 3 + 1 + 9
        assert {row.count("|") for row in rows} == {7}


def test_real_weights_are_taken_where_they_are(folder: Path, tmp_path: Path) -> None:
    from mmdf.extract.bench.checkpoints import save_checkpoints

    real = save_checkpoints(tmp_path / "real", ["clip-vit-b32"], tiny=True)
    said: list[str] = []
    bench = run.Bench(BenchOptions(quick=True, weights_dir=real, folder=folder), folder, said.append)
    assert bench._weights_dir("clip-vit-b32") == real
    assert bench._weights_dir("dinov2-s") == folder / "checkpoints-tiny"
    assert said == [f"dinov2-s: no weights in {real}; random ones instead"]
