"""gc and compact: what goes and what stays, the same bits to every reader at every instant, and kills at every step."""

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmdf.cache import compact as compact_module
from mmdf.cache import maintain, parts
from mmdf.cache.compact import Compaction, compact
from mmdf.cache.errors import CacheError, UsageError
from mmdf.cache.index import read_index
from mmdf.cache.ledger import Seen
from mmdf.cache.maintain import GcReport, gc
from mmdf.cache.manifest import Item, Manifest
from mmdf.cache.rewrite import read_record, read_records, rows_in_effect
from mmdf.cache.spec import FeatureSpec
from mmdf.cache.store import FeatureStore
from mmdf.cache.verify import verify_store

DIM = 3
SPEC = FeatureSpec("toy", "frame", "picture", DIM, None, "one", "last", "mean", "none", "float32", "float16")
NEWER = replace(SPEC, weights_digest="two")
NAMES = tuple("abcdefgh")
ITEMS = Manifest.of([Item(name, f"{name}.png", "image") for name in NAMES], Path("/data"))
STEPS = ("link", "rename", "replace", "unlink", "rmdir", "utime")


class Kill(BaseException):
    """Stands for the end of the process: nothing in the library may catch it."""


def key(name: str) -> bytes:
    return name.encode() * 16


def add(store: FeatureStore, names: str, shift: float = 0.0, spec: FeatureSpec = SPEC, absent: str = "") -> str | None:
    """Commit a part; of a name the values tell the name, the part (by `shift`) and the step."""
    writer = store.writer(spec, f"run-{shift:g}")
    for name in names:
        n_steps = 1 + ord(name) % 3
        values = ord(name) + shift + np.arange(n_steps)[:, None] / 8 + np.zeros(DIM)
        writer.add(key(name), values, np.arange(n_steps) * 0.5 + shift, np.arange(n_steps) + 7)
    for name in absent:
        writer.absent(key(name), "no face")
    return writer.commit()


