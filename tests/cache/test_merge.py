"""merge: everything of two stores is in one, nothing of the other changes, damage is told and left out."""

import json
import os
import shutil
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmdf.cache.errors import CacheError, UsageError
from mmdf.cache.ledger import Failure, Seen
from mmdf.cache.manifest import Item, Manifest
from mmdf.cache.merge import merge
from mmdf.cache.spec import FeatureSpec
from mmdf.cache.store import FeatureStore
from mmdf.cache.verify import verify_store

DIM = 3
SPEC = FeatureSpec("toy", "frame", "picture", DIM, None, "one", "last", "mean", "none", "float32", "float16")
OTHER_SPEC = replace(SPEC, view="face")
NAMES = tuple("abcdef")
ITEMS = Manifest.of([Item(name, f"{name}.png", "image") for name in NAMES], Path("/data"))


class Kill(BaseException):
    """Stands for the end of the process."""


def key(name: str) -> bytes:
    return name.encode() * 16


def add(store: FeatureStore, names: str, shift: float = 0.0, spec: FeatureSpec = SPEC, absent: str = "") -> str | None:
    writer = store.writer(spec, "run")
    for name in names:
        n_steps = 1 + ord(name) % 3
        writer.add(
            key(name), np.full((n_steps, DIM), ord(name) + shift), np.arange(n_steps) + shift, np.arange(n_steps)
        )
    for name in absent:
        writer.absent(key(name), "no face")
    return writer.commit()


def make(root: Path) -> FeatureStore:
    store = FeatureStore.open(root, create=True)
    store.ledger.add_samples([Seen(name, 1, 1, key(name)) for name in NAMES])
    return store


@pytest.fixture
def into(tmp_path: Path) -> FeatureStore:
    return make(tmp_path / "into")


@pytest.fixture
def other(tmp_path: Path) -> FeatureStore:
    return make(tmp_path / "other")


def values(store: FeatureStore, spec: FeatureSpec = SPEC) -> dict[str, list[float]]:
    """The first column of each item, and its times."""
    ragged = FeatureStore.open(store.root).read(spec, ITEMS)
    both = np.column_stack([ragged.values[:, 0], ragged.times_s, ragged.indices])
    return {name: both[a:b].tolist() for name, a, b in zip(NAMES, ragged.offsets, ragged.offsets[1:], strict=False)}


