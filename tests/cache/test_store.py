"""FeatureStore: opening, finding and reading, and what is refused.

Damage is in test_index.py, commits and crashes are in test_writer.py.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmdf.cache.errors import CacheError, UsageError
from mmdf.cache.ledger import Seen
from mmdf.cache.manifest import Item, Manifest
from mmdf.cache.spec import FeatureSpec
from mmdf.cache.store import FeatureStore

DIM = 3
SPEC = FeatureSpec(
    backbone="toy",
    view="frame",
    stream="picture",
    dim=DIM,
    hop_s=0.5,
    weights_digest="none",
    layers="last",
    pooling="mean",
    padding="none",
    compute_dtype="float32",
    storage_dtype="float16",
)


def key(name: str) -> bytes:
    return name.encode().ljust(16, b"\0")


def vectors(name: str, n_steps: int = 2) -> np.ndarray:
    return np.full((n_steps, DIM), sum(name.encode()), np.float32) + np.arange(n_steps)[:, None]


def times(n_steps: int = 2) -> np.ndarray:
    return np.arange(n_steps) * 0.5 + 0.25


def manifest(*names: str) -> Manifest:
    return Manifest.of([Item(name, f"{name}.png", "image", size_bytes=10) for name in names], Path("/data"))


def commit(store: FeatureStore, *names: str, spec: FeatureSpec = SPEC) -> str | None:
    writer = store.writer(spec, "run")
    for name in names:
        writer.add(key(name), vectors(name), times())
    store.ledger.add_samples([Seen(name, 10, 1, key(name)) for name in names])
    return writer.commit()


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore.open(tmp_path / "store", create=True)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two parts (a, b) and (c, d)."""
    found = FeatureStore.open(tmp_path_factory.mktemp("template") / "store", create=True)
    commit(found, "a", "b")
    commit(found, "c", "d")
    return found.root


@pytest.fixture
def full(template: Path, tmp_path: Path) -> FeatureStore:
    """A copy of `template`, opened anew."""
    return FeatureStore.open(shutil.copytree(template, tmp_path / "full"))


# Opening


def test_a_new_store_says_what_it_is(store: FeatureStore) -> None:
    assert json.loads((store.root / "mmdf.json").read_text()) == {"format": "mmdf-store", "version": 2}
    assert store.specs() == []


def test_opening_again_keeps_what_is_there(full: FeatureStore) -> None:
    again = FeatureStore.open(full.root, create=True)
    assert again.missing(manifest("a", "b", "c", "d"), SPEC) == []


