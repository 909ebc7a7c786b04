"""The verbs of `mmdf cache` from the shell: one store through cleaning, joining and other formats, and back."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mmdf.cache.manifest import Manifest
from mmdf.cache.store import FeatureStore
from mmdf.cache.transfer_npy import open_npy

# The fixture `mmdf` of conftest.py: runs the command line, keeps what it printed.
Shell = Any


@pytest.fixture
def stored(mmdf: Shell, make_image, tmp_path: Path) -> Path:
    """A store with two features of 24 pictures, in three parts each."""
    for number in range(24):
        make_image(f"media/{'fake' if number % 2 else 'real'}/{number}.png", seed=number)
    assert mmdf("manifest", "build", "--layout", "folders", "media", "-o", "m.parquet") == 0
    for limit in (8, 16, 24):
        extract = ("extract", "m.parquet", "-s", "store", "-b", "toy-picture,spectrum", "--workers", 0)
        assert mmdf(*extract, "--limit", limit) == 0
    return tmp_path / "store"


def values(store: Path) -> dict[str, bytes]:
    opened, manifest = FeatureStore.open(store), Manifest.read(Path("m.parquet"))
    return {spec.alias: opened.read(spec, manifest).values.tobytes() for spec in opened.specs()}


def test_ls_tells_what_is_missing(mmdf: Shell, stored: Path, make_image) -> None:
    assert mmdf("cache", "ls", "store", "-m", "m.parquet") == 0
    make_image("media/real/new.png", seed=99)
    assert mmdf("manifest", "build", "--layout", "folders", "media", "-o", "more.parquet") == 0
    assert mmdf("cache", "ls", "store", "-m", "more.parquet", "--json") == 3
    features = json.loads(mmdf.out)["features"]
    assert {f["name"] for f in features} == {"toy-picture/frame", "spectrum/frame"}
    assert mmdf("cache", "ls", "store") == 0


def test_compact_and_gc_leave_the_numbers_alone(mmdf: Shell, stored: Path) -> None:
    before = values(stored)
    assert mmdf("cache", "compact", "store", "--json") == 0
    assert {f["n_parts_after"] for f in json.loads(mmdf.out)["features"]} == {1}
    assert values(stored) == before
    parts = list(stored.glob("features/*/parts/*"))
    assert mmdf("cache", "gc", "store", "--older-than-s", 0, "--dry-run") == 0
    assert list(stored.glob("features/*/parts/*")) == parts
    assert mmdf("cache", "gc", "store", "--older-than-s", 0) == 0
    assert len(list(stored.glob("features/*/parts/*"))) == 2
    assert values(stored) == before
    assert mmdf("cache", "verify", "store", "--level", 2) == 0


def test_a_reader_that_opened_before_a_compaction_reads_on(mmdf: Shell, stored: Path) -> None:
    opened, manifest = FeatureStore.open(stored), Manifest.read(Path("m.parquet"))
    spec = opened.find("spectrum")
    before = opened.read(spec, manifest).values
    assert mmdf("cache", "compact", "store") == 0
    assert mmdf("cache", "gc", "store", "--older-than-s", 0) == 0
    # Its index names parts that are gone by now.
    assert np.array_equal(opened.read(spec, manifest).values, before)


def test_merge_of_two_machines(mmdf: Shell, stored: Path) -> None:
    extract = ("extract", "m.parquet", "-s", "other", "--workers", 0, "--limit", 12, "-b")
    assert mmdf(*extract, "toy-picture,residual") == 0
    assert mmdf("cache", "merge", "other", "store") == 0
    both = values(Path("other"))
    assert {alias: both[alias] for alias in ("toy-picture/frame", "spectrum/frame")} == values(stored)
    assert mmdf("cache", "verify", "other", "--level", 2) == 0
    assert mmdf("cache", "merge", "other", "nowhere") == 4
    assert not Path("nowhere").exists()


def test_hdf5_there_and_back(mmdf: Shell, stored: Path) -> None:
    assert mmdf("cache", "export", "store", "-m", "m.parquet", "--h5", "all.h5") == 0
    with h5py.File("all.h5") as file:
        assert len(file) == 2
    assert mmdf("cache", "import", "copy", "all.h5") == 0
    assert values(Path("copy")) == values(stored)


def test_npy_for_training(mmdf: Shell, stored: Path) -> None:
    export = ("cache", "export", "store", "-m", "m.parquet", "-f", "spectrum")
    assert mmdf(*export, "--npy", "arrays") == 0
    assert open_npy(Path("arrays")).values.tobytes() == values(stored)["spectrum/frame"]


def test_items_of_another_tool(mmdf: Shell, stored: Path) -> None:
    assert mmdf("cache", "export", "store", "-m", "m.parquet", "-f", "spectrum", "--items", "items") == 0
    assert len(list(Path("items").rglob("*.h5"))) == 24
    assert mmdf("cache", "import", "foreign", "items", "-m", "m.parquet", "-f", "uni/frame") == 0
    assert values(Path("foreign"))["uni/frame"] == values(stored)["spectrum/frame"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("export", "store", "-m", "m.parquet"), "Give one of --h5"),
        (("export", "store", "-m", "m.parquet", "--npy", "a"), "name it with -f"),
        (("export", "store", "-m", "m.parquet", "--h5", "a.h5", "-f", "spectra"), "Did you mean"),
        (("import", "store", "media"), "say whose items they are"),
        (("compact", "store", "-f", "nothing"), "has no feature 'nothing'"),
    ],
)
def test_usage_errors_are_sentences(mmdf: Shell, stored: Path, arguments: tuple, text: str) -> None:
    assert mmdf("cache", *arguments) == 2
    assert text in mmdf.err
    assert "Traceback" not in mmdf.err