def snapshot(root: Path) -> dict[str, tuple[int, bytes]]:
    paths = [path for path in root.rglob("*") if path.is_file()]
    return {path.relative_to(root).as_posix(): (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


def part_names(store: FeatureStore, spec: FeatureSpec = SPEC) -> set[str]:
    return {path.stem.removeprefix("frag-") for path in (store.root / "index" / spec.fingerprint).iterdir()}


def assert_sound(store: FeatureStore) -> None:
    assert verify_store(FeatureStore.open(store.root), 2).findings == ()


def test_whole_parts_keep_their_names_and_bits(into: FeatureStore, other: FeatureStore) -> None:
    add(into, "ab")
    name = add(other, "cd", 64, absent="e")
    wanted = values(into) | {n: v for n, v in values(other).items() if v}
    before = snapshot(other.root)
    report = merge(into, other)
    one = report.features[0]
    assert (one.name, one.n_samples, one.n_parts, one.n_present, one.bytes_) == ("toy/frame", 3, 1, 0, 3 * DIM * 2)
    assert (report.problems, report.exit_code) == ((), 0)
    assert values(into) == wanted
    assert name in part_names(into)
    assert into.index(SPEC).reason[into.index(SPEC).position[key("e")]] == "no face"
    assert snapshot(other.root) == before
    assert list((into.root / "tmp").iterdir()) == []
    assert_sound(into)
    assert "toy/frame" in report.to_text()
    assert json.loads(json.dumps(report.to_dict()))["features"][0]["n_samples"] == 3


def test_of_parts_that_overlap_only_the_missing_samples_are_taken(into: FeatureStore, other: FeatureStore) -> None:
    add(into, "abc")
    add(other, "cd", 64)
    add(other, "bcd", 128)
    wanted = values(into) | {"d": values(other)["d"]}
    report = merge(into, other)
    assert (report.features[0].n_samples, report.features[0].n_present) == (1, 2)
    assert values(into) == wanted
    assert len(part_names(into)) == 2
    assert_sound(into)


def test_again_it_changes_nothing(into: FeatureStore, other: FeatureStore) -> None:
    add(into, "ab")
    add(other, "bc", 64)
    add(other, "d", spec=OTHER_SPEC)
    other.ledger.add_failures([Failure(None, "x", "x.mp4", SPEC.fingerprint, "decode", "MediaError", "cut")], "run")
    other.ledger.add_run("run-1", {"host": "there"})
    first = merge(into, other)
    assert (first.n_items, first.n_failures, first.n_runs) == (len(NAMES), 1, 1)
    before = snapshot(into.root)
    again = merge(into, other)
    assert sum(one.n_samples for one in again.features) == again.n_items == again.n_failures == again.n_runs == 0
    assert snapshot(into.root) == before
    assert {spec.alias for spec in into.specs()} == {"toy/frame", "toy/face"}


def test_the_latest_sighting_of_an_item_wins(into: FeatureStore, other: FeatureStore) -> None:
    into.ledger.add_samples([Seen("a", 2, 2, key("x"))])
    other.ledger.add_samples([Seen("b", 3, 3, key("y"))])
    into.ledger.add_samples([Seen("b", 4, 4, key("z"))])
    merge(into, other)
    latest = into.ledger.samples().latest
    # Of a both were seen at first in `into`, then in `other` with the fixture, then again in `into`.
    assert latest["a"] == Seen("a", 2, 2, key("x"))
    assert latest["b"] == Seen("b", 4, 4, key("z"))
    other.ledger.add_samples([Seen("b", 5, 5, key("w"))])
    assert merge(into, other).n_items == 1
    assert into.ledger.samples().latest["b"] == Seen("b", 5, 5, key("w"))
    assert_sound(into)


def test_a_run_that_is_known_is_kept(into: FeatureStore, other: FeatureStore) -> None:
    into.ledger.add_run("run-1", {"host": "here"})
    other.ledger.add_run("run-1", {"host": "there"})
    (other.root / "runs" / "broken.json").write_text("{")
    report = merge(into, other)
    assert json.loads((into.root / "runs" / "run-1.json").read_text()) == {"host": "here"}
    assert not (into.root / "runs" / "broken.json").exists()
    assert (report.exit_code, len(report.problems)) == (4, 1)


def test_a_new_store_becomes_a_copy(other: FeatureStore, tmp_path: Path) -> None:
    add(other, "ab")
    add(other, "bc", 64)
    into = FeatureStore.open(tmp_path / "new", create=True)
    merge(into, other)
    assert values(into) == values(other)
    assert into.ledger.samples() == other.ledger.samples()


def test_a_store_is_not_merged_with_itself(into: FeatureStore, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(into.root)
    with pytest.raises(UsageError, match="same store"):
        merge(into, FeatureStore.open(tmp_path / "link"))


def test_a_store_of_another_version_is_refused(other: FeatureStore) -> None:
    (other.root / "mmdf.json").write_text('{"format": "mmdf-store", "version": 3}')
    with pytest.raises(CacheError, match="Upgrade mmdf"):
        FeatureStore.open(other.root)


# Damage


def fragment(store: FeatureStore, name: str) -> Path:
    paths = (store.root / "index" / SPEC.fingerprint).iterdir()
    return next(path for path in paths if key(name) in pq.read_table(path).column("sample_key").to_pylist())


def chunk(store: FeatureStore, name: str) -> Path:
    folder = pq.read_table(fragment(store, name)).column("folder")[0].as_py()
    return store.root / "features" / SPEC.fingerprint / "parts" / folder / "data" / "c" / "0" / "0"


def break_chunk(store: FeatureStore) -> None:
    content = bytearray(chunk(store, "c").read_bytes())
    content[1] ^= 0x20
    chunk(store, "c").write_bytes(content)


def break_fragment(store: FeatureStore) -> None:
    fragment(store, "c").write_bytes(b"PAR1")


def remove_part(store: FeatureStore) -> None:
    shutil.rmtree(chunk(store, "c").parents[3])


def edit(store: FeatureStore, column: str, value: object) -> None:
    path = fragment(store, "c")
    table = pq.read_table(path)
    field = table.schema.field(column)
    values = pa.array([value] * len(table), field.type)
    pq.write_table(table.set_column(table.schema.get_field_index(column), field, values), path)


@pytest.mark.parametrize(
    "damage",
    [
        break_chunk,
        break_fragment,
        remove_part,
        lambda store: edit(store, "row_crc32", 1),
        lambda store: edit(store, "start", 10**12),
        lambda store: edit(store, "start", -1),
        lambda store: edit(store, "n_steps", 2**30),
        lambda store: edit(store, "folder", "../../../../elsewhere"),
        lambda store: edit(store, "part_id", "0" * 32),
    ],
)
def test_a_damaged_part_is_told_and_left_out(into: FeatureStore, other: FeatureStore, damage) -> None:
    add(into, "a")
    add(other, "b", 64)
    add(other, "cd", 64)
    wanted = values(into) | {"b": values(other)["b"]}
    damage(other)
    before = snapshot(other.root)
    report = merge(into, other)
    assert (len(report.problems), report.exit_code) == (1, 4)
    assert "LEFT OUT" in report.to_text()
    assert values(into) == wanted
    assert snapshot(other.root) == before
    assert_sound(into)


def test_a_sound_copy_behind_a_damaged_one_is_taken(into: FeatureStore, other: FeatureStore) -> None:
    add(other, "c", 64)
    break_chunk(other)
    add(other, "cd", 128)
    report = merge(into, other)
    assert len(report.problems) == 1
    assert values(into)["c"][0][0] == ord("c") + 128
    assert_sound(into)


@pytest.mark.parametrize("damage", ["altered", "gone"])
def test_a_feature_without_its_spec_is_told_and_left_out(into: FeatureStore, other: FeatureStore, damage: str) -> None:
    add(other, "a")
    add(other, "b", spec=OTHER_SPEC)
    path = other.root / "specs" / f"{SPEC.fingerprint}.json"
    if damage == "gone":
        path.unlink()
    else:
        path.write_text(path.read_text().replace('"mean"', '"max"'))
    report = merge(into, other)
    assert len(report.problems) == 1
    assert SPEC.fingerprint in report.problems[0]
    assert into.specs() == [OTHER_SPEC]


@pytest.mark.parametrize("name", ["samples", "failures"])
def test_a_damaged_ledger_is_told(into: FeatureStore, other: FeatureStore, name: str) -> None:
    add(other, "a")
    other.ledger.add_failures([Failure(None, "x", "x.mp4", SPEC.fingerprint, "decode", "MediaError", "cut")], "run")
    next((other.root / name).iterdir()).write_bytes(b"PAR1")
    report = merge(into, other)
    assert len(report.problems) == 1
    assert report.features[0].n_samples == 1


def test_damage_here_stops_it(into: FeatureStore, other: FeatureStore) -> None:
    add(into, "c")
    break_fragment(into)
    add(other, "d")
    with pytest.raises(CacheError, match="is damaged"):
        merge(into, other)


# Kills and chance


def test_killed_at_any_step_the_store_is_whole_and_a_rerun_finishes(
    into: FeatureStore, other: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(into, "ab")
    add(other, "bc", 64)
    add(other, "de", 128, absent="f")
    other.ledger.add_run("run-1", {})
    before = values(into)
    wanted = before | {n: v for n, v in values(other).items() if n not in "ab"}
    for step in range(100):
        found = FeatureStore.open(shutil.copytree(into.root, tmp_path / f"killed-{step}"))
        n_calls = 0

        def wrap(real, step=step):
            def call(*args, **kwargs):
                nonlocal n_calls
                if threading.current_thread() is threading.main_thread():
                    n_calls += 1
                    if n_calls == step + 1:
                        raise Kill
                return real(*args, **kwargs)

            return call

        try:
            with monkeypatch.context() as patch:
                for name in ("link", "rename", "replace", "unlink"):
                    patch.setattr(os, name, wrap(getattr(os, name)))
                merge(found, other)
        except Kill:
            seen = values(found)
            assert all(seen[name] in ([], wanted[name]) for name in NAMES)
            assert all(seen[name] == before[name] for name in "ab")
            assert_sound(found)
            if step % 2:
                continue
            merge(found, other)
            assert values(found) == wanted
            assert_sound(found)
        else:
            assert step > 6
            return
    raise AssertionError("it never came to an end")


WORK = st.lists(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3), max_size=3)


@given(ours=WORK, theirs=WORK)
@settings(max_examples=5, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_any_two_stores(ours: list[list[str]], theirs: list[list[str]]) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        into, other = make(folder / "into"), make(folder / "other")
        for store, work, base in ((into, ours, 0), (other, theirs, 512)):
            store.writer(SPEC, "run")
            for number, names in enumerate(work):
                add(store, "".join(names), base + 32 * number)
        left, right = values(into), values(other)
        report = merge(into, other)
        assert values(into) == {name: left[name] or right[name] for name in NAMES}
        assert report.features[0].n_samples == sum(not left[name] and bool(right[name]) for name in NAMES)
        assert merge(into, other).features[0].n_samples == 0
        assert_sound(into)
    finally:
        shutil.rmtree(folder)
