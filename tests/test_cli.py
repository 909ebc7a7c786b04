import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

# The fixture `mmdf` of conftest.py: runs the command line, keeps what it printed.
Shell = Any


@pytest.fixture
def faces(tmp_path: Path, make_image) -> Path:
    """A tree real/, fake/ of pictures: fakes have a grid of dots, as some generators leave behind."""
    import numpy as np
    from PIL import Image

    for number in range(80):
        for label in ("real", "fake"):
            path = make_image(f"faces/{label}/{number}.png", size=(64, 64), seed=2 * number + (label == "fake"))
            if label == "fake":
                pixels = np.array(Image.open(path)).astype(int)
                pixels[::4, ::4] += 40
                Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
    return tmp_path / "faces"


def quickest_seconds(*command: str) -> float:
    """The fastest of five runs: what the command costs, whatever else the machine is doing."""
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "mmdf", *command], capture_output=True, check=False)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def test_help_is_quick_and_loads_no_torch() -> None:
    assert quickest_seconds("--help") < 0.5
    code = "import sys\nfrom mmdf.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "sys.stderr.write(str('torch' in sys.modules or 'numpy' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.endswith("False")


def test_version(mmdf: Shell) -> None:
    assert mmdf("--version") == 0
    assert mmdf.out == "mmdf 0.1.0\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("extract",),
        ("extract", "m.parquet", "-s", "store", "-b", "lfcc", "--batch-size", "0"),
        ("list", "hats"),
    ],
)
def test_usage_errors_are_2(mmdf: Shell, arguments: tuple) -> None:
    assert mmdf(*arguments) == 2
    assert mmdf.err


def test_the_whole_path(mmdf: Shell, faces: Path) -> None:
    assert mmdf("manifest", "build", "--layout", "folders", faces, "-o", "faces.parquet", "--json") == 0
    assert json.loads(mmdf.out)["splits"]["train"]["real"] > 20
    assert mmdf("manifest", "check", "faces.parquet") == 0
    assert mmdf("extract", "faces.parquet", "-s", "store", "-b", "spectrum,toy-picture", "--dry-run", "--json") == 0
    planned = json.loads(mmdf.out)
    assert planned["items"] == {"image": 160}
    assert planned["bytes"]["spectrum/frame"] == 160 * (128 * 2 + 8)
    assert not Path("store").exists()
    assert mmdf("extract", "faces.parquet", "-s", "store", "-b", "spectrum,toy-picture", "--workers", 0, "--json") == 0
    assert json.loads(mmdf.out)["computed"] == 320
    assert mmdf("extract", "faces.parquet", "-s", "store", "-b", "spectrum", "--dry-run", "--json") == 0
    assert json.loads(mmdf.out)["cached"] == {"spectrum/frame": 160}
    assert mmdf("cache", "info", "store", "--json") == 0
    assert {f["name"] for f in json.loads(mmdf.out)["features"]} == {"spectrum/frame", "toy-picture/frame"}
    assert mmdf("cache", "verify", "store", "--level", 2) == 0
    for head in ("probe", "early", "late"):
        assert mmdf("train", head, "-s", "store", "-m", "faces.parquet", "-o", f"d/{head}") == 0
        assert mmdf("predict", f"d/{head}", "-s", "store", "-m", "faces.parquet", "-o", f"scores/{head}.parquet") == 0
    assert mmdf("evaluate", "scores/probe.parquet", "--json", "--resamples", 200) == 0
    assert "0." in mmdf.out
    assert mmdf("report", "scores/probe.parquet", "scores/late.parquet", "-o", "report") == 0
    assert "probe" in Path("report/index.html").read_text()
    fake, real = (sorted((faces / label).glob("*.png"))[0] for label in ("fake", "real"))
    assert mmdf("detect", fake, real, "-d", "d/probe", "--json") == 0
    verdicts = json.loads(mmdf.out)["verdicts"]
    assert verdicts[0]["score"] > verdicts[1]["score"]
    assert mmdf("detect", fake, "-d", "d/probe") == 0
    assert mmdf.out.startswith(f"{fake}: ")
    assert mmdf.out.count("\n") == 1


def build(mmdf: Shell, root: Path) -> None:
    assert mmdf("manifest", "build", root, "-o", "m.parquet") == 0


