import hashlib
import json
from pathlib import Path

import pytest

from mmdf.cache.errors import UsageError, WeightsError
from mmdf.extract.backbones import card_of
from mmdf.extract.stock import DIGESTS, export, fetch_all, take_stock, verify
from mmdf.extract.weights import find_weights


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Caches with nothing in them, whatever this machine has."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "hub"


def in_hub(hub: Path, name: str, content: bytes = b"tensors", blob: str | None = None) -> Path:
    """A file in a hub cache, as huggingface_hub lays it out: a link to a blob that is named by its sha256."""
    card = card_of(name)
    repository = hub / f"models--{card.hub_id.replace('/', '--')}"
    snapshot = repository / "snapshots" / card.revision
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    target = repository / "blobs" / (blob or hashlib.sha256(content).hexdigest())
    target.write_bytes(content)
    (snapshot / "config.json").write_text("{}")
    (snapshot / card.weight_file).symlink_to(target)
    return snapshot / card.weight_file


def in_torch_cache(folder: Path, content: bytes) -> Path:
    file = folder / "torch" / "hub" / "checkpoints" / "r3d_18-b3b3357e.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    return file


def test_stock_says_what_is_here_and_where(hub: Path) -> None:
    file = in_hub(hub, "dinov2-s")
    stock = {one.name: one for one in take_stock()}
    assert (stock["dinov2-s"].state, stock["dinov2-s"].path) == ("here", str(file))
    assert stock["dinov2-s"].size_bytes == 7
    assert stock["clip-vit-b32"].state == stock["r3d-18"].state == "missing"
    assert stock["efficientnet-lite0"].state == "here"
    assert "lfcc" not in stock


def test_an_unknown_name_is_told() -> None:
    with pytest.raises(UsageError, match="Did you mean 'dinov2-s'"):
        take_stock(["dinov2s"])


def test_the_hub_cache_tells_whole_from_altered(hub: Path) -> None:
    in_hub(hub, "dinov2-s")
    in_hub(hub, "dinov2-b", blob="ab" * 32)
    found = {one.name: one.state for one in verify(["dinov2-s", "dinov2-b", "clip-vit-b32"])}
    assert found == {"dinov2-s": "verified", "dinov2-b": "differs", "clip-vit-b32": "missing"}


def test_a_digest_on_the_card_goes_before_all(hub: Path) -> None:
    in_hub(hub, "dinov2-l")
    one = verify(["dinov2-l"])[0]
    assert (one.state, one.source) == ("differs", "the card")


def test_torchvision_s_files_carry_their_digest_in_their_name(tmp_path: Path) -> None:
    in_torch_cache(tmp_path, b"other")
    assert verify(["r3d-18"])[0].state == "differs"


def test_the_package_s_weights_are_what_their_name_says() -> None:
    one = verify(["efficientnet-lite0"])[0]
    assert one.state == "verified"
    assert one.sha256.startswith("57934424")


def test_an_export_is_found_by_weights_dir_and_verifies(hub: Path, tmp_path: Path) -> None:
    in_hub(hub, "dinov2-s", b"small")
    in_hub(hub, "wav2vec2-base", b"voice")
    in_torch_cache(tmp_path, b"video")
    out = tmp_path / "out"
    assert {one.name for one in export(out)} == {"dinov2-s", "wav2vec2-base", "r3d-18"}
    assert json.loads((out / DIGESTS).read_text())["dinov2-s/model.safetensors"] == hashlib.sha256(b"small").hexdigest()
    for name, content in (("dinov2-s", b"small"), ("wav2vec2-base", b"voice"), ("r3d-18", b"video")):
        file = find_weights(card_of(name), out)
        assert file is not None
        assert not file.is_symlink()
        assert file.read_bytes() == content
    assert verify(["dinov2-s"], out)[0].state == "verified"
    (out / "dinov2-s" / "model.safetensors").write_bytes(b"smalL")
    assert verify(["dinov2-s"], out)[0].state == "differs"
    assert not list(out.rglob("*.partial"))


def test_exporting_what_is_not_here_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="nothing to export"):
        export(tmp_path / "out")
    with pytest.raises(WeightsError, match="mmdf weights fetch dinov2-s"):
        export(tmp_path / "out", ["dinov2-s"])


def test_fetching_without_a_network_says_what_to_do() -> None:
    with pytest.raises(WeightsError, match="on a machine with a network"):
        fetch_all(["dinov2-s"])
    with pytest.raises(WeightsError, match="r3d-18"):
        fetch_all(["r3d-18"])


def test_what_is_here_is_not_fetched_again(hub: Path) -> None:
    in_hub(hub, "dinov2-s")
    assert fetch_all(["dinov2-s"])[0].state == "here"
