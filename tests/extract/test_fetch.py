import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from mmdf.cache.errors import WeightsError
from mmdf.extract.backbones import Card, card_of
from mmdf.extract.fetch import fetch


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Card:
    """A card whose file lies on a "server" that is a folder, named by its digest as torchvision does."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    name = f"net-{hashlib.sha256(b'tensors').hexdigest()[:8]}.pth"
    (tmp_path / name).write_bytes(b"tensors")
    return replace(card_of("r3d-18"), url=(tmp_path / name).as_uri(), weight_file=name)


def test_a_file_is_fetched_whole_into_torch_s_cache(card: Card, tmp_path: Path) -> None:
    folder = fetch(card)
    assert folder == tmp_path / "torch" / "hub" / "checkpoints"
    assert [file.name for file in folder.iterdir()] == [card.weight_file]
    assert (folder / card.weight_file).read_bytes() == b"tensors"


def test_a_file_that_is_not_what_its_name_says_is_thrown_away(card: Card, tmp_path: Path) -> None:
    (tmp_path / card.weight_file).write_bytes(b"something else")
    with pytest.raises(WeightsError, match="not what its name promises"):
        fetch(card)
    assert not list((tmp_path / "torch" / "hub" / "checkpoints").iterdir())


def test_no_network_is_told_in_words(card: Card, tmp_path: Path) -> None:
    (tmp_path / card.weight_file).unlink()
    with pytest.raises(WeightsError, match=r"could not be fetched from file:.*weights export DIR"):
        fetch(card)