def test_bad_files_are_exit_3_and_named(mmdf: Shell, faces: Path) -> None:
    (faces / "real" / "0.png").write_bytes(b"")
    (faces / "fake" / "1.png").write_text("text")
    build(mmdf, faces)
    assert mmdf("extract", "m.parquet", "-s", "store", "-b", "toy-picture", "--workers", 0) == 3
    assert "158 embeddings computed" in mmdf.out
    assert "real/0.png: the file is empty (0 bytes)" in mmdf.out
    assert "fake/1.png: this is not an image" in mmdf.out
    assert mmdf("cache", "info", "store") == 0
    assert "2 file(s) failed" in mmdf.out


def test_missing_weights_are_exit_5_within_a_second(mmdf: Shell, faces: Path, tmp_path: Path) -> None:
    build(mmdf, faces)
    command = ("extract", "m.parquet", "-s", "store", "-b", "clip-vit-b32", "--weights", str(tmp_path))
    assert mmdf(*command) == 5
    for part in ("openai/clip-vit-base-patch32", "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268", "hf download"):
        assert part in mmdf.err
    assert quickest_seconds(*command) < 1
    assert mmdf(*command, "--dry-run") == 0
    assert "Weights missing" in mmdf.out


def test_an_empty_folder(mmdf: Shell, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert mmdf("manifest", "build", tmp_path / "empty", "-o", "m.parquet") == 4
    assert mmdf.err.startswith("mmdf: ")
    assert "Traceback" not in mmdf.err


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("file_nam,label\na.png,real\n", "path"),
        ("path,label\na.png,perhaps\n", "perhaps"),
        ("path,label\n../secret.png,real\n", "outside"),
    ],
)
def test_tables_that_cannot_be_read(mmdf: Shell, make_image, tmp_path: Path, table: str, said: str) -> None:
    make_image("data/a.png")
    make_image("secret.png")
    (tmp_path / "data" / "meta.csv").write_text(table)
    assert mmdf("manifest", "build", "--layout", "table", tmp_path / "data", "-o", "m.parquet") == 4
    assert said in mmdf.err
    assert "Traceback" not in mmdf.err


def test_a_store_from_the_future(mmdf: Shell, faces: Path) -> None:
    build(mmdf, faces)
    Path("store").mkdir()
    Path("store/mmdf.json").write_text(json.dumps({"format": "mmdf-store", "version": 99}))
    assert mmdf("extract", "m.parquet", "-s", "store", "-b", "toy-picture") == 4
    assert "Upgrade mmdf" in mmdf.err
    assert mmdf("cache", "info", "store") == 4


def test_a_detector_whose_features_the_store_lacks(mmdf: Shell, faces: Path) -> None:
    build(mmdf, faces)
    for backbone in ("toy-picture", "spectrum"):
        assert mmdf("extract", "m.parquet", "-s", backbone, "-b", backbone, "--workers", 0) == 0
    assert mmdf("train", "probe", "-s", "toy-picture", "-m", "m.parquet", "-o", "d") == 0
    assert mmdf("predict", "d", "-s", "spectrum", "-m", "m.parquet", "-o", "s.parquet") == 4
    assert "toy-picture" in mmdf.err
    assert "mmdf extract" in mmdf.err


def test_names_are_suggested(mmdf: Shell, faces: Path) -> None:
    build(mmdf, faces)
    assert mmdf("extract", "m.parquet", "-s", "store", "-b", "efficientnet-lite") == 2
    assert "Did you mean 'efficientnet-lite0'" in mmdf.err
    assert mmdf("train", "prob", "-s", "store", "-m", "m.parquet", "-o", "d") == 2
    assert "Did you mean 'probe'" in mmdf.err
    assert mmdf("manifest", "build", "--layout", "folder", faces, "-o", "n.parquet") == 2
    assert "Did you mean 'folders'" in mmdf.err


def test_things_that_are_not_there(mmdf: Shell) -> None:
    assert mmdf("manifest", "check", "none.parquet") == 4
    assert mmdf("cache", "info", "none") == 4
    assert mmdf("evaluate", "none.parquet") == 4
    assert mmdf("detect", "none.png", "-d", "none") == 4
    assert "mmdf train" in mmdf.err or "detector" in mmdf.err


def test_detect_says_when_it_cannot(mmdf: Shell, faces: Path, tmp_path: Path) -> None:
    build(mmdf, faces)
    assert mmdf("extract", "m.parquet", "-s", "store", "-b", "toy-picture", "--workers", 0) == 0
    assert mmdf("train", "probe", "-s", "store", "-m", "m.parquet", "-o", "d") == 0
    (tmp_path / "bad.png").write_text("text")
    assert mmdf("detect", "bad.png", "-d", "d") == 3
    assert "CANNOT SAY (this is not an image" in mmdf.out
    (tmp_path / "notes.txt").write_text("text")
    assert mmdf("detect", "notes.txt", "-d", "d") == 4
    assert "does not end like a medium" in mmdf.err


