"""verify_store: each kind of damage is found at its level, sound stores have no findings, nothing is changed."""

import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmdf.cache.errors import CacheError, UsageError
from mmdf.cache.ledger import Failure, Seen
from mmdf.cache.parts import Part, read_part, write_part
from mmdf.cache.spec import FeatureSpec
from mmdf.cache.store import FeatureStore
from mmdf.cache.verify import Finding, verify_store

DIM = 3
SPEC = FeatureSpec("toy", "frame", "picture", DIM, None, "none", "last", "mean", "none", "float32", "float16")


def key(name: str) -> bytes:
    return name.encode() * 16


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parts (a, b, A absent) and (d), and a part of one absent sample."""
    found = FeatureStore.open(tmp_path_factory.mktemp("template") / "store", create=True)
    for names in ("ab", "d", ""):
        writer = found.writer(SPEC, "run")
        for name in names:
            writer.add(key(name), np.full((2, DIM), ord(name)) + np.arange(2)[:, None], np.arange(2.0))
        if names != "d":
            writer.absent(key(names[:1] or "e").upper(), "no face")
        writer.commit()
    found.ledger.add_samples([Seen("a", 1, 1, key("a"))])
    found.ledger.add_failures([Failure(None, "x", "x.mp4", SPEC.fingerprint, "decode", "MediaError", "cut")], "run")
    return found.root


@pytest.fixture
def store(template: Path, tmp_path: Path) -> FeatureStore:
    """A copy of `template` to be damaged."""
    return FeatureStore.open(shutil.copytree(template, tmp_path / "store"))


def fragment(store: FeatureStore, n_rows: int = 3) -> Path:
    paths = (store.root / "index" / SPEC.fingerprint).iterdir()
    return next(path for path in paths if pq.read_metadata(path).num_rows == n_rows)


def part(store: FeatureStore) -> Path:
    """The folder of the part (a, b)."""
    folder = pq.read_table(fragment(store)).column("folder")[0].as_py()
    return store.root / "features" / SPEC.fingerprint / "parts" / folder


def edit(store: FeatureStore, column: str, row: int, value: object) -> None:
    path = fragment(store)
    table = pq.read_table(path)
    number, field = table.schema.get_field_index(column), table.schema.field(column)
    values = table.column(column).to_pylist()
    values[row] = value
    pq.write_table(table.set_column(number, field, pa.array(values, field.type)), path)


def rewrite(store: FeatureStore, change: Callable[[Part], None]) -> None:
    """Replace the part (a, b) by one whose checksums are right and whose content is not what was committed."""
    folder = part(store)
    content = read_part(folder)
    change(content)
    shutil.rmtree(folder)
    write_part(folder, content)


def levels_that_find(store: FeatureStore) -> list[int]:
    return [level for level in (0, 1, 2) if verify_store(store, level).findings]


def only_finding(store: FeatureStore, level: int) -> Finding:
    findings = verify_store(store, level).findings
    assert len(findings) == 1
    return findings[0]


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_sound_store_has_no_findings_and_is_counted(store: FeatureStore, level: int) -> None:
    before = {path: path.stat().st_mtime_ns for path in store.root.rglob("*")}
    report = verify_store(store, level)
    assert (report.findings, report.notes) == ((), ())
    assert (report.n_parts, report.n_samples) == (3, 5)
    parts = (store.root / "features" / SPEC.fingerprint / "parts").rglob("*")
    assert report.bytes_ == sum(path.stat().st_size for path in parts if path.is_file())
    assert {path: path.stat().st_mtime_ns for path in store.root.rglob("*")} == before


def test_an_empty_store_is_sound(tmp_path: Path) -> None:
    report = verify_store(FeatureStore.open(tmp_path / "store", create=True), 2)
    assert (report.findings, report.notes, report.n_parts, report.bytes_) == ((), (), 0, 0)


@pytest.mark.parametrize("level", [-1, 3])
def test_a_level_that_does_not_exist_is_refused(store: FeatureStore, level: int) -> None:
    with pytest.raises(UsageError, match=f"no level {level}"):
        verify_store(store, level)


def test_a_missing_part_is_found_at_level_0_with_the_remedy(store: FeatureStore) -> None:
    shutil.rmtree(part(store))
    finding = only_finding(store, 0)
    assert (finding.feature, finding.sample_key) == ("toy/frame", None)
    assert finding.part == fragment(store).stem.removeprefix("frag-")
    assert finding.remedy.startswith(f"Delete {fragment(store)} and run `mmdf extract` again")


@pytest.mark.parametrize(
    "name", ["data/c/0/0", "times_s/c/0", "indices/c/0", "offsets/c/0", "data/zarr.json", "zarr.json"]
)
def test_a_missing_or_short_file_is_found_at_level_0(store: FeatureStore, name: str) -> None:
    path = part(store) / name
    path.write_bytes(path.read_bytes()[:-2])
    assert levels_that_find(store) == [0, 1, 2]
    path.unlink()
    assert levels_that_find(store) == [0, 1, 2]


@pytest.mark.parametrize("name", ["data/c/0/0", "times_s/c/0", "offsets/c/0"])
def test_a_flipped_byte_is_found_at_level_1(store: FeatureStore, name: str) -> None:
    path = part(store) / name
    content = bytearray(path.read_bytes())
    content[1] ^= 0x20
    path.write_bytes(content)
    assert levels_that_find(store) == [1, 2]
    assert "damaged" in only_finding(store, 1).problem


def raise_value(content: Part) -> None:
    content.values[3, 0] += 1


def put_infinity(content: Part) -> None:
    content.values[3, 0] = np.inf


def shift_times(content: Part) -> None:
    content.times_s[:] += 1


def move_border(content: Part) -> None:
    content.offsets[1] = 3


@pytest.mark.parametrize(
    ("change", "problem", "names"),
    [
        (raise_value, "row_crc32", "b"),
        (put_infinity, "row_crc32", "b"),
        (shift_times, "begins at", "ab"),
        (move_border, "disagree on where it lies", "ab"),
    ],
)
def test_a_sample_that_differs_from_its_record_is_found_at_level_2(
    store: FeatureStore, change: Callable[[Part], None], problem: str, names: str
) -> None:
    rewrite(store, change)
    assert levels_that_find(store) == [2]
    findings = verify_store(store, 2).findings
    assert [finding.sample_key for finding in findings] == [key(name).hex() for name in names]
    assert all(problem in finding.problem for finding in findings)


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("row_crc32", 1, "row_crc32"),
        ("norm_mean", 1.0, "mean norm"),
        ("norm_mean", None, "mean norm"),
        ("t0_s", 9.0, "begins at"),
        ("start", 1, "disagree on where it lies"),
    ],
)
def test_a_record_that_differs_from_its_sample_is_found_at_level_2(
    store: FeatureStore, column: str, value: object, problem: str
) -> None:
    edit(store, column, 1, value)
    assert levels_that_find(store) == [2]
    finding = only_finding(store, 2)
    assert finding.sample_key == key("b").hex()
    assert problem in finding.problem


def test_a_value_that_is_not_finite_is_found_even_if_it_was_committed(store: FeatureStore) -> None:
    rewrite(store, put_infinity)
    edit(store, "row_crc32", 1, crc32_of_second_sample(store))
    assert only_finding(store, 2).problem == "it holds NaN or infinity"


def crc32_of_second_sample(store: FeatureStore) -> int:
    return zlib.crc32(read_part(part(store)).values[2:].tobytes())


@pytest.mark.parametrize(
    ("column", "row", "value", "problem"),
    [
        ("n_steps", 1, 1, "samples, steps and columns"),
        ("sample_key", 0, key("z"), "not the hash of the samples"),
        ("part_id", 0, "0" * 32, "not the hash of the samples"),
        ("folder", 1, "elsewhere", "more than one folder"),
    ],
)
def test_a_record_that_contradicts_itself_is_found_at_level_0(
    store: FeatureStore, column: str, row: int, value: object, problem: str
) -> None:
    edit(store, column, row, value)
    assert problem in only_finding(store, 0).problem


def test_a_record_under_another_features_folder_is_found(store: FeatureStore) -> None:
    for name in ("index", "features"):
        (store.root / name / SPEC.fingerprint).rename(store.root / name / ("0" * 32))
    findings = verify_store(store, 0).findings
    assert {finding.feature for finding in findings} == {"0" * 32}
    assert sum("is missing" in finding.problem for finding in findings) == 1
    assert sum("not the hash" in finding.problem for finding in findings) == 3


@pytest.mark.parametrize("keep", [0, 50])
def test_a_damaged_fragment_is_found_and_its_part_is_no_surplus(store: FeatureStore, keep: int) -> None:
    path = fragment(store)
    path.write_bytes(path.read_bytes()[:keep])
    report = verify_store(store, 0)
    assert [finding.part for finding in report.findings] == [path.stem.removeprefix("frag-")]
    assert (report.n_parts, report.n_samples, report.notes) == (2, 2, ())


def test_an_empty_fragment_is_found(store: FeatureStore) -> None:
    pq.write_table(pq.read_table(fragment(store)).slice(0, 0), fragment(store))
    assert "no rows" in only_finding(store, 0).problem


@pytest.mark.parametrize("name", ["samples", "failures"])
def test_a_damaged_record_of_the_ledger_is_found(store: FeatureStore, name: str) -> None:
    path = next((store.root / name).iterdir())
    path.write_bytes(b"PAR1")
    assert only_finding(store, 0).feature == name


def test_an_altered_spec_is_found_and_the_rest_is_still_checked(store: FeatureStore) -> None:
    path = store.root / "specs" / f"{SPEC.fingerprint}.json"
    path.write_text(path.read_text().replace('"mean"', '"max"'))
    report = verify_store(store, 2)
    assert ["was altered" in finding.problem for finding in report.findings] == [True]
    assert report.n_parts == 3
    with pytest.raises(CacheError):
        store.specs()


def test_a_lost_spec_is_found(store: FeatureStore) -> None:
    (store.root / "specs" / f"{SPEC.fingerprint}.json").unlink()
    finding = only_finding(store, 0)
    assert (finding.feature, finding.part) == (SPEC.fingerprint, None)


def test_what_nothing_names_is_a_note_with_its_size(store: FeatureStore) -> None:
    parts = store.root / "features" / SPEC.fingerprint / "parts"
    orphan = parts / f"{'1' * 32}-00000000"
    loser = parts / f"{part(store).name.partition('-')[0]}-00000000"
    for folder in (orphan, loser, store.root / "tmp" / "left"):
        (folder / "c").mkdir(parents=True)
        (folder / "c" / "0").write_bytes(b"x" * 10)
    (store.root / "tmp" / "left.parquet").write_bytes(b"x" * 5)
    report = verify_store(store, 2)
    assert report.findings == ()
    wanted = {path.relative_to(store.root).as_posix(): 10 for path in (orphan, loser, store.root / "tmp" / "left")}
    assert {note.path: note.bytes_ for note in report.notes} == wanted | {"tmp/left.parquet": 5}
