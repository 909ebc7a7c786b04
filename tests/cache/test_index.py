"""The index: damage to a commit record or to the part it names is refused, never read as something else."""

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmdf.cache.errors import CacheError
from mmdf.cache.index import SCHEMA, Committed, commit_table, read_fragment
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


def fragments(store: FeatureStore) -> list[Path]:
    return sorted((store.root / "index" / SPEC.fingerprint).iterdir())


def part_folders(store: FeatureStore) -> list[Path]:
    return sorted((store.root / "features" / SPEC.fingerprint / "parts").iterdir())


def test_a_flipped_byte_in_a_part_stops_the_reading_and_names_the_remedy(full: FeatureStore) -> None:
    path = part_folders(full)[0] / "data" / "c" / "0" / "0"
    content = bytearray(path.read_bytes())
    content[3] ^= 0x40
    path.write_bytes(content)
    with pytest.raises(CacheError, match="Delete its fragment under index/ and run `mmdf extract` again"):
        full.read(SPEC, manifest("a", "b", "c", "d"))


def test_a_deleted_chunk_is_never_zeros(full: FeatureStore) -> None:
    for folder in part_folders(full):
        (folder / "data" / "c" / "0" / "0").unlink()
    with pytest.raises(CacheError, match="a chunk file is missing"):
        full.read(SPEC, manifest("a"))


def test_the_remedy_works(full: FeatureStore) -> None:
    items = manifest("a", "b", "c", "d")
    whole = full.read(SPEC, items)
    index = full.index(SPEC)
    folder = index.folders[index.part[index.position[key("a")]]]
    shutil.rmtree(full.root / "features" / SPEC.fingerprint / "parts" / folder)
    with pytest.raises(CacheError):
        FeatureStore.open(full.root).read(SPEC, items)
    (full.root / "index" / SPEC.fingerprint / f"frag-{folder.partition('-')[0]}.parquet").unlink()
    again = FeatureStore.open(full.root)
    assert again.missing(items, SPEC) == ["a", "b"]
    commit(again, "a", "b")
    np.testing.assert_array_equal(FeatureStore.open(full.root).read(SPEC, items).values, whole.values)


@pytest.mark.parametrize("n_left", [0, 4, 100, -1])
def test_a_truncated_fragment_is_named_with_the_remedy(full: FeatureStore, n_left: int) -> None:
    path = fragments(full)[0]
    path.write_bytes(path.read_bytes()[:n_left])
    with pytest.raises(CacheError, match="Delete it and run `mmdf extract` again") as caught:
        full.read(SPEC, manifest("a"))
    assert str(path) in str(caught.value)


def test_a_flipped_byte_in_a_page_of_a_fragment_is_noticed(full: FeatureStore) -> None:
    path = fragments(full)[0]
    content = path.read_bytes()
    # The last eight bytes hold the length of the footer; pages lie before it.
    n_pages = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    n_noticed = 0
    intact = read_fragment(path)
    for position in range(4, n_pages, 7):
        changed = bytearray(content)
        changed[position] ^= 0x08
        path.write_bytes(changed)
        try:
            assert read_fragment(path).equals(intact), f"byte {position} changes what is read"
        except CacheError:
            n_noticed += 1
    assert n_noticed > n_pages // 7 // 2


def test_a_foreign_parquet_file_in_the_index_is_refused(full: FeatureStore) -> None:
    pq.write_table(pa.table({"sample_key": [key("a")]}), fragments(full)[0])
    with pytest.raises(CacheError, match="is damaged"):
        full.read(SPEC, manifest("a"))


@pytest.mark.parametrize("column", ["sample_key", "folder", "start", "n_steps"])
def test_a_row_of_the_index_that_names_nothing_is_refused(full: FeatureStore, column: str) -> None:
    path = fragments(full)[0]
    table = pq.read_table(path)
    number = table.schema.get_field_index(column)
    empty = pa.nulls(len(table), table.schema.field(column).type)
    pq.write_table(table.set_column(number, column, empty), path)
    with pytest.raises(CacheError, match="is damaged"):
        full.read(SPEC, manifest("a"))


@pytest.mark.parametrize(("column", "value"), [("start", 3), ("start", -1), ("n_steps", 5)])
def test_an_index_that_points_outside_of_its_part_is_refused(full: FeatureStore, column: str, value: int) -> None:
    path = fragments(full)[0]
    table = pq.read_table(path)
    number = table.schema.get_field_index(column)
    field = table.schema.field(column)
    pq.write_table(table.set_column(number, field, pa.array([value] * len(table), field.type)), path)
    with pytest.raises(CacheError, match="not what the index and the spec of toy/frame say"):
        full.read(SPEC, manifest("a", "b", "c", "d"))


@pytest.mark.parametrize("change", [{"dim": DIM + 1}, {"storage_dtype": "float32"}])
def test_a_part_of_another_width_or_dtype_is_refused(full: FeatureStore, change: dict) -> None:
    other = replace(SPEC, **change)
    for name in ("features", "index"):
        shutil.copytree(full.root / name / SPEC.fingerprint, full.root / name / other.fingerprint)
    with pytest.raises(CacheError, match="not what the index and the spec"):
        full.read(other, manifest("a"))


def test_a_disk_without_hard_links_is_named_and_nothing_becomes_visible(
    full: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", refuse)
        with pytest.raises(CacheError, match="needs a disk with hard links"):
            commit(full, "e")
    assert FeatureStore.open(full.root).missing(manifest("a", "e"), SPEC) == ["e"]


def test_committed_keys_follow_what_others_commit(tmp_path: Path) -> None:
    committed = Committed(tmp_path / "index")
    committed.update()
    assert b"a" * 16 not in committed
    (tmp_path / "index").mkdir()
    for number, key in enumerate((b"a" * 16, b"b" * 16)):
        rows = [
            {
                "sample_key": key, "part_id": str(number), "folder": str(number), "start": 0, "n_steps": 1,
                "row_crc32": 0, "committed_at_ns": number,
            }
        ]  # fmt: skip
        path = tmp_path / "index" / f"frag-{number}.parquet"
        commit_table(pa.Table.from_pylist(rows, schema=SCHEMA), path, tmp_path / "tmp" / "t.parquet")
        committed.update()
        assert key in committed
    (tmp_path / "index" / "frag-2.parquet").write_bytes(b"damaged")
    with pytest.raises(CacheError, match="damaged"):
        committed.update()
