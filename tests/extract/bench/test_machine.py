"""The share of others, from numbers of the tests' own."""

from pathlib import Path

import pytest

from mmdf.extract.bench import machine


def test_what_is_told_names_no_machine() -> None:
    import platform

    found = machine.machine("cpu", "bfloat16")
    assert found.cores == machine.cores() >= 1
    assert found.memory_gb > 0.5
    assert "bfloat16 on cpu" in str(found)
    assert platform.node() not in str(found)


def test_others_are_all_that_was_busy_but_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = tmp_path / "stat"
    monkeypatch.setattr(machine, "_STAT", stat)
    monkeypatch.setattr("os.sysconf", lambda name: 100)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    own, now = iter([1.0, 4.0]), iter([0.0, 10.0])
    monkeypatch.setattr(machine, "own_s", lambda: next(own))
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    stat.write_text("cpu 1000 0 0 5000 700 0 0 0 0 0\n")
    meter = machine.Meter()
    # 8 s more in user, system and steal, 3 of them ours: 5 of 2 cores times 10 s.
    stat.write_text("cpu 1400 0 300 9000 900 0 0 100 0 0\n")
    assert meter.others_share() == pytest.approx(0.25)


def test_where_the_system_does_not_say_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_STAT", Path("/no/such/file"))
    assert machine.Meter().others_share() is None