def make(root: Path) -> FeatureStore:
    store = FeatureStore.open(root, create=True)
    store.ledger.add_samples([Seen(name, 1, 1, key(name)) for name in NAMES])
    return store


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return make(tmp_path / "store")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small parts that overlap, one of which is in no effect, and a part of absent samples only."""
    found = make(tmp_path_factory.mktemp("template") / "store")
    add(found, "ab", absent="g")
    add(found, "bc", 64)
    add(found, "ba", 128)
    add(found, "de", 192)
    add(found, "", absent="h")
    return found.root


@pytest.fixture
def full(template: Path, tmp_path: Path) -> FeatureStore:
    return FeatureStore.open(shutil.copytree(template, tmp_path / "full"))


def age(path: Path, hours: float = 2.0) -> None:
    """Make everything below `path` so much older."""
    for one in (path, *path.rglob("*")):
        then_s = one.stat().st_mtime - hours * 3600
        os.utime(one, (then_s, then_s))


State = tuple[bytes, bytes, bytes, list[int], list[str | None]]


def read(store: FeatureStore, spec: FeatureSpec = SPEC) -> State:
    """Everything a reader can see, through a store that is opened anew."""
    fresh = FeatureStore.open(store.root)
    ragged, index = fresh.read(spec, ITEMS), fresh.index(spec)
    reasons = [index.reason[index.position[key(n)]] if key(n) in index else "missing" for n in NAMES]
    return (
        ragged.values.tobytes(), ragged.times_s.tobytes(), ragged.indices.tobytes(), ragged.n_steps.tolist(), reasons
    )  # fmt: skip


def rows(store: FeatureStore, spec: FeatureSpec = SPEC) -> dict[bytes, dict]:
    """The row in effect of each sample, without what says where it lies."""
    records = read_records(store.root / "index" / spec.fingerprint)
    found = {}
    for record, mask in zip(records, rows_in_effect(records), strict=True):
        for row, seen in zip(record.rows.to_pylist(), mask, strict=True):
            if seen:
                found[row.pop("sample_key")] = {
                    k: v for k, v in row.items() if k not in ("part_id", "folder", "row", "start", "committed_at_ns")
                }
    return found


def fragments(store: FeatureStore, spec: FeatureSpec = SPEC) -> list[Path]:
    return sorted((store.root / "index" / spec.fingerprint).glob("*"))


def folders(store: FeatureStore, spec: FeatureSpec = SPEC) -> list[Path]:
    return sorted((store.root / "features" / spec.fingerprint / "parts").glob("*"))


def tree(root: Path) -> dict[str, int]:
    return {path.relative_to(root).as_posix(): path.stat().st_size for path in root.rglob("*") if path.is_file()}


def assert_sound(store: FeatureStore) -> None:
    assert verify_store(FeatureStore.open(store.root), 2).findings == ()


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch, look: Callable[[int], None]) -> Iterator[None]:
    """Call `look` with a running number before each step that changes what is on disk."""
    n_calls = 0
    inside = in_tree = False

    def wrap(real: Callable) -> Callable:
        def call(*args: object, **kwargs: object) -> object:
            nonlocal n_calls, inside, in_tree
            # Of the many steps inside of a tree that goes, the first stands for all.
            again, in_tree = in_tree, kwargs.get("dir_fd") is not None
            # Zarr moves its chunks into place in a thread of its own; there is nobody to kill.
            main = threading.current_thread() is threading.main_thread()
            if main and not inside and not (again and in_tree):
                inside = True
                try:
                    look(n_calls)
                finally:
                    inside = False
                n_calls += 1
            return real(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for name in STEPS:
            patch.setattr(os, name, wrap(getattr(os, name)))
        yield


def killed_at_every_step(
    template: Path, work: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[FeatureStore], object]
) -> Iterator[FeatureStore]:
    """Copies of the store at `template`, in which `act` was killed before its first step, its second, and so on."""
    for wanted in range(200):
        found = FeatureStore.open(shutil.copytree(template, work / f"killed-{wanted}"))

        def look(number: int, wanted: int = wanted) -> None:
            if number == wanted:
                raise Kill

        try:
            with watched(monkeypatch, look):
                act(found)
        except Kill:
            yield found
        else:
            assert wanted > 3
            return
    raise AssertionError("it never came to an end")


# Compact


def test_small_parts_become_one_with_the_same_bits(full: FeatureStore) -> None:
    before, rows_before = read(full), rows(full)
    report = compact(full, SPEC)
    # One record is in no effect: that is for gc.
    assert (report.n_parts_before, report.n_parts_after, report.n_merged, report.problems) == (5, 2, 4, ())
    assert (read(full), rows(full)) == (before, rows_before)
    assert_sound(full)
    assert list((full.root / "tmp").iterdir()) == []
    assert "5 parts to 2" in report.to_text()
    assert report.to_dict()["n_merged"] == 4
    assert report.exit_code == 0


def test_the_order_of_rows_is_that_of_their_commits(full: FeatureStore) -> None:
    compact(full, SPEC)
    new = read_records(full.root / "index" / SPEC.fingerprint)[0]
    assert [k[:1].decode() for k in new.keys] == list("abgcdeh")
    times_ns = new.rows.column("committed_at_ns").to_pylist()
    assert times_ns == sorted(times_ns)
    assert new.rows.column("run_id").to_pylist() == ["run-0"] * 3 + ["run-64", "run-192", "run-192", "run-0"]


def test_again_there_is_nothing_to_do(full: FeatureStore) -> None:
    compact(full, SPEC)
    before = tree(full.root)
    assert compact(full, SPEC).n_merged == 0
    assert tree(full.root) == before


def test_parts_are_filled_up_to_the_target(store: FeatureStore) -> None:
    for name in NAMES:
        add(store, name)
    before = read(store)
    n_bytes = sum(before[3]) * DIM * 2
    report = compact(store, SPEC, target_bytes=n_bytes // 3)
    assert 3 <= report.n_parts_after <= 5
    sizes = [int(r.n_steps.sum()) * DIM * 2 for r in read_records(store.root / "index" / SPEC.fingerprint)]
    assert max(sizes) <= n_bytes // 3
    assert read(store) == before
    assert_sound(store)


def test_large_parts_are_left(store: FeatureStore) -> None:
    names = {add(store, "abcd"), add(store, "efgh")}
    report = compact(store, SPEC, target_bytes=30)
    assert (report.n_merged, report.bytes_written) == (0, 0)
    assert {path.stem.removeprefix("frag-") for path in fragments(store)} == names


def test_a_part_with_much_in_no_effect_is_written_anew(store: FeatureStore) -> None:
    add(store, "abc")
    add(store, "abcd", 64)
    before = read(store)
    assert compact(store, SPEC, target_bytes=4).n_merged == 1
    assert sorted(len(r.keys) for r in read_records(store.root / "index" / SPEC.fingerprint)) == [1, 3]
    assert read(store) == before
    assert_sound(store)


def test_a_part_of_absent_samples_only_needs_no_folder(store: FeatureStore) -> None:
    add(store, "", absent="a")
    add(store, "", absent="b")
    before = read(store)
    assert compact(store, SPEC).n_parts_after == 1
    assert folders(store) == []
    assert read(store) == before
    assert_sound(store)


def test_a_name_that_is_taken_is_avoided(store: FeatureStore) -> None:
    add(store, "a")
    taken = add(store, "ab", 64)
    before = read(store)
    report = compact(store, SPEC)
    assert (report.n_parts_after, report.problems) == (1, ())
    assert fragments(store)[0].stem != f"frag-{taken}"
    assert read(store) == before
    assert_sound(store)


def test_where_both_names_are_taken_all_is_left(store: FeatureStore) -> None:
    for names in ("a", "b", "ab", "ba"):
        add(store, names, len(names))
    before, files = read(store), fragments(store)
    report = compact(store, SPEC)
    assert report.exit_code == 4
    assert "run `mmdf cache gc`" in report.problems[0]
    assert (read(store), fragments(store)) == (before, files)
    gc(store, older_than_s=0)
    assert compact(store, SPEC).n_parts_after == 1
    assert read(store) == before


def test_records_of_one_instant_keep_their_precedence(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1000)
    for number, names in enumerate(("ab", "bc", "cd", "da", "ef", "fe")):
        add(store, names, 32 * number)
    before = read(store)
    for target in (30, 60, 1000):
        compact(store, SPEC, target_bytes=target)
        assert read(store) == before
    assert_sound(store)


def test_a_damaged_part_is_left_and_the_rest_is_joined(full: FeatureStore) -> None:
    damaged = next(r for r in read_records(full.root / "index" / SPEC.fingerprint) if key("d") in r.keys)
    chunk = full.root / "features" / SPEC.fingerprint / "parts" / damaged.folder / "data" / "c" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"\0")
    report = compact(full, SPEC)
    assert (report.n_merged, len(report.problems), report.exit_code) == (3, 1, 4)
    assert damaged.folder in report.problems[0]
    assert damaged.path.exists()
    others = ITEMS.take(np.array([name not in "de" for name in NAMES]))
    assert FeatureStore.open(full.root).read(SPEC, others).n_steps.sum() > 0
    assert [f.part for f in verify_store(full, 2).findings] == [damaged.name]


def test_spare_copies_of_what_is_damaged_elsewhere_are_not_given_up(store: FeatureStore) -> None:
    """The large part holds b and is damaged; the small one has the only good copy of b, in no effect."""
    add(store, "abcdefgh")
    add(store, "b", 64, absent="z")
    add(store, "", absent="y")
    big = max(read_records(store.root / "index" / SPEC.fingerprint), key=lambda record: len(record.keys))
    shutil.rmtree(store.root / "features" / SPEC.fingerprint / "parts" / big.folder / "data")
    report = compact(store, SPEC, target_bytes=50)
    assert "spare copies" in report.problems[0]
    big.path.unlink()
    assert FeatureStore.open(store.root).read(SPEC, ITEMS).n_steps.tolist() == [0, 3, 0, 0, 0, 0, 0, 0]


def test_a_damaged_record_stops_it_with_a_sentence(full: FeatureStore) -> None:
    fragments(full)[0].write_bytes(b"PAR1")
    before = tree(full.root)
    with pytest.raises(CacheError, match="is damaged"):
        compact(full, SPEC)
    assert tree(full.root) == before


def test_a_target_below_one_byte_is_refused(full: FeatureStore) -> None:
    with pytest.raises(UsageError, match="at least 1 byte"):
        compact(full, SPEC, target_bytes=0)


def test_a_disk_that_is_full_is_told_and_leaves_nothing(full: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(full.root)
    real = parts.sync_tree

    def fill(folder: Path) -> None:
        real(folder)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(parts, "sync_tree", fill)
        with pytest.raises(CacheError, match=r"No space left on device.*Make room"):
            compact(full, SPEC)
    assert tree(full.root) == before


def test_at_every_instant_a_reader_sees_the_same(full: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read(full)
    seen = []
    with watched(monkeypatch, lambda number: seen.append(read(full))):
        compact(full, SPEC)
        gc(full, older_than_s=0)
    assert len(seen) > 10
    assert all(state == before for state in seen)


def test_killed_at_any_step_the_store_is_whole_and_a_rerun_finishes(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read(FeatureStore.open(template))
    for number, found in enumerate(killed_at_every_step(template, tmp_path, monkeypatch, lambda s: compact(s, SPEC))):
        assert read(found) == before
        assert_sound(found)
        if number % 2:
            continue
        compact(found, SPEC)
        gc(found, older_than_s=0)
        assert read(found) == before
        assert_sound(found)
        assert (len(fragments(found)), len(folders(found))) == (1, 1)


def test_a_record_that_was_made_anew_meanwhile_is_not_removed(
    full: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names are hashes of samples: what has the name of an old record may be another one, with its own part."""
    real = compact_module.remove_record
    anew = read_records(full.root / "index" / SPEC.fingerprint)[0]

    def interrupt(record: object) -> None:
        if anew.path.exists() and read_record(anew.path).folder == anew.folder:
            anew.path.unlink()
            add(full, "ab", 256, absent="g")
        real(record)

    monkeypatch.setattr(compact_module, "remove_record", interrupt)
    before = read(full)
    compact(full, SPEC)
    assert anew.path.exists()
    assert read(full) == before
    assert_sound(full)


