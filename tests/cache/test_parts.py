"""Parts: bit-equal round trips, and no damage to any byte of any file that goes unnoticed."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmdf.cache import parts
from mmdf.cache.errors import CacheError
from mmdf.cache.parts import Part, check_files, part_id, read_part, write_part


def make_part(n_steps: list[int], dim: int = 4, dtype: str = "float16") -> Part:
    total = sum(n_steps)
    rng = np.random.default_rng(total)
    values = rng.standard_normal((total, dim)).astype(dtype)
    return Part(values, np.arange(total) * 0.5, np.cumsum([0, *n_steps], dtype=np.int64), np.arange(total) * 7)


def same(one: Part, other: Part) -> bool:
    pairs = [(one.values, other.values), (one.times_s, other.times_s), (one.offsets, other.offsets)]
    return all(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in pairs)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("n_steps", [[1], [3, 1, 7], []])
def test_a_part_comes_back_bit_for_bit(tmp_path: Path, n_steps: list[int], dtype: str) -> None:
    part = make_part(n_steps, 4, dtype)
    write_part(tmp_path / "part", part)
    assert same(read_part(tmp_path / "part"), part)
    assert check_files(tmp_path / "part") == (len(n_steps), sum(n_steps), 4)


def test_a_large_part_has_chunks_of_at_most_8_mib(tmp_path: Path) -> None:
    part = make_part([30_000, 10_000], 300)
    write_part(tmp_path / "part", part)
    assert same(read_part(tmp_path / "part"), part)
    sizes = [path.stat().st_size for path in (tmp_path / "part" / "data" / "c").glob("*/*")]
    assert len(sizes) == 3
    assert max(sizes) <= parts.CHUNK_BYTES + parts.CRC_BYTES


def test_a_single_step_that_is_wider_than_a_chunk_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "CHUNK_BYTES", 64)
    part = make_part([2, 1], 100)
    write_part(tmp_path / "part", part)
    assert same(read_part(tmp_path / "part"), part)


def test_what_is_not_data_is_refused_while_writing(tmp_path: Path) -> None:
    part = make_part([2])
    part.values[0] = np.nan
    with pytest.raises(CacheError):
        write_part(tmp_path / "part", part)


@pytest.mark.parametrize("offsets", [[1, 2, 3], [0, 4, 3], [-1, 2, 3]])
def test_offsets_that_do_not_ascend_from_zero_are_refused(tmp_path: Path, offsets: list[int]) -> None:
    part = make_part([2, 1])
    with pytest.raises(CacheError, match="do not ascend from 0"):
        write_part(tmp_path / "part", replace(part, offsets=np.array(offsets)))


def test_the_id_of_a_part_knows_feature_samples_and_order() -> None:
    a, b = b"a" * 16, b"b" * 16
    assert part_id("f", [a, b]) == part_id("f", [a, b])
    assert len({part_id("f", [a, b]), part_id("f", [b, a]), part_id("g", [a, b]), part_id("f", [a])}) == 4


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Part]:
    """A part of three data chunks in a few hundred bytes."""
    monkeypatch.setattr(parts, "CHUNK_BYTES", 64)
    part = make_part([1, 12, 7])
    write_part(tmp_path / "part", part)
    return tmp_path / "part", part


def damaged(path: Path, positions: Iterator[int], bits: int) -> Iterator[int]:
    """Flip `bits` at each position in turn; the file is whole again afterwards."""
    content = path.read_bytes()
    for position in positions:
        changed = bytearray(content)
        changed[position] ^= bits
        path.write_bytes(changed)
        yield position
    path.write_bytes(content)


@pytest.mark.parametrize(
    "name", ["data/c/0/0", "data/c/1/0", "data/c/2/0", "times_s/c/0", "indices/c/0", "offsets/c/0"]
)
def test_a_flipped_byte_in_a_chunk_is_always_noticed(small: tuple[Path, Part], name: str) -> None:
    folder, part = small
    size = (folder / name).stat().st_size
    for _ in damaged(folder / name, iter(range(0, size, 3)), 0x10):
        with pytest.raises(CacheError, match="Delete its fragment"):
            read_part(folder)
    assert same(read_part(folder), part)


@pytest.mark.parametrize(
    "name", ["zarr.json", "data/zarr.json", "times_s/zarr.json", "indices/zarr.json", "offsets/zarr.json"]
)
def test_a_flipped_byte_in_the_metadata_is_noticed_or_changes_nothing(small: tuple[Path, Part], name: str) -> None:
    folder, part = small
    size = (folder / name).stat().st_size
    n_noticed = 0
    for position in damaged(folder / name, iter(range(0, size, 5)), 0x01):
        try:
            found = read_part(folder)
        except CacheError:
            n_noticed += 1
        else:
            assert same(found, part), f"byte {position} of {name} changes what is read"
    assert n_noticed > size // 20


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("data/zarr.json", "20,\n    4", "21,\n    4"),
        ("data/zarr.json", "20,\n    4", "2,\n    4"),
        ("data/zarr.json", "20,\n    4", "20,\n    5"),
        ("data/zarr.json", "20,\n    4", "20,\n    3"),
        ("data/zarr.json", "8,\n        4", "0,\n        4"),
        ("data/zarr.json", '"/"', '"."'),
        ("data/zarr.json", "float16", "float32"),
        ("times_s/zarr.json", "20", "10"),
        ("indices/zarr.json", "20", "10"),
        ("offsets/zarr.json", '"/"', '"."'),
        ("offsets/zarr.json", "4\n  ]", "3\n  ]"),
        ("offsets/zarr.json", "4\n  ]", "7\n  ]"),
    ],
)
def test_metadata_that_lie_about_shape_or_place_are_noticed(
    small: tuple[Path, Part], name: str, old: str, new: str
) -> None:
    folder, _ = small
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1))
    with pytest.raises(CacheError, match="Delete its fragment"):
        read_part(folder)


def every_file(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_missing_file_is_noticed_whichever_it_is(small: tuple[Path, Part]) -> None:
    folder, part = small
    assert len(every_file(folder)) == 11
    for path in every_file(folder):
        content = path.read_bytes()
        path.unlink()
        for check in (read_part, check_files):
            with pytest.raises(CacheError, match="Delete its fragment"):
                check(folder)
        path.write_bytes(content)
    assert same(read_part(folder), part)


def test_a_file_that_was_cut_short_is_noticed_whichever_it_is(small: tuple[Path, Part]) -> None:
    folder, _ = small
    for path in every_file(folder):
        content = path.read_bytes()
        for n_bytes in (0, len(content) // 2, len(content) - 1):
            path.write_bytes(content[:n_bytes])
            for check in (read_part, check_files):
                with pytest.raises(CacheError, match="Delete its fragment"):
                    check(folder)
        path.write_bytes(content)


def test_swapped_chunks_of_another_part_do_not_fit_its_offsets(small: tuple[Path, Part], tmp_path: Path) -> None:
    folder, _ = small
    write_part(tmp_path / "other", make_part([5]))
    shutil.rmtree(folder / "offsets")
    shutil.copytree(tmp_path / "other" / "offsets", folder / "offsets")
    with pytest.raises(CacheError, match="for 5 steps"):
        read_part(folder)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="nowhere"):
        read_part(tmp_path / "nowhere")


def test_a_disk_that_reads_back_other_values_stops_the_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = make_part([3])
    monkeypatch.setattr(parts, "read_part", lambda folder: make_part([2, 1]))
    with pytest.raises(CacheError, match="reads back other than it was written"):
        write_part(tmp_path / "part", part)
