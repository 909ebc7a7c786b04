"""Convolutional networks against timm's and torchvision's own transforms and models, on random weights on disk."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image
from torchvision.models import video

from mmdf.cache.errors import UsageError, WeightsError
from mmdf.extract.backbones import CARDS, card_of
from mmdf.extract.backbones.base import Backbone
from mmdf.extract.views import Views
from mmdf.extract.weights import find_weights

KINETICS = {
    "r3d-18": video.R3D_18_Weights.KINETICS400_V1.transforms(),
    "r2plus1d-18": video.R2Plus1D_18_Weights.KINETICS400_V1.transforms(),
}


def save_timm(folder: Path, model: torch.nn.Module, config: dict | None = None) -> Path:
    folder.mkdir(parents=True)
    safetensors.torch.save_file(model.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config or {}))
    return folder / "model.safetensors"


@pytest.fixture(scope="module")
def make_timm(randomised) -> Callable[..., torch.nn.Module]:
    def make(architecture: str) -> torch.nn.Module:
        return randomised(timm.create_model(architecture, pretrained=False))

    return make


def timm_oracle(model: torch.nn.Module, views: Views) -> np.ndarray:
    """timm's own evaluation transform on Pillow images, and its own head without the classifier."""
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    images = [Image.fromarray(f.permute(1, 2, 0).numpy()) for f in views.pictures("frame").pixels]
    with torch.inference_mode():
        inputs = torch.stack([transform(image) for image in images])
        return model.forward_head(model.forward_features(inputs), pre_logits=True).numpy()


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal but for rounding, which is small beside the difference of two pictures."""
    cosine = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert found.shape == expected.shape
    assert cosine.min() > 0.999
    assert np.linalg.norm(found - expected) < 0.2 * np.linalg.norm(expected[0] - expected[1])


def cells(map_: np.ndarray, n: int) -> np.ndarray:
    """Means over a grid of a map (B, D, h, w), (B, n * n, D), by the spans of adaptive pooling."""
    spans = [slice(i * s // n, math.ceil((i + 1) * s / n)) for s in map_.shape[-1:] for i in range(n)]
    return np.stack([map_[:, :, rows, columns].mean((2, 3)) for rows in spans for columns in spans], 1)


def test_a_card_of_timm_equals_timm_s_own_path(tmp_path: Path, make_timm, pictures, load, embed) -> None:
    name = "efficientnet-b0"
    model, views = make_timm(CARDS[name].architecture), pictures(2)
    save_timm(tmp_path / name, model)
    backbone = load(name, tmp_path)
    assert_same(embed(backbone, views), timm_oracle(model, views))
    assert (backbone.spec.dim, backbone.spec.alias) == (CARDS[name].dim, "efficientnet-b0/frame")
    inputs = backbone.rows(views).inputs
    grid = load(name, tmp_path, tokens="mean,grid4,grid7")
    with torch.inference_mode():
        map_ = model.forward_features(inputs).numpy()
        plain = backbone.forward(inputs).numpy()
        found = grid.forward(inputs).numpy().reshape(2, *grid.spec.shape)
    assert grid.spec.shape == (1 + 16 + 49, CARDS[name].dim)
    expected = np.concatenate([plain[:, None], cells(map_, 4), cells(map_, 7)], 1)
    assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("architecture", "tokens", "n_tokens"),
    [
        ("resnet18", "mean,grid7", 50),
        # As ConvNeXt-tiny, but small: the norm comes after pooling, so the mean is no mean of the map.
        ("convnext_atto", "grid2,grid7", 53),
        # Wider after pooling than before.
        ("mobilenetv3_small_050", "mean,grid4", 17),
        # Channels last.
        ("swin_tiny_patch4_window7_224", "mean,grid7", 50),
        # A register, no class token, and 16 x 16 patches.
        ("vit_wee_patch16_reg1_gap_256", "mean,grid4", 17),
        ("vit_tiny_patch16_224", "cls,mean,grid2", 6),
    ],
)
def test_any_model_of_timm(
    architecture: str, tokens: str, n_tokens: int, tmp_path: Path, make_timm, pictures, load, embed
) -> None:
    model, views = make_timm(architecture), pictures(2)
    save_timm(tmp_path / f"timm--{architecture}", model)
    name = f"timm:{architecture}"
    backbone = load(name, tmp_path)
    expected = timm_oracle(model, views)
    assert_same(embed(backbone, views), expected)
    assert (backbone.spec.alias, backbone.spec.dim) == (f"{name}/frame", expected.shape[1])
    chosen = load(f"{name}/face", tmp_path, tokens=tokens)
    with torch.inference_mode():
        features = model.forward_features(backbone.rows(views).inputs)
        if features.ndim == 3:
            patches = features[:, model.num_prefix_tokens :].transpose(1, 2)
            side = round(patches.shape[2] ** 0.5)
            map_, cls = patches.reshape(2, -1, side, side).numpy(), features[:, :1].numpy()
        else:
            map_ = (features.permute(0, 3, 1, 2) if architecture.startswith("swin") else features).numpy()
            cls = np.zeros((2, 0, map_.shape[1]))
        found = chosen.forward(backbone.rows(views).inputs).numpy().reshape(2, n_tokens, -1)
    parts = {"cls": cls, "mean": map_.mean((2, 3))[:, None]}
    by_hand = [parts[t] if t in parts else cells(map_, int(t[4:])) for t in tokens.split(",")]
    assert np.abs(found - np.concatenate(by_hand, 1)).max() < 1e-3 * np.abs(map_).max()
    assert (chosen.spec.shape, chosen.spec.view) == ((n_tokens, map_.shape[1]), "face")


def test_the_recipe_is_that_of_the_weights_and_not_of_the_newest_tag(tmp_path: Path, make_timm, load) -> None:
    published = {
        "input_size": [3, 96, 96],
        "crop_pct": 0.75,
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "crop_mode": "squash",
    }
    config = {"architecture": "resnet18", "pretrained_cfg": published | {"interpolation": "bilinear"}}
    save_timm(tmp_path / "timm--resnet18", make_timm("resnet18"), config)
    recipe = load("timm:resnet18", tmp_path).spec.preprocessing
    assert (recipe["resize_px"], recipe["resize_width_px"], recipe["crop_px"]) == (128, 128, 96)
    assert (recipe["interpolation"], recipe["mean"], recipe["std"]) == ("bilinear", [0.5] * 3, [0.25] * 3)


@pytest.mark.parametrize("change", [{"crop_mode": "border"}, {"interpolation": "nearest"}, {"input_size": [3, 96, 64]}])
def test_a_recipe_that_is_not_known_is_refused(change: dict, tmp_path: Path, make_timm, load) -> None:
    save_timm(tmp_path / "timm--resnet18", make_timm("resnet18"), {"pretrained_cfg": change})
    with pytest.raises(WeightsError, match="is not known here"):
        load("timm:resnet18", tmp_path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: t.pop("layer1.0.conv1.weight"), "layer1.0.conv1.weight"),
        (lambda t: t.update({"extra.weight": torch.zeros(2)}), "extra.weight"),
        (lambda t: t.update({"layer1.0.conv1.weight": torch.zeros(64, 64, 1, 1)}), "layer1.0.conv1.weight"),
        (lambda t: t.update({"bn1.running_mean": torch.zeros(3)}), "bn1.running_mean"),
    ],
    ids=["missing", "extra", "misshaped", "running mean"],
)
def test_other_tensors_are_refused_by_name(change: Callable, named: str, tmp_path: Path, make_timm, load) -> None:
    file = save_timm(tmp_path / "timm--resnet18", make_timm("resnet18"))
    tensors = safetensors.torch.load_file(file)
    change(tensors)
    safetensors.torch.save_file(tensors, file)
    with pytest.raises(WeightsError, match=f"1 tensors are missing, unknown or of another shape, {named} for one"):
        load("timm:resnet18", tmp_path)


def test_a_classifier_or_a_counter_more_or_less_changes_nothing(
    tmp_path: Path, make_timm, pictures, load, embed
) -> None:
    model, views = make_timm("resnet18"), pictures(2)
    save_timm(tmp_path / "a" / "timm--resnet18", model)
    file = save_timm(tmp_path / "b" / "timm--resnet18", model)
    kept = {n: t for n, t in model.state_dict().items() if not n.startswith("fc.") and "num_batches" not in n}
    safetensors.torch.save_file(kept, file)
    first, second = (embed(load("timm:resnet18", tmp_path / folder), views) for folder in "ab")
    assert np.array_equal(first, second)


@pytest.mark.parametrize("content", [b"", b"no tensors", b"\x08\x00\x00\x00\x00\x00\x00\x00[1, 2]  "])
def test_a_damaged_file_is_told_in_words(content: bytes, tmp_path: Path, make_timm, load) -> None:
    save_timm(tmp_path / "timm--resnet18", make_timm("resnet18")).write_bytes(content)
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        load("timm:resnet18", tmp_path)


def test_a_pickle_is_never_run(tmp_path: Path, make_timm, load) -> None:
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    save_timm(tmp_path / "timm--resnet18", make_timm("resnet18")).unlink()
    torch.save({"conv1.weight": Trap()}, tmp_path / "timm--resnet18" / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        load("timm:resnet18", tmp_path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("tokens", "text"), [("cls", "has no class token"), ("grid8", "grid8: the model has 7 x 7 patches only")]
)
def test_tokens_that_a_net_has_not(tokens: str, text: str, tmp_path: Path, make_timm, load) -> None:
    save_timm(tmp_path / "timm--resnet18", make_timm("resnet18"))
    with pytest.raises(UsageError, match=text):
        load("timm:resnet18", tmp_path, tokens=tokens)


def test_a_name_that_timm_does_not_know(tmp_path: Path, make_timm, load) -> None:
    save_timm(tmp_path / "timm--resnet1800", make_timm("resnet18"))
    with pytest.raises(UsageError, match="timm has no model 'resnet1800'"):
        load("timm:resnet1800", tmp_path)


@pytest.fixture(scope="module", params=["r3d-18", "r2plus1d-18"])
def film_net(request: pytest.FixtureRequest, tmp_path_factory, randomised) -> tuple[str, Path, torch.nn.Module]:
    """A 3D ResNet as torchvision saves it, classifier included, in a folder of the name that torch's cache has."""
    card = CARDS[request.param]
    model = randomised(getattr(video, card.architecture)(weights=None))
    home = tmp_path_factory.mktemp("torch")
    (home / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(model.state_dict(), home / "hub" / "checkpoints" / card.weight_file)
    return card.name, home, model


def test_film_nets_equal_torchvision_s_own_path(film_net, pictures, load, embed, monkeypatch) -> None:
    name, home, model = film_net
    monkeypatch.setenv("TORCH_HOME", str(home))
    # Larger than the net's pictures in both directions, so that a low-pass before shrinking would show.
    n_frames = 16 if name == "r3d-18" else 8
    views = pictures(0, 270, 480, clips=1, n_clip=n_frames)
    body = torch.nn.Sequential(model.stem, model.layer1, model.layer2, model.layer3, model.layer4)
    with torch.inference_mode():
        inputs = torch.stack([KINETICS[name](clip) for clip in views.pictures("clip").pixels])
        maps = body(inputs).numpy()
    backbone: Backbone = load(name, clip_frames=n_frames)
    own = backbone.rows(views).inputs
    assert own.shape == (1, n_frames, 3, 112, 112)
    # Two kernels of torch round one pixel in five to the next level; with a low-pass it would be thirty levels.
    assert (own.transpose(1, 2) - inputs).abs().max() < 1.01 / 255 / 0.21699
    plain = maps.mean((2, 3, 4))
    found = embed(backbone, views)
    assert np.linalg.norm(found - plain) < 1e-2 * np.linalg.norm(plain)
    assert (backbone.spec.alias, backbone.spec.dim) == (f"{name}/clip", 512)
    assert "antialiased" not in backbone.spec.preprocessing["where"]
    grid = load(name, tokens="grid4,mean", clip_frames=n_frames)
    assert grid.spec.shape == (17, 512)
    found = embed(grid, views).reshape(1, 17, 512)
    expected = np.concatenate([cells(maps.mean(2), 4), plain[:, None]], 1)
    assert np.linalg.norm(found - expected) < 1e-2 * np.linalg.norm(expected)


def test_tokens_that_a_film_net_has_not(film_net, load, monkeypatch) -> None:
    name, home, _ = film_net
    monkeypatch.setenv("TORCH_HOME", str(home))
    with pytest.raises(UsageError, match="has no class token"):
        load(name, tokens="cls")
    with pytest.raises(UsageError, match="grid8: the model has 7 x 7"):
        load(name, tokens="grid8", clip_frames=2)


def test_film_nets_are_found_in_torch_s_cache_and_in_a_folder(film_net, tmp_path: Path, monkeypatch) -> None:
    name, home, _ = film_net
    card = card_of(name)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    with pytest.raises(WeightsError, match=f"not in torch's cache.*{card.url}.*mmdf weights fetch {name}"):
        find_weights(card)
    monkeypatch.setenv("TORCH_HOME", str(home))
    file = home / "hub" / "checkpoints" / card.weight_file
    assert find_weights(card) == file
    assert find_weights(card, file.parent) == file
    (tmp_path / "w" / name).mkdir(parents=True)
    (tmp_path / "w" / name / card.weight_file).symlink_to(file)
    assert find_weights(card, tmp_path / "w") == tmp_path / "w" / name / card.weight_file


def test_another_film_net_in_the_file_is_refused(film_net, tmp_path: Path, load) -> None:
    name, home, _ = film_net
    other = CARDS["r2plus1d-18" if name == "r3d-18" else "r3d-18"]
    (tmp_path / other.weight_file).symlink_to(home / "hub" / "checkpoints" / CARDS[name].weight_file)
    with pytest.raises(WeightsError, match=f"does not hold the weights of '{other.name}'"):
        load(other.name, tmp_path)


def test_a_list_is_no_film_net(tmp_path: Path, load) -> None:
    torch.save([1, 2], tmp_path / CARDS["r3d-18"].weight_file)
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        load("r3d-18", tmp_path)


def test_widths_on_the_cards_are_those_of_the_architectures() -> None:
    for card in CARDS.values():
        if card.family == "timm":
            with torch.device("meta"):
                model = timm.create_model(card.architecture, pretrained=False)
            assert (card.name, model.num_features) == (card.name, card.dim)
        if card.family == "video-resnet":
            with torch.device("meta"):
                assert getattr(video, card.architecture)(weights=None).fc.in_features == card.dim