def test_a_reader_that_opened_before_reads_on_after_gc_too(full: FeatureStore) -> None:
    early = FeatureStore.open(full.root)
    early.index(SPEC)
    before = read(full)
    age(full.root)
    compact(full, SPEC)
    # The old parts are old, but have been surplus for a moment only.
    assert gc(full).removed[0].reason == "every sample of it was committed before"
    assert early.read(SPEC, ITEMS).values.tobytes() == before[0]
    gc(full, older_than_s=0)
    # Its index names parts that are gone; it looks again by itself.
    assert early.read(SPEC, ITEMS).values.tobytes() == before[0]


@pytest.mark.parametrize("where", ["_read", "_commit", "_retire"])
@pytest.mark.parametrize("meanwhile", ["compact", "compact and gc", "extract", "extract the same"])
def test_what_runs_beside_it_loses_nothing(
    full: FeatureStore, where: str, meanwhile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process does all its work right before one step of ours."""
    real = getattr(compact_module, where)
    before = read(full)
    n_calls = 0

    def interrupt(*args: object) -> object:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 1:
            other = FeatureStore.open(full.root)
            if meanwhile.startswith("compact"):
                compact(other, SPEC)
            if meanwhile == "compact and gc":
                gc(other, older_than_s=0)
            if meanwhile == "extract":
                add(other, "fde", 256)
            if meanwhile == "extract the same":
                add(other, "abcde", 256, absent="gh")
        return real(*args)

    monkeypatch.setattr(compact_module, where, interrupt)
    report = compact(full, SPEC)
    assert isinstance(report, Compaction)
    assert_sound(full)
    if meanwhile == "extract":
        # f is new, the rest as before.
        f = NAMES.index("f")
        assert read(full)[3][:f] + read(full)[3][f + 1 :] == before[3][:f] + before[3][f + 1 :]
        assert read(full)[3][f] == 1 + ord("f") % 3
    else:
        assert read(full) == before
    compact(full, SPEC)
    gc(full, older_than_s=0)
    assert_sound(full)
    assert "missing" not in [r for n, r in zip(NAMES, read(full)[4], strict=True) if n != "f"]


PARTS = st.lists(
    st.tuples(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4), st.booleans()), min_size=1, max_size=6
)


@given(work=PARTS, target=st.integers(1, 120), order=st.sampled_from([["compact", "gc", "compact"], ["gc", "compact"]]))
@settings(max_examples=5, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_any_parts_keep_their_bits(work: list[tuple[list[str], bool]], target: int, order: list[str]) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        store = make(folder / "store")
        for number, (names, absent) in enumerate(work):
            add(store, "" if absent else "".join(names), 32 * number, absent="".join(names) if absent else "")
        before, rows_before = read(store), rows(store)
        for verb in order:
            if verb == "compact":
                assert compact(store, SPEC, target_bytes=target).exit_code in (0, 4)
            else:
                gc(store, older_than_s=0)
            assert (read(store), rows(store)) == (before, rows_before)
            assert_sound(store)
    finally:
        shutil.rmtree(folder)


def test_the_rows_in_effect_are_those_of_the_index(full: FeatureStore) -> None:
    folder = full.root / "index" / SPEC.fingerprint
    index, records = read_index(folder), read_records(folder)
    mask = np.concatenate(rows_in_effect(records))
    assert sorted(index.position.values()) == np.flatnonzero(mask).tolist()


# gc


def removed(report: GcReport) -> list[str]:
    return [one.path for one in report.removed]


@pytest.fixture
def littered(full: FeatureStore) -> FeatureStore:
    """Aged, with leftovers in tmp, a part without a record, and one that lost against another of its name."""
    shutil.copytree(folders(full)[0], full.root / "tmp" / "left")
    (full.root / "tmp" / "left.parquet").write_bytes(b"PAR1 half")
    part = folders(full)[0]
    for name in ("1" * 32, part.name.partition("-")[0]):
        shutil.copytree(part, part.with_name(f"{name}-00000000"))
    age(full.root)
    return full


def test_a_dry_run_lists_what_a_real_run_removes_and_changes_nothing(littered: FeatureStore) -> None:
    before, state = tree(littered.root), read(littered)
    dry = gc(littered, dry_run=True)
    assert tree(littered.root) == before
    real = gc(littered)
    assert real.removed == dry.removed
    assert (dry.dry_run, real.dry_run, real.kept) == (True, False, ())
    gone = before.keys() - tree(littered.root).keys()
    named = {path for path in gone if any(path == one or path.startswith(f"{one}/") for one in removed(real))}
    assert gone == named
    assert real.bytes_ == sum(before[path] for path in gone) == dry.to_dict()["bytes"]
    # Two leftovers, one shadowed record and its part, two parts without a record.
    assert len(real.removed) == 6
    assert read(littered) == state
    assert verify_store(littered, 2).notes == ()
    assert_sound(littered)
    assert "would remove tmp/left" in dry.to_text()
    assert real.to_text().endswith(f"Removed 6 thing(s), {real.bytes_ / 1e6:.1f} MB.")
    assert gc(littered).removed == ()


def test_what_is_new_is_left(littered: FeatureStore) -> None:
    for name in ("zarr.json", "data/c/0/0"):
        os.utime(littered.root / "tmp" / "left" / name)
    report = gc(littered)
    assert "tmp/left" not in removed(report)
    assert "tmp/left.parquet" in removed(report)
    # A writer may be at work: no part without a record goes, however old it looks.
    assert len([one for one in report.kept if one.path.startswith("features/")]) == 2
    assert not any("00000000" in path for path in removed(report))
    # Of what is committed nobody is at work any more.
    assert sum(path.startswith("index/") for path in removed(report)) == 1


def test_a_part_without_a_record_that_is_new_is_left(littered: FeatureStore) -> None:
    orphan = littered.root / "features" / SPEC.fingerprint / "parts" / f"{'1' * 32}-00000000"
    os.utime(orphan / "offsets" / "c" / "0")
    report = gc(littered)
    assert [one.path for one in report.kept] == [orphan.relative_to(littered.root).as_posix()]
    assert orphan.exists()


def test_a_clock_that_was_put_back_removes_nothing(littered: FeatureStore) -> None:
    age(littered.root, hours=-48)
    assert gc(littered).removed == gc(littered, older_than_s=0).removed == ()


@pytest.mark.parametrize("age_s", [-1.0, float("nan"), float("inf")])
def test_an_age_that_is_none_is_refused(store: FeatureStore, age_s: float) -> None:
    with pytest.raises(UsageError, match="zero or more seconds"):
        gc(store, older_than_s=age_s)


def test_a_writer_that_commits_meanwhile_keeps_its_part(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock jumped: the part of a running writer looks old, and its record comes while gc is at work."""
    add(store, "a")
    add(store, "b", 64)
    fragment = next(r.path for r in read_records(store.root / "index" / SPEC.fingerprint) if key("b") in r.keys)
    before = read(store)
    content = fragment.read_bytes()
    fragment.unlink()
    age(store.root)
    real = os.rename

    def rename(source: Path, target: Path) -> None:
        real(source, target)
        fragment.write_bytes(content)

    monkeypatch.setattr(os, "rename", rename)
    gc(store)
    assert read(store) == before
    assert_sound(store)


def test_the_only_good_copy_is_kept(full: FeatureStore) -> None:
    """The shadowed record holds b and a, whose copy in effect is damaged."""
    first = next(r for r in read_records(full.root / "index" / SPEC.fingerprint) if key("g") in r.keys)
    chunk = full.root / "features" / SPEC.fingerprint / "parts" / first.folder / "data" / "c" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"\0")
    report = gc(full, older_than_s=0)
    assert report.removed == ()
    assert "the copy that readers see is damaged" in report.kept[0].reason
    # The remedy that verify names brings the good copies to light.
    first.path.unlink()
    assert FeatureStore.open(full.root).read(SPEC, ITEMS).n_steps[:2].tolist() == [2, 3]