def test_interrupting_is_130(mmdf: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(what: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mmdf.evaluate.catalogue.catalogue", interrupt)
    assert mmdf("list", "heads") == 130


def test_lists_and_doctor(mmdf: Shell) -> None:
    for what in ("backbones", "heads", "layouts"):
        assert mmdf("list", what, "--json") == 0
        assert json.loads(mmdf.out)[what]
    assert mmdf("doctor", "--json") == 0
    assert {f["state"] for f in json.loads(mmdf.out)["findings"]} <= {"PASS", "WARN"}


def test_weights_verbs(mmdf: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert mmdf("weights", "list", "--json") == 0
    states = {one["name"]: one["state"] for one in json.loads(mmdf.out)["weights"]}
    assert states["efficientnet-lite0"] == "here"
    assert states["clip-vit-b32"] == "missing"
    assert mmdf("weights", "verify", "efficientnet-lite0") == 0
    assert mmdf.out.startswith("verified")
    assert mmdf("weights", "fetch", "clip-vit-b32") == 5
    assert "on a machine with a network" in mmdf.err
    assert mmdf("weights", "export", "out") == 5
    assert mmdf("weights", "list", "clip") == 2
    assert "Did you mean 'clip-vit-" in mmdf.err
    checkpoints = tmp_path / "torch" / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "r3d_18-b3b3357e.pth").write_bytes(b"other")
    assert mmdf("weights", "verify", "r3d-18") == 4
    assert mmdf.out.startswith("differs")


def test_options_of_extract_that_make_no_sense(mmdf: Shell, faces: Path) -> None:
    build(mmdf, faces)
    extract = ("extract", "m.parquet", "-s", "store", "--workers", 0, "--limit", 2, "-b")
    for arguments, text in (
        (("toy-picture/speech",), "cannot look at 'speech'"),
        (("toy-picture,toy-picture/frame",), "named twice"),
        (("toy-picture", "--layers", "all"), "none of toy-picture has layers"),
        (("toy-picture", "--tokens", "cls"), "none of toy-picture has tokens"),
        (("spectrum", "--layers", "first"), "--layers takes last, prenorm, all"),
        (("efficientnet-lite0", "--tokens", "cls"), "no class token"),
        (("toy-picture/face", "--no-face", "drop"), "skip or frame"),
        (("toy-picture", "--plugin", "none.py"), "There is no plugin none.py"),
    ):
        assert mmdf(*extract, *arguments) == 2, arguments
        assert text in mmdf.err, arguments
        assert "Traceback" not in mmdf.err


def test_grids_and_faces_from_extract_to_detect(mmdf: Shell, faces: Path) -> None:
    build(mmdf, faces)
    extract = ("extract", "m.parquet", "-s", "store", "--workers", 0, "-b", "efficientnet-lite0,toy-picture/face")
    assert mmdf(*extract, "--tokens", "mean,grid4", "--no-face", "frame", "--profile", "profile.json", "--json") == 0
    summary = json.loads(mmdf.out)
    assert summary["computed"] == 3 * 160
    profile = json.loads(Path("profile.json").read_text())
    assert set(profile["backbones"]) == {
        "efficientnet-lite0/frame+mean-grid4", "toy-picture/face", "face-geometry/face"
    }  # fmt: skip
    assert mmdf("cache", "info", "store", "--json") == 0
    assert {f["name"]: f["dim"] for f in json.loads(mmdf.out)["features"]} == {
        "efficientnet-lite0/frame+mean-grid4": 17 * 1280, "toy-picture/face": 32, "face-geometry/face": 15,
    }  # fmt: skip
    assert mmdf("train", "probe", "-s", "store", "-m", "m.parquet", "-o", "d") == 0
    assert mmdf("detect", "faces/fake/0.png", "-d", "d", "--json") == 0
    verdict = json.loads(mmdf.out)["verdicts"][0]
    assert verdict["score"] is not None
    assert mmdf("predict", "d", "-s", "store", "-m", "m.parquet", "-o", "s.parquet", "--split", "train") == 0


@pytest.mark.slow
def test_the_installed_command_works_from_elsewhere(tmp_path: Path) -> None:
    command = Path(sys.executable).parent / "mmdf"
    done = subprocess.run([command, "list", "heads"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "probe" in done.stdout
