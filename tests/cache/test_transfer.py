"""Export and import: the same bits come back, nothing half-written is left, and files of strangers do no harm."""

import json
import os
import shutil
import tempfile
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mmdf.cache import exchange, transfer
from mmdf.cache.errors import CacheError, DataError, UsageError
from mmdf.cache.ledger import Seen
from mmdf.cache.manifest import Item, Manifest
from mmdf.cache.spec import FeatureSpec
from mmdf.cache.store import FeatureStore, Ragged
from mmdf.cache.transfer import export_h5, import_h5
from mmdf.cache.transfer_items import export_items, import_items
from mmdf.cache.transfer_npy import export_npy, open_npy
from mmdf.cache.verify import verify_store

DIM = 3
SPEC = FeatureSpec("toy", "frame", "picture", DIM, 0.5, "one", "last", "mean", "none", "float32", "float16")
WIDE = replace(SPEC, backbone="wide", storage_dtype="float32", hop_s=None, shape=(3, 1), variant="layers-all")
NAMES = ("a", "clips/b é.mp4", "c", "d", "e")
STEPS = {"a": 2, "clips/b é.mp4": 1, "c": 40, "d": 0}


def key(name: str) -> bytes:
    return name.encode().ljust(16, b"\0")[:16]


def manifest(*names: str, root: Path = Path("/data")) -> Manifest:
    return Manifest.of([Item(name, f"{name}.png", "image", size_bytes=10) for name in names], root)


ITEMS = manifest(*NAMES)


def fill(store: FeatureStore, spec: FeatureSpec = SPEC) -> FeatureStore:
    """Items a, b, c with steps, d known to have none, e unknown."""
    rng = np.random.default_rng(0)
    writer = store.writer(spec, "run")
    for name, n_steps in STEPS.items():
        if n_steps:
            writer.add(key(name), rng.normal(size=(n_steps, DIM)), rng.uniform(0, 9, n_steps), np.arange(n_steps) * 7)
        else:
            writer.absent(key(name), "no face")
    writer.commit()
    store.ledger.add_samples([Seen(name, 10, 5, key(name)) for name in STEPS])
    return store


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return fill(FeatureStore.open(tmp_path / "store", create=True))


@pytest.fixture
def empty(tmp_path: Path) -> FeatureStore:
    return FeatureStore.open(tmp_path / "empty", create=True)


def same(one: Ragged, other: Ragged) -> bool:
    pairs = ((getattr(one, name), getattr(other, name)) for name in ("values", "offsets", "times_s", "indices"))
    return all(a.tobytes() == b.tobytes() and a.shape == b.shape and a.dtype == b.dtype for a, b in pairs)


def assert_sound(store: FeatureStore) -> None:
    assert verify_store(FeatureStore.open(store.root), 2).findings == ()


