import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def folders_with_code() -> set[str]:
    skipped = {"tests", "docs", "build", "demo"}
    found = {p.parent.relative_to(ROOT) for p in ROOT.rglob("__init__.py")}
    kept = {p for p in found if not (set(p.parts) & skipped) and not any(part.startswith(".") for part in p.parts)}
    return {".".join(("mmdf", *p.parts)) for p in kept}


def test_every_sub_package_is_listed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert set(listed) == folders_with_code()


@pytest.mark.slow
def test_every_sub_package_is_in_the_wheel(tmp_path: Path) -> None:
    # From a copy, so that no build folder is left in the checkout.
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (tmp_path / "src" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "src" / name).write_bytes((ROOT / name).read_bytes())
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        str(tmp_path),
        ".",
    ]
    subprocess.run(command, cwd=tmp_path / "src", check=True)
    files = zipfile.ZipFile(next(tmp_path.glob("mmdf-*.whl"))).namelist()
    for package in folders_with_code():
        assert f"{package.replace('.', '/')}/__init__.py" in files
    assert "mmdf/cli.py" in files
    assert "mmdf/py.typed" in files
    assert "mmdf/evaluate/report.html" in files
    assert not [name for name in files if name.startswith(("mmdf/tests", "tests"))]


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("module", ["mmdf", "mmdf.cli", "mmdf.cache.store", "mmdf.extract.weights", "mmdf.fuse.heads"])
def test_light_modules_load_no_torch(module: str) -> None:
    heavy = "('torch', 'transformers', 'timm', 'decord', 'lightgbm', 'sklearn')"
    assert run_python(f"import sys, {module}; print([n for n in {heavy} if n in sys.modules])") == "[]"


def test_importing_mmdf_loads_nothing_else() -> None:
    assert run_python("import sys, mmdf; print([n for n in sys.modules if n.startswith('mmdf.')])") == "[]"
