import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mmdf.cache.errors import DataError, MediaError
from mmdf.cache.manifest import Item, Manifest
from mmdf.cache.store import FeatureStore
from mmdf.extract.backbones.base import Backbone
from mmdf.extract.backbones.load import load_backbones
from mmdf.extract.device import Compute
from mmdf.extract.media.sampling import DEFAULT_SAMPLING
from mmdf.extract.options import ExtractOptions
from mmdf.extract.stage import Extraction, Summary, slices

CPU = torch.device("cpu")
NAMES = ("toy-picture", "toy-sound", "logmel", "motion")


def manifest_of(root: Path, *paths: Path) -> Manifest:
    kinds = {".png": "image", ".wav": "audio", ".mp4": "video"}
    items = [
        Item(str(p.relative_to(root)), str(p.relative_to(root)), kinds[p.suffix], size_bytes=p.stat().st_size)
        for p in paths
    ]
    return Manifest.of(items, root)


def backbones(*names: str) -> list[Backbone]:
    return load_backbones(names or NAMES, Compute(CPU, torch.float32, "test"), DEFAULT_SAMPLING)


def run(manifest: Manifest, store: Path, *names: str, **config) -> Summary:
    opened = FeatureStore.open(store, create=True)
    settings = ExtractOptions(**({"n_workers": 0, "slice_items": 3} | config))
    return Extraction(manifest, opened, backbones(*names), CPU, settings, "run").run()


def contents(store: Path, manifest: Manifest) -> dict[str, tuple[bytes, list[int], list[float]]]:
    opened = FeatureStore.open(store)
    found = {spec.alias: opened.read(spec, manifest) for spec in opened.specs()}
    return {name: (r.values.tobytes(), r.offsets.tolist(), r.times_s.tolist()) for name, r in found.items()}


@pytest.fixture
def corpus(tmp_path: Path, make_image, make_sound, make_video) -> Manifest:
    paths = [make_image(f"m/{n}.png", seed=n) for n in range(3)]
    paths += [make_sound(f"m/{n}.wav", 0.3 + 0.1 * n, seed=n) for n in range(3)]
    paths += [make_video(f"m/{n}.mp4", 20 + 9 * n, seed=n) for n in range(3)]
    return manifest_of(tmp_path / "m", *paths)


def test_every_feature_of_every_file(corpus: Manifest, tmp_path: Path) -> None:
    summary = run(corpus, tmp_path / "store")
    assert summary.failures == {}
    opened = FeatureStore.open(tmp_path / "store")
    steps = {spec.alias: opened.read(spec, corpus).n_steps.tolist() for spec in opened.specs()}
    assert steps["toy-picture/frame"] == [1] * 3 + [0] * 3 + [16] * 3
    assert steps["toy-sound/speech"] == [0] * 3 + [1] * 6
    assert [s > 0 for s in steps["logmel/sound"]] == [False] * 3 + [True] * 6
    assert steps["motion/clip"] == [0] * 6 + [15, 15, 15]
    assert summary.n_computed == 6 + 6 + 6 + 3


def test_again_means_nothing_to_do(corpus: Manifest, tmp_path: Path) -> None:
    run(corpus, tmp_path / "store")
    before = sorted(p for p in (tmp_path / "store").rglob("*") if p.is_file())
    again = run(corpus, tmp_path / "store")
    assert (again.n_computed, again.n_present) == (0, 9)
    assert sorted(p for p in (tmp_path / "store").rglob("*") if p.is_file()) == before


def test_workers_batches_and_slices_leave_the_numbers_alone(corpus: Manifest, tmp_path: Path) -> None:
    run(corpus, tmp_path / "a")
    run(corpus, tmp_path / "b", n_workers=2, batch_rows=5, slice_items=9)
    first, second = (FeatureStore.open(tmp_path / name) for name in "ab")
    for spec in first.specs():
        a, b = first.read(spec, corpus), second.read(spec, corpus)
        assert np.array_equal(a.offsets, b.offsets)
        assert np.allclose(a.values.astype(np.float32), b.values.astype(np.float32), atol=2e-3)


def test_a_backbone_added_later_decodes_again_but_keeps_the_rest(corpus: Manifest, tmp_path: Path) -> None:
    run(corpus, tmp_path / "store", "toy-picture")
    before = contents(tmp_path / "store", corpus)["toy-picture/frame"]
    summary = run(corpus, tmp_path / "store", "toy-picture", "toy-sound")
    assert summary.n_computed == 6
    assert contents(tmp_path / "store", corpus)["toy-picture/frame"] == before