def left_over(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*.tmp")]


# One file


def test_one_file_holds_features_and_gives_them_back(store: FeatureStore, empty: FeatureStore, tmp_path: Path) -> None:
    fill(store, WIDE)
    file = tmp_path / "out" / "features.h5"
    report = export_h5(store, ITEMS, file, store.specs())
    one = report.features[0]
    assert (one.name, one.n_items, one.n_absent, one.n_skipped, one.n_steps) == ("toy/frame", 3, 1, 1, 43)
    assert one.bytes_ == 43 * DIM * 2
    back = import_h5(empty, file)
    assert (back.problems, back.exit_code) == ((), 0)
    assert [replace(f, n_skipped=1) for f in back.features] == list(report.features)
    assert empty.specs() == store.specs()
    for spec in (SPEC, WIDE):
        assert same(empty.read(spec, ITEMS), store.read(spec, ITEMS))
        assert empty.missing(ITEMS, spec) == ["e"]
        assert empty.index(spec).reason[empty.index(spec).position[key("d")]] == "no face"
    assert empty.ledger.samples() == store.ledger.samples()
    assert_sound(empty)
    assert left_over(tmp_path) == []
    assert "toy/frame" in report.to_text()
    assert json.loads(json.dumps(report.to_dict()))["features"][1]["name"] == "wide/frame+layers-all"


def test_the_layout_is_what_the_documentation_says(store: FeatureStore, tmp_path: Path) -> None:
    export_h5(store, ITEMS, tmp_path / "f.h5", [SPEC])
    ragged = store.read(SPEC, ITEMS)
    with h5py.File(tmp_path / "f.h5") as file:
        group = file["toy/frame"]
        assert FeatureSpec.from_dict(json.loads(group.attrs["spec"])) == SPEC
        assert (group["data"][...] == ragged.values).all()
        assert group["offsets"][...].tolist() == ragged.offsets.tolist()[:-1]
        assert group["item_ids"].asstr()[...].tolist() == list(STEPS)
        assert [row.tobytes() for row in group["sample_keys"][...]] == [key(name) for name in STEPS]
        assert group["data"].fletcher32


def test_importing_again_or_into_what_overlaps_adds_only_what_lacks(store: FeatureStore, tmp_path: Path) -> None:
    export_h5(store, ITEMS, tmp_path / "f.h5", [SPEC])
    before = store.read(SPEC, ITEMS)
    again = import_h5(store, tmp_path / "f.h5").features[0]
    assert (again.n_items, again.n_absent, again.n_skipped) == (0, 0, 4)
    part = FeatureStore.open(tmp_path / "part", create=True)
    writer = part.writer(SPEC, "run")
    writer.add(key("a"), np.ones((5, DIM)), np.arange(5.0))
    writer.commit()
    part.ledger.add_samples([Seen("a", 10, 6, key("a"))])
    assert import_h5(part, tmp_path / "f.h5").features[0].n_items == 2
    assert part.read(SPEC, ITEMS).n_steps.tolist() == [5, 1, 40, 0, 0]
    assert part.ledger.samples().latest["a"].mtime_ns == 6
    assert same(store.read(SPEC, ITEMS), before)
    assert_sound(part)


def test_two_features_of_one_alias_have_groups_of_their_own(store: FeatureStore, tmp_path: Path) -> None:
    half = replace(SPEC, compute_dtype="float16")
    fill(store, half)
    export_h5(store, ITEMS, tmp_path / "f.h5", [SPEC, half])
    with h5py.File(tmp_path / "f.h5") as file:
        assert set(file["toy"]) == {f"frame@{spec.fingerprint[:8]}" for spec in (SPEC, half)}


def test_a_store_without_these_items_gives_an_empty_group(store: FeatureStore, empty: FeatureStore, tmp_path: Path):
    export_h5(store, manifest("e"), tmp_path / "f.h5", [SPEC])
    assert import_h5(empty, tmp_path / "f.h5").features[0].n_items == 0
    assert_sound(empty)


def test_small_blocks_give_the_same(
    store: FeatureStore, empty: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "BLOCK_BYTES", 20)
    export_h5(store, ITEMS, tmp_path / "f.h5", [SPEC])
    export_npy(store, ITEMS, tmp_path / "npy", SPEC)
    import_h5(empty, tmp_path / "f.h5")
    assert same(empty.read(SPEC, ITEMS), store.read(SPEC, ITEMS))
    assert same(open_npy(tmp_path / "npy"), store.read(SPEC, ITEMS))
    assert verify_store(empty, 2).n_parts > 1


def damage_part(store: FeatureStore) -> None:
    path = next((store.root / "features").rglob("data/c/0/0"))
    content = bytearray(path.read_bytes())
    content[1] ^= 0x20
    path.write_bytes(content)


@pytest.mark.parametrize(
    "export",
    [
        lambda store, path: export_h5(store, ITEMS, path, [SPEC]),
        lambda store, path: export_npy(store, ITEMS, path, SPEC),
        lambda store, path: export_items(store, ITEMS, path, SPEC),
    ],
)
def test_an_export_is_whole_or_not_there(
    store: FeatureStore, tmp_path: Path, export: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out" / "target"

    def refuse(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refuse)
        with pytest.raises(CacheError, match=r"No space left on device.*Make room"):
            export(store, target)
    assert list((tmp_path / "out").iterdir()) == []
    export(store, target)
    with pytest.raises(UsageError, match="There is something at"):
        export(store, target)
    damage_part(store)
    with pytest.raises(CacheError, match="damaged"):
        export(store, tmp_path / "out" / "other")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["target"]


def test_nothing_to_export_is_refused(store: FeatureStore, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cache ls"):
        export_h5(store, ITEMS, tmp_path / "f.h5", [])


def test_a_name_that_hdf5_would_cut_is_refused(store: FeatureStore, tmp_path: Path) -> None:
    store.ledger.add_samples([Seen("a\0b", 10, 5, key("a"))])
    with pytest.raises(DataError, match="NUL"):
        export_h5(store, manifest("a\0b"), tmp_path / "f.h5", [SPEC])
    assert list(tmp_path.glob("*f.h5*")) == []


# Files of strangers


def replace_dataset(name: str, **kwargs) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file["toy/frame"][name]
        file["toy/frame"].create_dataset(name, **kwargs)

    return change


def set_attribute(group: str, name: str, value: object) -> Callable[[h5py.File], None]:
    return lambda file: file[group].attrs.__setitem__(name, value)


def link_outside(file: h5py.File) -> None:
    del file["toy/frame/data"]
    file["toy/frame/data"] = h5py.ExternalLink("outside.h5", "data")


def link_softly(file: h5py.File) -> None:
    file["toy/frame/elsewhere"] = file["toy/frame/data"][...]
    del file["toy/frame/data"]
    file["toy/frame/data"] = h5py.SoftLink("/toy/frame/elsewhere")


def link_the_group(file: h5py.File) -> None:
    del file["toy"]
    file["toy"] = h5py.ExternalLink("outside.h5", "toy")


def keep_outside(file: h5py.File) -> None:
    del file["toy/frame/data"]
    file["toy/frame"].create_dataset("data", (43, DIM), "f2", external=[("/etc/hostname", 0, 1000)])


def be_virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((43, DIM), "f2")
    layout[:] = h5py.VirtualSource("outside.h5", "data", (43, DIM))
    del file["toy/frame/data"]
    file["toy/frame"].create_virtual_dataset("data", layout)


OTHER_SPEC_JSON = json.dumps(replace(SPEC, weights_digest="two").to_dict())


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (link_outside, "link to elsewhere"),
        (link_softly, "link to elsewhere"),
        (link_the_group, "link to elsewhere"),
        (keep_outside, "in another file"),
        (be_virtual, "in another file"),
        (replace_dataset("data", shape=(10**12, DIM), dtype="f2", chunks=(4096, DIM)), "claims"),
        (replace_dataset("offsets", shape=(10**12,), dtype="i8", chunks=(4096,)), "claims"),
        (replace_dataset("data", data=np.ones((43, DIM), "f4")), "types other than"),
        (replace_dataset("data", data=np.ones((43, DIM + 1), "f2")), "has arrays of"),
        (replace_dataset("data", data=np.ones((42, DIM), "f2")), "has arrays of"),
        (replace_dataset("data", data=np.ones(43, "f2")), "expected 2 axes"),
        (replace_dataset("data", data=np.ones((43, DIM), "i2")), "not of the kind"),
        (replace_dataset("times_s", data=np.ones(42)), "has arrays of"),
        (replace_dataset("times_s", data=np.ones(43, "f4")), "types other than"),
        (replace_dataset("offsets", data=np.array([0, 3, 2, 43, 43])), "offsets"),
        (replace_dataset("offsets", data=np.array([1, 2, 3, 43, 43])), "offsets"),
        (replace_dataset("offsets", data=np.array([0, 43])), "has the shape"),
        (replace_dataset("sample_keys", data=np.zeros((4, 15), np.uint8)), "has the shape"),
        (replace_dataset("sample_keys", data=np.zeros((4, 16), np.uint16)), "offsets or keys"),
        (replace_dataset("item_ids", data=["a", "b", "c", "d"]), "not of the kind"),
        (replace_dataset("item_ids", data=np.array([b"\xff"] * 4)), "no UTF-8"),
        (replace_dataset("row_crc32", data=None, shape=(), dtype="u4"), "expected 1 axes"),
        (lambda file: file["toy/frame"].pop("times_s"), "is missing"),
        (set_attribute("toy/frame", "spec", "{"), "no spec"),
        (set_attribute("toy/frame", "spec", "[]"), "no spec"),
        (set_attribute("toy/frame", "spec", OTHER_SPEC_JSON), "altered"),
        (set_attribute("toy/frame", "fingerprint", "0" * 32), "altered"),
        (set_attribute("/", "features", '["toy/face"]'), "is missing"),
        (set_attribute("/", "features", '["toy/frame/data"]'), "should be a group"),
        (set_attribute("/", "features", "5"), "does not say"),
        (set_attribute("/", "version", 2), "not an export"),
        (set_attribute("/", "format", "x"), "not an export"),
        (set_attribute("/", "format", 5), "lacks the text"),
    ],
)
def test_a_file_that_lies_is_refused_and_the_store_stays_as_it_was(
    store: FeatureStore, empty: FeatureStore, tmp_path: Path, change: Callable, problem: str
) -> None:
    path = tmp_path / "f.h5"
    export_h5(store, ITEMS, path, [SPEC])
    with h5py.File(tmp_path / "outside.h5", "w") as outside:
        outside["data"] = store.read(SPEC, ITEMS).values
    with h5py.File(path, "a") as file:
        change(file)
    tracemalloc.start()
    with pytest.raises(DataError, match=problem):
        import_h5(empty, path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6
    assert empty.specs() == []


def test_an_item_with_other_bytes_is_left_out(store: FeatureStore, empty: FeatureStore, tmp_path: Path) -> None:
    export_h5(store, ITEMS, tmp_path / "f.h5", [SPEC])
    with h5py.File(tmp_path / "f.h5", "a") as file:
        file["toy/frame/data"][1, 0] += 1
        file["toy/frame/times_s"][5] = np.nan
    report = import_h5(empty, tmp_path / "f.h5")
    assert report.exit_code == 3
    assert "its bytes are not those that were exported" in report.problems[0]
    assert "a step without a time" in report.problems[1]
    assert empty.read(SPEC, ITEMS).n_steps.tolist() == [0, 1, 0, 0, 0]
    assert_sound(empty)


def test_flipped_and_missing_bytes_never_give_other_numbers(store: FeatureStore, tmp_path: Path) -> None:
    export_h5(store, ITEMS, tmp_path / "f.h5", [SPEC])
    content = (tmp_path / "f.h5").read_bytes()
    wanted = store.read(SPEC, ITEMS)
    n_refused = 0
    for number, position in enumerate(range(0, len(content), 1999)):
        changed = bytearray(content)
        changed[position] ^= 0x41
        (tmp_path / "f.h5").write_bytes(changed if number % 4 else content[:position])
        into = FeatureStore.open(tmp_path / f"into-{number}", create=True)
        try:
            report = import_h5(into, tmp_path / "f.h5")
        except DataError:
            n_refused += 1
            continue
        n_refused += bool(report.problems)
        got = into.read(SPEC, ITEMS) if into.specs() == [SPEC] else None
        if got is not None:
            for n_got, n_wanted in zip(got.n_steps, wanted.n_steps, strict=True):
                assert n_got in (0, n_wanted)
            if got.n_steps.tolist() == wanted.n_steps.tolist():
                assert same(got, wanted)
    assert n_refused > 3


def test_what_is_no_hdf5_is_told(empty: FeatureStore, tmp_path: Path) -> None:
    (tmp_path / "f.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"x" * 100)
    with pytest.raises(DataError, match="cannot be read as HDF5"):
        import_h5(empty, tmp_path / "f.h5")
    with pytest.raises(DataError, match="No HDF5 file"):
        import_h5(empty, tmp_path / "g.h5")


FLOATS = hnp.arrays(np.float16, st.tuples(st.integers(0, 4), st.just(DIM)), elements=st.floats(-60000, 60000, width=16))


@given(st.lists(FLOATS, min_size=1, max_size=5), st.sampled_from(["float16", "float32"]))
@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_anything_comes_back_bit_for_bit(arrays: list[np.ndarray], storage_dtype: str) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        spec = replace(SPEC, storage_dtype=storage_dtype)
        store = FeatureStore.open(folder / "store", create=True)
        names = [f"item {number}" for number in range(len(arrays))]
        items, writer = manifest(*names), store.writer(spec, "run")
        for name, values in zip(names, arrays, strict=True):
            if len(values):
                writer.add(key(name), values, np.arange(len(values)) / 3)
            else:
                writer.absent(key(name), "nothing")
        writer.commit()
        store.ledger.add_samples([Seen(name, 10, 1, key(name)) for name in names])
        wanted = store.read(spec, items)
        export_h5(store, items, folder / "f.h5", [spec])
        export_npy(store, items, folder / "npy", spec)
        back = FeatureStore.open(folder / "back", create=True)
        import_h5(back, folder / "f.h5")
        assert same(back.read(spec, items), wanted)
        mapped = open_npy(folder / "npy")
        assert same(mapped, wanted)
        del mapped
        assert_sound(back)
    finally:
        shutil.rmtree(folder)


# .npy


def test_npy_files_are_mapped_and_cannot_be_written_to(store: FeatureStore, tmp_path: Path) -> None:
    report = export_npy(store, ITEMS, tmp_path / "npy", SPEC).features[0]
    assert (report.n_items, report.n_absent, report.n_skipped, report.n_steps) == (3, 1, 1, 43)
    found = open_npy(tmp_path / "npy")
    assert isinstance(found.values, np.memmap)
    assert same(found, store.read(SPEC, ITEMS))
    assert json.loads((tmp_path / "npy" / "item_ids.json").read_text()) == list(NAMES)
    with pytest.raises(ValueError, match="read-only"):
        found.values[0] = 0


def test_nothing_at_all_can_be_exported(store: FeatureStore, tmp_path: Path) -> None:
    export_npy(store, manifest("e"), tmp_path / "npy", SPEC)
    found = open_npy(tmp_path / "npy")
    assert (found.values.shape, found.offsets.tolist()) == ((0, DIM), [0, 0])


class Bomb:
    """Does something when it is unpickled."""

    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("bomb"),))


@pytest.mark.parametrize("name", ["values", "offsets", "times_s", "indices"])
def test_npy_files_that_lie_are_refused(store: FeatureStore, tmp_path: Path, name: str, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    export_npy(store, ITEMS, tmp_path / "npy", SPEC)
    path = tmp_path / "npy" / f"{name}.npy"
    content, array = path.read_bytes(), np.load(path)
    for write in (
        lambda: path.write_bytes(content[:-1]),
        lambda: path.write_bytes(content[:20]),
        lambda: path.write_bytes(b""),
        lambda: np.save(path, np.array([Bomb()], object), allow_pickle=True),
        lambda: np.save(path, array[:-1]),
        lambda: np.save(path, array.astype(np.float32 if name != "times_s" else np.float16)),
        lambda: np.save(path, array[None]),
        path.unlink,
    ):
        write()
        with pytest.raises(DataError, match=r"mmdf cache export --npy|Export them again"):
            open_npy(tmp_path / "npy")
    assert not (tmp_path / "bomb").exists()


# A file an item


@pytest.fixture
def media(tmp_path: Path) -> Manifest:
    """Three files with a manifest of them."""
    root = tmp_path / "media"
    for name in ("real/a.mp4", "fake/a.mp4", "fake/b.mp4"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    items = [Item(f"set/{name}", name, "video") for name in ("real/a.mp4", "fake/a.mp4", "fake/b.mp4")]
    return Manifest.of(items, root)


def write_features(path: Path, features: object, **others: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["features"] = features
        for name, values in others.items():
            file[name] = values


def test_a_file_an_item_has_the_names_of_clam_and_trident(store: FeatureStore, tmp_path: Path) -> None:
    report = export_items(store, ITEMS, tmp_path / "items", SPEC)
    assert (report.features[0].n_items, report.features[0].n_absent, report.features[0].n_skipped) == (3, 1, 1)
    files = {path.relative_to(tmp_path / "items").as_posix() for path in (tmp_path / "items").rglob("*.h5")}
    assert files == {"a.h5", "clips/b é.mp4.h5", "c.h5"}
    ragged = store.read(SPEC, manifest("c"))
    with h5py.File(tmp_path / "items" / "c.h5") as file:
        assert file["features"][...].tobytes() == ragged.values.tobytes()
        assert file["coords"].shape == (40, 2)
        assert file["coords"][:, 0].tolist() == ragged.indices.tolist()
        assert file["coords"][:, 1].tolist() == np.round(ragged.times_s * 1000).tolist()
        assert FeatureSpec.from_dict(json.loads(file["features"].attrs["spec"])) == SPEC


def test_items_come_back_under_the_name_they_are_given(
    store: FeatureStore, empty: FeatureStore, media: Manifest, tmp_path: Path
) -> None:
    first = import_items(store, media, write_all(tmp_path / "foreign", media), "uni/patch")
    assert (first.problems, first.features[0].n_items) == ((), 3)
    spec = store.find("uni/patch")
    assert (spec.dim, spec.storage_dtype, spec.weights_digest) == (4, "float32", "unknown")
    export_items(store, media, tmp_path / "items", spec)
    assert import_items(empty, media, tmp_path / "items", "uni/patch").features[0].n_items == 3
    assert same(empty.read(spec, media), store.read(spec, media))
    again = import_items(empty, media, tmp_path / "items", "uni/patch")
    assert (again.features[0].n_items, again.features[0].n_skipped, again.problems) == (0, 3, ())
    assert_sound(empty)


def write_all(folder: Path, media: Manifest) -> Path:
    for number, item in enumerate(media.items()):
        times_s = np.arange(number + 1) / 7
        features = np.arange((number + 1) * 4, dtype=np.float32).reshape(-1, 4) / 3 + number
        write_features(folder / f"{item.item_id}.h5", features, times_s=times_s, indices=np.arange(number + 1) * 9)
    return folder


def test_files_may_be_named_by_the_medium(empty: FeatureStore, media: Manifest, tmp_path: Path) -> None:
    """As CLAM does: the file's name without suffix. Two media are called a, so these need their folder."""
    folder = tmp_path / "foreign"
    write_features(folder / "real" / "a.h5", np.ones((1, 2, 4), np.float16), coords=np.zeros((2, 2), np.int64))
    write_features(folder / "a.h5", np.full((1, 4), 9, np.float16))
    write_features(folder / "b.h5", np.full((3, 4), 2, np.float16))
    report = import_items(empty, media, folder, "uni/patch", stream="picture", hop_s=0.5)
    assert (report.features[0].n_items, report.features[0].n_skipped) == (2, 1)
    ragged = empty.read(empty.find("uni"), media)
    assert ragged.values.dtype == np.float16
    assert ragged.n_steps.tolist() == [2, 0, 3]
    assert ragged.times_s.tolist() == [0.0, 0.5, 0.0, 0.5, 1.0]
    assert set(ragged.indices.tolist()) == {-1}


@pytest.mark.parametrize(
    ("features", "problem"),
    [
        (np.array([[1, 2, np.nan, 4]], np.float32), "NaN"),
        (np.full((1, 4), 1e300), "NaN, infinity"),
        (np.ones((2, 5), np.float32), "expected"),
        (np.ones((0, 4), np.float32), "expected"),
        (np.ones(4, np.float32), "expected 2 or 3 axes"),
        (np.ones((2, 2, 4), np.float32), "expected"),
        (np.ones((2, 4), np.int32), "not of the kind"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_and_the_rest_goes_on(
    empty: FeatureStore, media: Manifest, tmp_path: Path, features: np.ndarray, problem: str
) -> None:
    folder = write_all(tmp_path / "foreign", media)
    bad = next(path for path in folder.rglob("b.mp4.h5"))
    write_features(bad, features)
    report = import_items(empty, media, folder, "uni/patch")
    assert (len(report.problems), report.exit_code, report.features[0].n_items) == (1, 3, 2)
    assert report.problems[0].startswith("set/fake/b.mp4: ")
    assert problem in report.problems[0]
    assert "LEFT OUT: set/fake/b.mp4" in report.to_text()
    assert_sound(empty)


def test_damage_links_and_lost_media_are_told_per_file(empty: FeatureStore, media: Manifest, tmp_path: Path) -> None:
    folder = write_all(tmp_path / "foreign", media)
    first, second, third = (folder / f"{item.item_id}.h5" for item in media.items())
    first.write_bytes(first.read_bytes()[:500])
    with h5py.File(second, "w") as file:
        file["features"] = h5py.ExternalLink(str(third), "features")
    (media.root / "fake" / "b.mp4").unlink()
    report = import_items(empty, media, folder, "uni/patch")
    assert len(report.problems) == 3
    assert "link to elsewhere" in report.problems[1]
    assert report.features[0].n_items == 0


def test_times_of_another_length_are_told(empty: FeatureStore, media: Manifest, tmp_path: Path) -> None:
    folder = write_all(tmp_path / "foreign", media)
    write_features(next(folder.rglob("b.mp4.h5")), np.ones((3, 4), np.float32), times_s=np.arange(2.0))
    assert "for 3 steps" in import_items(empty, media, folder, "uni/patch").problems[0]


def test_other_values_under_one_name_are_told(empty: FeatureStore, media: Manifest, tmp_path: Path) -> None:
    folder = write_all(tmp_path / "foreign", media)
    import_items(empty, media, folder, "uni/patch")
    before = empty.read(empty.find("uni"), media)
    write_features(next(folder.rglob("b.mp4.h5")), np.ones((3, 4), np.float32))
    report = import_items(empty, media, folder, "uni/patch")
    assert ["import under another name" in problem for problem in report.problems] == [True]
    assert same(empty.read(empty.find("uni"), media), before)
    import_items(empty, media, folder, "uni/patch", weights_digest="two")
    assert len(empty.specs()) == 2


@pytest.mark.parametrize("item_id", ["../x", "/etc/x", "a/../../x", "a//b", "./a", "a\\b", "C:x", "a/", "a\0b"])
def test_item_ids_cannot_leave_the_folder(store: FeatureStore, tmp_path: Path, item_id: str) -> None:
    store.ledger.add_samples([Seen(item_id, 10, 5, key("a"))])
    items = Manifest.of([Item(item_id, "a.png", "image", size_bytes=10)], Path("/data"))
    with pytest.raises(DataError, match="cannot be the name of a file"):
        export_items(store, items, tmp_path / "deep" / "items", SPEC)
    assert not (tmp_path / "deep").exists()


def test_a_link_in_the_folder_cannot_lead_out_of_it(empty: FeatureStore, media: Manifest, tmp_path: Path) -> None:
    folder = write_all(tmp_path / "foreign", media)
    path = next(folder.rglob("b.mp4.h5"))
    shutil.move(path, tmp_path / "outside.h5")
    path.symlink_to(tmp_path / "outside.h5")
    with pytest.raises(DataError, match="outside of the root"):
        import_items(empty, media, folder, "uni/patch")


@pytest.mark.parametrize(
    ("name", "others", "problem"),
    [
        ("uni", {}, "does not name a feature"),
        ("uni/a/b", {}, "does not name a feature"),
        ("/a", {}, "does not name a feature"),
        ("uni/a", {"stream": "smell"}, "Unknown stream"),
        ("uni/a", {"hop_s": 0.0}, "more than 0 seconds"),
    ],
)
def test_a_name_that_is_none_is_refused(
    empty: FeatureStore, media: Manifest, tmp_path: Path, name: str, others: dict, problem: str
) -> None:
    folder = write_all(tmp_path / "foreign", media)
    with pytest.raises(UsageError, match=problem):
        import_items(empty, media, folder, name, **others)
    assert empty.specs() == []


def test_a_folder_without_any_file_is_told(empty: FeatureStore, media: Manifest, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No item of the manifest has a file"):
        import_items(empty, media, tmp_path, "uni/patch")


def test_a_disk_that_is_full_while_importing_is_told(
    store: FeatureStore, empty: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_h5(store, ITEMS, tmp_path / "f.h5", [SPEC])

    def refuse(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(exchange.PartWriter, "commit", refuse)
        with pytest.raises(CacheError, match="No space left on device"):
            import_h5(empty, tmp_path / "f.h5")
    assert transfer.import_h5(empty, tmp_path / "f.h5").features[0].n_items == 3
    assert_sound(empty)
