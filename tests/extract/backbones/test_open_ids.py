"""Ids of models that have no card here: what they mean, and what is read of a configuration before torch is loaded."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import transformers

from mmdf.cache.errors import UsageError, WeightsError
from mmdf.extract.backbones import Card, card_of
from mmdf.extract.fetch import fetch
from mmdf.extract.weights import find_weights


def test_names_of_the_hub() -> None:
    card = card_of("hf:org-1/a.b_c@1f2e3d/face")
    assert (card.hub_id, card.revision, card.view) == ("org-1/a.b_c", "1f2e3d", "face")
    assert card.alias == "hf:org-1/a.b_c@1f2e3d/face"
    assert card_of("hf:org/a").revision == "main"
    # A repository may be called like a view.
    assert (card_of("hf:openai/clip").hub_id, card_of("hf:openai/clip").view) == ("openai/clip", "frame")
    assert card_of("hf:openai/clip/mouth").view == "mouth"
    assert (card_of("timm:resnet18.a1_in1k/face").architecture, card_of("timm:resnet18/face").view) == (
        "resnet18.a1_in1k",
        "face",
    )


@pytest.mark.parametrize(
    "name",
    ["hf:", "hf:org", "hf:org/", "hf:/a", "hf:a/b/c", "hf:a/b@", "hf:a/b@c@d", "hf:a b/c", "hf:../../etc", "timm:",
     "timm:a/b", "timm:hf-hub:a/b", "hf:org/face/face/face"],
)  # fmt: skip
def test_names_of_another_form_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="is not of the form hf:ORG/NAME"):
        card_of(name)


def card_with(folder: Path, config: dict, processor: dict) -> Card:
    """The card of `hf:org/a` with that configuration."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    (folder / "model.safetensors").write_bytes(b"tensors")
    return card_of("hf:org/a", folder.parents[1])


@pytest.mark.parametrize(
    ("config", "processor", "views", "n_layers"),
    [
        ({"num_hidden_layers": 7}, {}, ("frame", "face", "mouth"), 7),
        ({"num_hidden_layers": 7, "num_frames": 16}, {}, ("clip", "face-clip"), 7),
        ({"num_hidden_layers": 7}, {"sampling_rate": 16000}, ("speech", "speech-trimmed"), 7),
        ({"vision_config": {"num_hidden_layers": 5}, "num_hidden_layers": 7}, {}, ("frame", "face", "mouth"), 5),
        ({"depths": [2, 2]}, {}, ("frame", "face", "mouth"), 0),
        ([1], "text", ("frame", "face", "mouth"), 0),
    ],
    ids=["picture", "clip", "speech", "two towers", "convolutional", "damaged"],
)
def test_a_configuration_tells_what_a_model_looks_at(
    config: dict, processor: dict, views: tuple, n_layers: int, tmp_path: Path
) -> None:
    card = card_with(tmp_path / "org" / "a", config, processor)
    assert (card.view, card.views, card.n_layers) == (views[0], views, n_layers)
    assert card.has_tokens == (views[0] != "speech")
    with pytest.raises(UsageError, match="'hf:org/a' cannot look at 'sound'"):
        card_of("hf:org/a/sound", tmp_path)


@pytest.mark.parametrize(
    ("config", "dim", "token_dim"),
    [
        ({"hidden_size": 32}, 32, 32),
        ({"vision_config": {"hidden_size": 32, "num_hidden_layers": 1}, "projection_dim": 24}, 24, 32),
        ({"hidden_sizes": [8, 16]}, 16, 16),
        ({"hidden_size": "wide"}, 0, 0),
    ],
)
def test_a_configuration_tells_widths_for_estimates(config: dict, dim: int, token_dim: int, tmp_path: Path) -> None:
    card = card_with(tmp_path / "org" / "a", config, {})
    assert (card.dim, card.token_dim) == (dim, token_dim)
    (tmp_path / "org" / "a" / "config.json").write_text(json.dumps({"num_features": 7}))
    (tmp_path / "resnet18").symlink_to(tmp_path / "org" / "a")
    assert card_of("timm:resnet18", tmp_path).dim == 7


def test_a_sparse_configuration_of_two_towers_has_its_class_layers(tmp_path: Path) -> None:
    """`google/siglip-base-patch16-224` says of its image tower only what kind it is."""
    config = {"model_type": "siglip", "vision_config": {"model_type": "siglip_vision_model"}}
    assert card_with(tmp_path / "org" / "a", config, {}).n_layers == transformers.SiglipVisionConfig().num_hidden_layers


@pytest.mark.parametrize("place", ["org/a", "org--a", "a", "hf--org--a", "."])
def test_where_the_folder_may_be(place: str, tmp_path: Path) -> None:
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "model.safetensors"):
        (tmp_path / place / name).write_text("{}")
    assert find_weights(card_of("hf:org/a"), tmp_path) == tmp_path / place / "model.safetensors"


def test_an_id_that_is_not_here_says_how_to_fetch_it(tmp_path: Path) -> None:
    for name in ("hf:org/a", "timm:resnet18"):
        with pytest.raises(WeightsError, match=f"mmdf weights fetch {name}"):
            find_weights(card_of(name), tmp_path)


def test_reading_a_card_loads_no_torch(tmp_path: Path) -> None:
    card_with(tmp_path / "org" / "a", {"num_hidden_layers": 3}, {})
    code = (
        "import sys; from pathlib import Path; from mmdf.extract.backbones import card_of;"
        f"card_of('hf:org/a', Path({str(tmp_path)!r})); card_of('timm:resnet18'); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_of_an_id_whatever_kind_of_weights_it_has_is_fetched(file: str, tmp_path: Path, monkeypatch) -> None:
    asked: list[str] = []

    def snapshot(hub_id: str, revision: str, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns[-1])
        for name in {"config.json", file} & set(allow_patterns):
            (tmp_path / name).write_text("{}")
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert fetch(card_of("hf:org/a")) / file == tmp_path / file
    assert asked == ["model.safetensors", "pytorch_model.bin"][: 1 + (file != "model.safetensors")]


def test_an_id_without_weights_is_told_in_words(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(WeightsError, match=r"org/a at revision main has no model\.safetensors or pytorch_model\.bin"):
        fetch(card_of("hf:org/a"))
