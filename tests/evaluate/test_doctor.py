from pathlib import Path
from types import SimpleNamespace

import pytest

from mmdf.cache.errors import WeightsError
from mmdf.evaluate import doctor
from mmdf.evaluate.doctor import Finding, examine
from mmdf.extract.media import cropping


def said(findings: list[Finding], text: str) -> Finding:
    return next(finding for finding in findings if text in finding.what)


@pytest.fixture(scope="module")
def findings() -> list[Finding]:
    return examine()


def test_every_decoder_is_tried(findings: list[Finding]) -> None:
    for name in ("image.png", "image.jpg", "image.webp", "sound.wav", "h264-aac.mp4", "vp9-opus.webm"):
        assert said(findings, f"decoding {name}").state == "PASS"


def test_what_is_not_well_has_a_remedy(findings: list[Finding]) -> None:
    assert all(finding.remedy for finding in findings if finding.state != "PASS")
    assert said(findings, "face detector").state == "PASS"
    assert said(findings, "efficientnet-lite0 are here").state == "PASS"


def test_a_decoder_that_fails_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(path: Path) -> None:
        path.write_text("no picture")

    monkeypatch.setattr(doctor, "_CASES", (("image.png", "image", ("frame",), write),))
    finding = said(examine(), "decoding image.png")
    assert finding.state == "FAIL"
    assert "not an image" in finding.what


def test_a_codec_that_is_not_there_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_CASES", (("film.mp4", "video", ("frame",), doctor._write_film("nothing", "aac")),))
    finding = said(examine(), "decoding film.mp4")
    assert finding.state == "WARN"
    assert "no sample could be made" in finding.what


def test_faces_that_do_not_load_are_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(picture: object) -> None:
        raise WeightsError("pip install mtcnn==1.0.0")

    monkeypatch.setattr(cropping, "find_faces", nothing)
    finding = said(examine(), "face detector")
    assert (finding.state, finding.remedy) == ("FAIL", "pip install mtcnn==1.0.0")


@pytest.mark.parametrize(("free_gb", "state"), [(0.5, "FAIL"), (10, "WARN"), (100, "PASS")])
def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free_gb: float, state: str) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=free_gb * 1e9))
    assert said(examine(tmp_path), "free where stores").state == state


def test_a_package_that_is_missing_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PACKAGES", ("no-such-package",))
    assert said(examine(), "no-such-package is not installed").remedy == "pip install no-such-package"