def test_equal_bytes_are_computed_once(tmp_path: Path, make_image) -> None:
    paths = [make_image(f"m/{n}.png", seed=0) for n in range(4)]
    manifest = manifest_of(tmp_path / "m", *paths)
    summary = run(manifest, tmp_path / "store", "toy-picture", slice_items=2)
    assert summary.n_computed == 1
    found = FeatureStore.open(tmp_path / "store")
    ragged = found.read(found.find("toy-picture"), manifest)
    assert ragged.n_steps.tolist() == [1] * 4
    assert (ragged.values == ragged.values[0]).all()


def test_a_corrupt_file_is_a_row_and_the_rest_goes_on(corpus: Manifest, tmp_path: Path) -> None:
    bad = tmp_path / "m" / "1.mp4"
    bad.write_bytes(bad.read_bytes()[:500])
    manifest = manifest_of(tmp_path / "m", *(tmp_path / "m" / p for p in corpus.column("path")))
    summary = run(manifest, tmp_path / "store")
    assert list(summary.failures) == ["1.mp4"]
    assert summary.n_computed == 6 + 6 + 6 + 3 - 4
    store = FeatureStore.open(tmp_path / "store")
    rows = store.ledger.failures().to_pylist()
    assert {row["path"] for row in rows} == {"1.mp4"}
    assert {row["stage"] for row in rows} == {"probe"}
    assert len(rows) == len(NAMES)
    assert "cannot" in rows[0]["message"] or "not a video" in rows[0]["message"]
    # Known content that failed is not decoded again, and still counts as failed.
    again = run(manifest, tmp_path / "store")
    assert list(again.failures) == ["1.mp4"]
    assert len(store.ledger.failures()) == len(NAMES)
    run(manifest, tmp_path / "store", retry_failed=True)
    assert len(store.ledger.failures()) == 2 * len(NAMES)


def test_a_mended_file_is_taken_up(tmp_path: Path, make_image) -> None:
    path = make_image("m/0.png", size=(300, 300))
    whole = path.read_bytes()
    path.write_bytes(whole[:-500])
    assert run(manifest_of(path.parent, path), tmp_path / "store", "toy-picture").failures
    path.write_bytes(whole)
    summary = run(manifest_of(path.parent, path), tmp_path / "store", "toy-picture")
    assert (summary.n_computed, summary.failures) == (1, {})


def test_a_missing_file_is_a_row(tmp_path: Path, make_image) -> None:
    manifest = manifest_of(tmp_path / "m", make_image("m/0.png"), make_image("m/1.png", seed=1))
    (tmp_path / "m" / "0.png").unlink()
    summary = run(manifest, tmp_path / "store", "toy-picture")
    assert summary.n_computed == 1
    assert "cannot be opened" in summary.failures["0.png"].message


def test_a_silent_film_has_no_sound_and_does_not_fail(tmp_path: Path, make_video) -> None:
    manifest = manifest_of(tmp_path / "m", make_video("m/0.mp4", sound=False))
    summary = run(manifest, tmp_path / "store")
    assert (summary.failures, summary.n_absent, summary.n_computed) == ({}, 2, 2)
    again = run(manifest, tmp_path / "store")
    assert (again.n_absent, again.n_present) == (0, 1)


def test_paths_outside_of_the_root_stop_the_run(tmp_path: Path, make_image) -> None:
    outside = make_image("secret.png")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "link.png").symlink_to(outside)
    manifest = Manifest.of([Item("a", "link.png", "image")], tmp_path / "m")
    with pytest.raises(DataError, match="outside of the root"):
        run(manifest, tmp_path / "store", "toy-picture")