def test_a_feature_with_a_damaged_record_is_let_be(littered: FeatureStore) -> None:
    fragments(littered)[0].write_bytes(b"PAR1")
    age(littered.root)
    report = gc(littered)
    assert sorted(removed(report)) == ["tmp/left", "tmp/left.parquet"]
    assert "nothing of this feature is touched" in report.kept[0].reason


def test_links_are_not_followed(full: FeatureStore, tmp_path: Path) -> None:
    outside = tmp_path / "thesis"
    outside.mkdir()
    (outside / "thesis.tex").write_text("x")
    (full.root / "tmp" / "link").symlink_to(outside)
    folders(full)[0].with_name("link").symlink_to(outside)
    gc(full, older_than_s=0)
    assert (outside / "thesis.tex").exists()
    assert not (full.root / "tmp" / "link").is_symlink()


def test_gc_killed_at_any_step_leaves_a_whole_store(
    littered: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read(littered)
    steps = killed_at_every_step(littered.root, tmp_path, monkeypatch, lambda s: gc(s, older_than_s=0))
    for number, found in enumerate(steps):
        assert read(found) == before
        assert_sound(found)
        if number % 2:
            continue
        gc(found, older_than_s=0)
        assert read(found) == before
        assert verify_store(found, 2).notes == ()


def test_what_cannot_be_removed_is_told(littered: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(maintain.shutil, "rmtree", refuse)
        with pytest.raises(CacheError, match="Permission denied"):
            gc(littered)
    assert_sound(littered)


# Superseded features


@pytest.fixture
def renewed(tmp_path: Path) -> FeatureStore:
    """The same samples with older and newer weights, and other choices of a person beside them."""
    found = make(tmp_path / "renewed")
    add(found, "ab")
    add(found, "cd")
    add(found, "ab", spec=replace(SPEC, sampling={"frames": 32}))
    add(found, "ab", spec=replace(SPEC, compute_dtype="float16"))
    add(found, "ab", spec=replace(SPEC, variant="layers-all"))
    add(found, "abcde", 64, spec=NEWER)
    return found


def test_superseded_features_go_whole(renewed: FeatureStore) -> None:
    before = read(renewed, NEWER)
    age(renewed.root)
    assert gc(renewed, dry_run=True).removed == ()
    report = gc(renewed, superseded=True)
    old = SPEC.fingerprint
    assert removed(report) == [f"index/{old}", f"specs/{old}.json", f"features/{old}"]
    assert report.removed[0].reason == f"toy/frame was computed anew as {NEWER.fingerprint[:8]}"
    assert old not in {spec.fingerprint for spec in renewed.specs()}
    assert len(renewed.specs()) == 4
    assert not any((renewed.root / name / old).exists() for name in ("index", "features"))
    assert read(renewed, NEWER) == before
    assert_sound(renewed)


def test_newer_weights_that_lack_samples_supersede_nothing(renewed: FeatureStore) -> None:
    add(renewed, "f")
    add(renewed, "g", spec=NEWER)
    assert gc(renewed, older_than_s=0, superseded=True).removed == ()


def test_the_newer_feature_is_never_superseded_by_the_older(store: FeatureStore) -> None:
    add(store, "abc", spec=NEWER)
    add(store, "ab")
    assert gc(store, older_than_s=0, superseded=True).removed == ()


def test_a_superseded_feature_that_is_still_written_to_is_left(renewed: FeatureStore) -> None:
    age(renewed.root)
    os.utime(renewed.root / "specs" / f"{SPEC.fingerprint}.json")
    assert gc(renewed, superseded=True).removed == ()


def test_damage_supersedes_nothing(renewed: FeatureStore) -> None:
    fragments(renewed, NEWER)[0].write_bytes(b"PAR1")
    assert gc(renewed, older_than_s=0, superseded=True).removed == ()
    path = renewed.root / "specs" / f"{NEWER.fingerprint}.json"
    path.write_text("{")
    assert gc(renewed, older_than_s=0, superseded=True).removed == ()


def test_killed_while_a_superseded_feature_goes(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, "ab")
    add(store, "c", absent="d")
    add(store, "abcd", 64, spec=NEWER)
    before = read(store, NEWER)

    def act(found: FeatureStore) -> GcReport:
        return gc(found, older_than_s=0, superseded=True)

    for number, found in enumerate(killed_at_every_step(store.root, tmp_path, monkeypatch, act)):
        assert read(found, NEWER) == before
        assert_sound(found)
        if number % 2:
            continue
        act(found)
        assert found.specs() == [NEWER]
        assert read(found, NEWER) == before
        assert verify_store(found, 2).notes == ()