def test_nothing_there_is_refused_with_the_command_that_makes_a_store(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="Make one: mmdf extract"):
        FeatureStore.open(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_other_things_is_neither_opened_nor_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    for create in (False, True):
        with pytest.raises(CacheError):
            FeatureStore.open(tmp_path, create=create)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(CacheError, match="not a feature store"):
        FeatureStore.open(tmp_path / "file", create=True)


@pytest.mark.parametrize("version", [3, 10])
def test_a_store_of_a_newer_version_is_refused_with_a_sentence(store: FeatureStore, version: int) -> None:
    (store.root / "mmdf.json").write_text(json.dumps({"format": "mmdf-store", "version": version}))
    with pytest.raises(CacheError, match=r"reads mmdf-store 2\. Upgrade mmdf \(pip install -U mmdf\)"):
        FeatureStore.open(store.root)


def test_a_store_of_an_older_version_is_refused_with_a_sentence(store: FeatureStore) -> None:
    (store.root / "mmdf.json").write_text(json.dumps({"format": "mmdf-store", "version": 1}))
    with pytest.raises(CacheError, match="from a test version of mmdf; or extract into another folder"):
        FeatureStore.open(store.root)


@pytest.mark.parametrize("head", ["", "[]", "{}", '{"format": "mmdf-store", "version": "one"}', '{"format": "other"}'])
def test_a_head_that_is_not_ours_is_refused(store: FeatureStore, head: str) -> None:
    (store.root / "mmdf.json").write_text(head)
    with pytest.raises(CacheError, match=r"Is .* a feature store"):
        FeatureStore.open(store.root)


def test_another_format_is_refused(store: FeatureStore) -> None:
    (store.root / "mmdf.json").write_text('{"format": "other", "version": 1}')
    with pytest.raises(CacheError, match="is in the format other 1"):
        FeatureStore.open(store.root)


def test_a_store_whose_making_was_interrupted_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Kill(BaseException):
        pass

    def kill(*args: object, **kwargs: object) -> None:
        raise Kill

    root = tmp_path / "store"
    for target in ("os.replace", "pathlib.Path.mkdir"):
        with monkeypatch.context() as patch:
            patch.setattr(target, kill)
            with pytest.raises(Kill):
                FeatureStore.open(root, create=True)
    assert commit(FeatureStore.open(root, create=True), "a")


def test_a_store_without_its_empty_folders_works(store: FeatureStore) -> None:
    for folder in store.root.iterdir():
        if folder.is_dir():
            shutil.rmtree(folder)
    store = FeatureStore.open(store.root)
    assert store.missing(manifest("a"), SPEC) == ["a"]
    commit(store, "a")
    np.testing.assert_array_equal(FeatureStore.open(store.root).read(SPEC, manifest("a")).values, vectors("a"))


# Specs


def test_a_feature_is_found_by_alias_backbone_and_start_of_the_fingerprint(full: FeatureStore) -> None:
    for name in ("toy/frame", "toy", SPEC.fingerprint, SPEC.fingerprint[:6]):
        assert full.find(name) == SPEC


def test_a_fingerprint_needs_six_digits(full: FeatureStore) -> None:
    with pytest.raises(UsageError, match="has no feature"):
        full.find(SPEC.fingerprint[:5])


def test_an_unknown_feature_is_answered_with_the_nearest_and_all(full: FeatureStore) -> None:
    with pytest.raises(UsageError, match=r"no feature 'toy/fram'\. Did you mean 'toy/frame'\? It has: toy/frame\."):
        full.find("toy/fram")


def test_an_empty_store_says_that_it_has_none(store: FeatureStore) -> None:
    with pytest.raises(UsageError, match="It has: none"):
        store.find("toy")


def test_a_name_of_two_features_is_refused_with_both_fingerprints(full: FeatureStore) -> None:
    half = replace(SPEC, compute_dtype="float16")
    full.writer(half, "run")
    with pytest.raises(UsageError, match="not one feature but 2") as caught:
        full.find("toy/frame")
    for spec in (SPEC, half):
        assert f"{spec.fingerprint[:8]} = toy/frame in {spec.compute_dtype}" in str(caught.value)
        assert full.find(spec.fingerprint[:8]) == spec


def test_two_views_make_the_backbone_ambiguous_and_the_alias_not(full: FeatureStore) -> None:
    full.writer(replace(SPEC, view="face"), "run")
    with pytest.raises(UsageError, match="not one feature but 2"):
        full.find("toy")
    assert full.find("toy/frame") == SPEC


def test_specs_are_listed_by_alias(full: FeatureStore) -> None:
    full.writer(replace(SPEC, view="face"), "run")
    assert [spec.alias for spec in full.specs()] == ["toy/face", "toy/frame"]


@pytest.mark.parametrize(("old", "new"), [('"float32"', '"float16"'), ('"dim": 3', '"dim": 4')])
def test_a_spec_file_that_was_altered_is_refused(full: FeatureStore, old: str, new: str) -> None:
    path = full.root / "specs" / f"{SPEC.fingerprint}.json"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(CacheError, match="was altered"):
        full.specs()


@pytest.mark.parametrize("content", ["", "[]", '{"backbone": "toy"}', '{"colour": "blue"}'])
def test_a_spec_file_that_cannot_be_read_is_refused(full: FeatureStore, content: str) -> None:
    (full.root / "specs" / f"{SPEC.fingerprint}.json").write_text(content)
    with pytest.raises(CacheError, match=r"cannot be read .* Restore it"):
        full.specs()


# Reading


def test_items_come_in_the_order_of_the_manifest(full: FeatureStore) -> None:
    ragged = full.read(SPEC, manifest("d", "a", "c"))
    assert ragged.values.dtype == np.float16
    np.testing.assert_array_equal(ragged.values, np.concatenate([vectors("d"), vectors("a"), vectors("c")]))
    np.testing.assert_array_equal(ragged.offsets, [0, 2, 4, 6])
    np.testing.assert_array_equal(ragged.times_s, np.tile(times(), 3))


@pytest.mark.parametrize("names", ["abcd", "acbd", "dcba", "bacd"])
def test_neighbours_in_a_part_need_not_be_neighbours_in_the_answer(full: FeatureStore, names: str) -> None:
    ragged = full.read(SPEC, manifest(*names))
    np.testing.assert_array_equal(ragged.values, np.concatenate([vectors(name) for name in names]))


def test_one_sample_of_two_items_is_given_to_both(full: FeatureStore) -> None:
    full.ledger.add_samples([Seen("copy", 10, 1, key("b"))])
    ragged = full.read(SPEC, manifest("copy", "b", "copy2"))
    np.testing.assert_array_equal(ragged.values, np.tile(vectors("b"), (2, 1)))
    np.testing.assert_array_equal(ragged.n_steps, [2, 2, 0])


def test_unknown_missing_and_absent_items_have_empty_ranges(full: FeatureStore) -> None:
    writer = full.writer(SPEC, "run")
    writer.absent(key("silent"), "no sound stream")
    writer.commit()
    full.ledger.add_samples([Seen("silent", 10, 1, key("silent")), Seen("failed", 10, 1, key("failed"))])
    again = FeatureStore.open(full.root)
    items = manifest("never-seen", "a", "silent", "failed", "d")
    ragged = again.read(SPEC, items)
    np.testing.assert_array_equal(ragged.n_steps, [0, 2, 0, 0, 2])
    np.testing.assert_array_equal(ragged.values, np.concatenate([vectors("a"), vectors("d")]))
    assert again.missing(items, SPEC) == ["never-seen", "failed"]
    index = again.index(SPEC)
    assert index.reason[index.position[key("silent")]] == "no sound stream"
    assert index.reason[index.position[key("a")]] is None


def test_a_feature_without_parts_reads_as_nothing(store: FeatureStore) -> None:
    ragged = store.read(SPEC, manifest("a", "b"))
    assert ragged.values.shape == (0, DIM)
    np.testing.assert_array_equal(ragged.offsets, [0, 0, 0])


def test_a_file_of_another_size_than_was_seen_is_missing(full: FeatureStore) -> None:
    changed = Manifest.of([Item("a", "a.png", "image", size_bytes=11)], Path("/data"))
    assert full.missing(changed, SPEC) == ["a"]
    assert full.read(SPEC, changed).n_steps.tolist() == [0]


def test_an_open_store_sees_new_parts_when_told_to(full: FeatureStore) -> None:
    assert key("e") not in full.index(SPEC)
    commit(full, "e")
    assert key("e") not in full.index(SPEC)
    assert key("e") in full.index(SPEC, refresh=True)


def test_reading_writes_nothing(full: FeatureStore) -> None:
    paths = [full.root, *full.root.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = {path: path.stat().st_mtime_ns for path in paths}
    again = FeatureStore.open(full.root)
    assert again.find("toy") == SPEC
    assert again.read(SPEC, manifest("a")).n_steps.tolist() == [2]
    assert {path: path.stat().st_mtime_ns for path in [full.root, *full.root.rglob("*")]} == before
    for path in paths:
        path.chmod(0o755 if path.is_dir() else 0o644)
