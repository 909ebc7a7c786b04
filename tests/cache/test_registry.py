"""The registry: lazy import, and errors that name the nearest name."""

import sys
from pathlib import Path

import pytest

from mmdf.cache.errors import UsageError
from mmdf.cache.registry import Registry, did_you_mean


def registry() -> Registry:
    return Registry("head", {"probe": "this.module.does_not_exist:Probe", "late": "colorsys:rgb_to_hsv"})


def test_the_module_of_a_target_is_imported_when_it_is_asked_for_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mmdf_lazy_probe.py").write_text("THING = object()\n")
    monkeypatch.syspath_prepend(tmp_path)
    lazy: Registry = Registry("head", {"thing": "mmdf_lazy_probe:THING"})
    lazy.check("thing")
    assert list(lazy) == ["thing"]
    assert "mmdf_lazy_probe" not in sys.modules
    found = lazy.get("thing")
    assert found is sys.modules.pop("mmdf_lazy_probe").THING


def test_a_name_that_is_nearly_right_gets_a_suggestion_and_the_whole_list() -> None:
    with pytest.raises(UsageError, match=r"Unknown head 'prob'\. Did you mean 'probe'\? Available: late, probe\."):
        registry().get("prob")


def test_a_name_that_resembles_nothing_gets_the_list_only() -> None:
    with pytest.raises(UsageError, match=r"^Unknown head 'xyzzy'\. Available: late, probe\.$"):
        registry().check("xyzzy")


def test_checking_a_known_name_imports_nothing() -> None:
    registry().check("probe")
    with pytest.raises(ModuleNotFoundError):
        registry().get("probe")


def test_membership_follows_the_names() -> None:
    assert "probe" in registry()
    assert "prob" not in registry()


def test_targets_are_copied() -> None:
    targets = {"late": "colorsys:rgb_to_hsv"}
    copied: Registry = Registry("head", targets)
    targets.clear()
    assert list(copied) == ["late"]


@pytest.mark.parametrize(("name", "sentence"), [("fram", " Did you mean 'frame'?"), ("zzz", ""), ("", "")])
def test_did_you_mean(name: str, sentence: str) -> None:
    assert did_you_mean(name, iter(["frame", "face"])) == sentence