def test_a_vector_that_is_not_finite_is_a_failure(tmp_path: Path, make_image, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = manifest_of(tmp_path / "m", make_image("m/0.png"))
    loaded = backbones("toy-picture")
    monkeypatch.setattr(loaded[0], "forward", lambda inputs: torch.full((len(inputs), 32), torch.nan))
    store = FeatureStore.open(tmp_path / "store", create=True)
    summary = Extraction(manifest, store, loaded, CPU, ExtractOptions(n_workers=0), "run").run()
    assert "NaN" in summary.failures["0.png"].message
    assert summary.failures["0.png"].error == MediaError.__name__


def test_slices_are_fixed_and_sorted(corpus: Manifest) -> None:
    shuffled = corpus.take(np.random.default_rng(0).permutation(len(corpus)))
    assert slices(corpus, 4) == slices(shuffled, 4)
    assert [len(s) for s in slices(corpus, 4)] == [4, 4, 1]


def test_progress_reaches_the_end(corpus: Manifest, tmp_path: Path) -> None:
    store = FeatureStore.open(tmp_path / "store", create=True)
    done: list[int] = []
    config = ExtractOptions(n_workers=0, slice_items=4)
    Extraction(corpus, store, backbones(), CPU, config, "run", lambda d, failed: done.append(d)).run()
    assert sum(done) == len(corpus)


def test_every_step_says_where_it_is_in_its_file(corpus: Manifest, tmp_path: Path) -> None:
    run(corpus, tmp_path / "store")
    store = FeatureStore.open(tmp_path / "store")
    video = corpus.take(np.array([corpus.column("item_id").index("2.mp4")]))
    frames = store.read(store.find("toy-picture"), video)
    # 38 frames: the middles of 16 equal stretches.
    assert frames.indices.tolist() == [(2 * k + 1) * 38 // 32 for k in range(16)]
    assert frames.times_s == pytest.approx(frames.indices / 25)
    sound = store.read(store.find("logmel"), video)
    assert sound.indices.tolist() == [160 * k for k in range(len(sound.indices))]


def test_equal_bytes_in_two_slices_are_computed_once_though_decoding_runs_ahead(tmp_path: Path, make_image) -> None:
    paths = [make_image(f"m/{n}.png", seed=n % 2) for n in range(12)]
    manifest = manifest_of(tmp_path / "m", *paths)
    summary = run(manifest, tmp_path / "store", "toy-picture", slice_items=2, n_workers=1)
    assert summary.n_computed == 2
    assert summary.n_present == 10


def test_equal_bytes_that_fail_fail_under_every_name(tmp_path: Path, make_image) -> None:
    paths = [make_image(f"m/{n}.png", seed=0) for n in range(5)]
    for path in paths:
        path.write_bytes(path.read_bytes()[:60])
    summary = run(manifest_of(tmp_path / "m", *paths), tmp_path / "store", "toy-picture", slice_items=1)
    assert len(summary.failures) == 5
    assert len(FeatureStore.open(tmp_path / "store").ledger.failures()) == 1


def test_the_profile_names_stages_and_backbones(corpus: Manifest, tmp_path: Path) -> None:
    summary = run(corpus, tmp_path / "store", "toy-picture", "toy-sound")
    profile = summary.profile()
    assert profile["backbones"]["toy-picture/frame"]["rows"] == 3 + 3 * 16
    assert profile["bottleneck"] in profile["seconds"]
    assert 0 < profile["forward_share"] <= 1
    assert sum(s for name, s in profile["seconds"].items() if name != "total") <= profile["seconds"]["total"] + 0.01
    assert f"Bottleneck: {profile['bottleneck']}" in summary.to_text()


@pytest.mark.slow
def test_killed_and_run_again_equals_undisturbed(tmp_path: Path, make_video, make_image) -> None:
    paths = [make_video(f"m/{n}.mp4", 20 + n, seed=n) for n in range(12)]
    paths += [make_image(f"m/{n}.png", seed=n) for n in range(12)]
    manifest = manifest_of(tmp_path / "m", *paths)
    manifest.write(tmp_path / "m.parquet")
    run(manifest, tmp_path / "whole")
    kills = 0
    for n_parts in (1, 3, 6):
        kills += _run_until(tmp_path, lambda wanted=n_parts: _n_fragments(tmp_path / "killed") >= wanted)
    assert kills >= 2
    assert run(manifest, tmp_path / "killed").failures == {}
    assert contents(tmp_path / "killed", manifest) == contents(tmp_path / "whole", manifest)


def _n_fragments(store: Path) -> int:
    return len(list(store.glob("index/*/frag-*.parquet")))


def _run_until(folder: Path, is_time: Callable[[], bool]) -> int:
    """Run the extraction in a process of its own and kill it, children too, when it is time. 1 if it was killed."""
    code = (
        "import sys, torch\nfrom pathlib import Path\nfrom mmdf.cache.manifest import Manifest\n"
        "from mmdf.extract.options import ExtractOptions\nfrom mmdf.extract.run import run_extract\n"
        "if __name__ == '__main__':\n"
        "    options = ExtractOptions(device='cpu', dtype='float32', n_workers=1, slice_items=3)\n"
        f"    run_extract(Manifest.read(Path('m.parquet')), Path('killed'), {list(NAMES)!r}, options)\n"
    )
    (folder / "main.py").write_text(code)
    process = subprocess.Popen([sys.executable, "main.py"], cwd=folder, start_new_session=True)
    deadline = time.monotonic() + 60
    while process.poll() is None and not is_time() and time.monotonic() < deadline:
        time.sleep(0.002)
    if process.poll() is not None:
        return 0
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return 1
