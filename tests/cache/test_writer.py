"""PartWriter: what it refuses, which of two commits counts, and that a crash at any instant leaves a valid store."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmdf.cache import index, parts, store, writer
from mmdf.cache.errors import MediaError
from mmdf.cache.ledger import Seen
from mmdf.cache.manifest import Item, Manifest
from mmdf.cache.spec import FeatureSpec
from mmdf.cache.store import FeatureStore

DIM = 3
SPEC = FeatureSpec("toy", "frame", "picture", DIM, None, "none", "last", "mean", "none", "float32", "float32")
NAMES = tuple("abcd")
ITEMS = Manifest.of([Item(name, f"{name}.png", "image") for name in NAMES], Path("/data"))


class Kill(BaseException):
    """Stands for the end of the process: nothing in the library may catch it."""


def key(name: str) -> bytes:
    return name.encode() * 16


def fill(store: FeatureStore, names: str, shift: float = 0.0) -> writer.PartWriter:
    part = store.writer(SPEC, "run")
    for name in names:
        n_steps = 1 + ord(name) % 3
        values = np.full((n_steps, DIM), ord(name) + shift, np.float32)
        part.add(key(name), values, np.arange(n_steps) * 0.5)
    return part


@pytest.fixture
def fresh(tmp_path: Path) -> FeatureStore:
    found = FeatureStore.open(tmp_path / "store", create=True)
    found.ledger.add_samples([Seen(name, 1, 1, key(name)) for name in NAMES])
    return found


def read(found: FeatureStore) -> tuple[bytes, list[int]]:
    ragged = FeatureStore.open(found.root).read(SPEC, ITEMS)
    return ragged.values.tobytes(), ragged.n_steps.tolist()


def part_folders(found: FeatureStore) -> list[Path]:
    return sorted((found.root / "features" / SPEC.fingerprint / "parts").iterdir())


def test_a_commit_leaves_nothing_in_tmp(fresh: FeatureStore) -> None:
    assert fill(fresh, "abcd").commit() == parts.part_id(SPEC.fingerprint, [key(name) for name in NAMES])
    assert list((fresh.root / "tmp").iterdir()) == []
    assert len(part_folders(fresh)) == 1


def test_an_empty_writer_commits_nothing(fresh: FeatureStore) -> None:
    assert fill(fresh, "").commit() is None
    assert part_folders(fresh) == []


def test_a_writer_that_is_dropped_leaves_nothing(fresh: FeatureStore) -> None:
    fill(fresh, "abcd")
    assert read(fresh) == (b"", [0, 0, 0, 0])


def test_a_part_of_absent_samples_only_has_no_folder(fresh: FeatureStore) -> None:
    part = fresh.writer(SPEC, "run")
    part.absent(key("a"), "no face")
    assert part.commit() is not None
    assert part_folders(fresh) == []
    assert FeatureStore.open(fresh.root).missing(ITEMS, SPEC) == ["b", "c", "d"]


def test_the_callers_buffer_may_be_filled_again(fresh: FeatureStore) -> None:
    part = fresh.writer(SPEC, "run")
    values, times_s = np.empty((1, DIM), np.float32), np.empty(1)
    for name in NAMES:
        values[:], times_s[:] = ord(name), ord(name)
        part.add(key(name), values, times_s)
    part.commit()
    ragged = FeatureStore.open(fresh.root).read(SPEC, ITEMS)
    assert ragged.values[:, 0].tolist() == ragged.times_s.tolist() == [ord(name) for name in NAMES]


# In both orders: the names of fragments are hashes, so one of the two contradicts the order of their names.
@pytest.mark.parametrize(("first", "second"), [("ab", "bcd"), ("bcd", "ab")])
def test_the_first_committed_wins(fresh: FeatureStore, first: str, second: str) -> None:
    fill(fresh, first).commit()
    fill(fresh, second, shift=100.0).commit()
    ragged = FeatureStore.open(fresh.root).read(SPEC, ITEMS)
    wanted = [ord(name) if name in first else ord(name) + 100 for name in NAMES]
    assert ragged.values[ragged.offsets[:-1], 0].tolist() == wanted


def test_the_first_of_equal_keys_in_one_part_wins(fresh: FeatureStore) -> None:
    part = fill(fresh, "a")
    part.add(key("a"), np.zeros((5, DIM)), np.arange(5.0))
    part.commit()
    assert read(fresh)[1][0] == 1 + ord("a") % 3


def test_of_two_writers_of_the_same_keys_one_part_stays(fresh: FeatureStore) -> None:
    winner, loser = fill(fresh, "abcd"), fill(fresh, "abcd", shift=0.5)
    name = winner.commit()
    kept, seen = part_folders(fresh), read(fresh)
    assert loser.commit() == name
    assert part_folders(fresh) == kept
    assert len(list((fresh.root / "index" / SPEC.fingerprint).iterdir())) == 1
    assert list((fresh.root / "tmp").iterdir()) == []
    assert read(fresh) == seen


# Adding


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 65520.0, 1e30])
def test_what_is_not_finite_in_the_storage_dtype_is_a_failure_of_the_file(fresh: FeatureStore, value: float) -> None:
    writer = fresh.writer(replace(SPEC, storage_dtype="float16"), "run")
    values = np.ones((2, DIM))
    values[1, 2] = value
    with pytest.raises(MediaError, match="toy/frame gave NaN, infinity or a value beyond float16") as caught:
        writer.add(key("a"), values, np.arange(2.0))
    assert caught.value.stage == "forward"
    assert len(writer) == 0


def test_the_largest_values_of_float32_are_data(fresh: FeatureStore) -> None:
    writer = fresh.writer(replace(SPEC, storage_dtype="float32"), "run")
    writer.add(key("a"), np.full((1, DIM), 3e38, np.float32), np.zeros(1))
    assert len(writer) == 1


def test_a_step_without_a_time_is_a_failure_of_the_file(fresh: FeatureStore) -> None:
    with pytest.raises(MediaError, match="without a time"):
        fresh.writer(SPEC, "run").add(key("a"), np.ones((2, DIM)), np.array([0.0, np.nan]))


@pytest.mark.parametrize(
    ("shape", "n_times"), [((2, DIM + 1), 2), ((DIM,), DIM), ((0, DIM), 0), ((2, DIM), 1), ((1, 2, DIM), 1)]
)
def test_a_wrong_shape_is_a_mistake_of_the_caller(fresh: FeatureStore, shape: tuple[int, ...], n_times: int) -> None:
    writer = fresh.writer(SPEC, "run")
    with pytest.raises(ValueError, match=r"expected \(T >= 1, 3\)"):
        writer.add(key("a"), np.zeros(shape), np.arange(float(n_times)))
    assert len(writer) == 0


def test_a_key_of_another_length_is_a_mistake_of_the_caller(fresh: FeatureStore) -> None:
    writer = fresh.writer(SPEC, "run")
    with pytest.raises(ValueError, match="key of 16 bytes, got 3"):
        writer.add(b"abc", np.ones((2, DIM)), np.arange(2.0))
    with pytest.raises(ValueError, match="key of 16 bytes, got 17"):
        writer.absent(b"a" * 17, "no sound")


# Crashes

STEPS = {
    "before the arrays": (writer, "write_part", "before"),
    "while the arrays are written": (parts, "_create", "second"),
    "before the arrays are forced to disk": (parts, "sync_tree", "before"),
    "before the rename": (writer, "write_part", "after"),
    "after the rename": (writer, "sync_file", "before"),
    "before the fragment": (writer, "commit_table", "before"),
    "while the fragment is forced to disk": (index, "sync_file", "before"),
    "between the link and the end": (index, "sync_file", "second"),
    "after the fragment": (writer, "commit_table", "after"),
}
VISIBLE = ("between the link and the end", "after the fragment")


def killer(real: Callable, when: str) -> Callable:
    """`real` with the process killed before it, after it, or before its second call."""
    n_calls = 0

    def call(*args: object, **kwargs: object) -> object:
        nonlocal n_calls
        n_calls += 1
        if when == "before" or (when == "second" and n_calls == 2):
            raise Kill
        result = real(*args, **kwargs)
        if when == "after":
            raise Kill
        return result

    return call


@pytest.mark.parametrize("step", STEPS)
def test_a_crash_at_any_step_leaves_a_valid_store_and_a_rerun_finishes(
    fresh: FeatureStore, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(fresh, "a").commit()
    alone = read(fresh)
    module, name, when = STEPS[step]
    with monkeypatch.context() as patch:
        patch.setattr(module, name, killer(getattr(module, name), when))
        with pytest.raises(Kill):
            fill(fresh, "bcd").commit()

    found = FeatureStore.open(fresh.root)
    missing = found.missing(ITEMS, SPEC)
    assert missing == ([] if step in VISIBLE else ["b", "c", "d"])
    if missing:
        assert read(found) == alone
        fill(found, "".join(missing)).commit()

    undisturbed = FeatureStore.open(fresh.root.with_name("undisturbed"), create=True)
    undisturbed.ledger.add_samples([Seen(name, 1, 1, key(name)) for name in NAMES])
    fill(undisturbed, "a").commit()
    fill(undisturbed, "bcd").commit()
    assert read(found) == read(undisturbed)
    names = [{path.name for path in (s.root / "index" / SPEC.fingerprint).iterdir()} for s in (found, undisturbed)]
    assert names[0] == names[1]


def test_a_crash_while_the_loser_is_cleared_leaves_the_winner(
    fresh: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    winner, loser = fill(fresh, "abcd"), fill(fresh, "abcd", shift=0.5)
    winner.commit()
    seen = read(fresh)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killer(shutil.rmtree, "before"))
        with pytest.raises(Kill):
            loser.commit()
    assert len(part_folders(fresh)) == 2
    assert read(fresh) == seen


def test_a_crash_while_a_spec_is_written_is_repaired(fresh: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(store, "sync_file", killer(store.sync_file, "before"))
        with pytest.raises(Kill):
            fresh.writer(SPEC, "run")
    assert fresh.specs() == []
    fill(fresh, "abcd").commit()
    assert fresh.specs() == [SPEC]


def test_leftovers_in_tmp_are_ignored(fresh: FeatureStore) -> None:
    fill(fresh, "abcd").commit()
    seen = read(fresh)
    shutil.copytree(part_folders(fresh)[0], fresh.root / "tmp" / "left")
    (fresh.root / "tmp" / "left.parquet").write_bytes(b"PAR1 half")
    assert read(fresh) == seen


def test_a_part_without_its_fragment_is_invisible(fresh: FeatureStore) -> None:
    fill(fresh, "ab").commit()
    fill(fresh, "cd").commit()
    name = parts.part_id(SPEC.fingerprint, [key("c"), key("d")])
    (fresh.root / "index" / SPEC.fingerprint / f"frag-{name}.parquet").unlink()
    found = FeatureStore.open(fresh.root)
    assert len(part_folders(found)) == 2
    assert found.missing(ITEMS, SPEC) == ["c", "d"]
    assert found.read(SPEC, ITEMS).n_steps[2:].tolist() == [0, 0]
