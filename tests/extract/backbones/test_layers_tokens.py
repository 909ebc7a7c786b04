"""Layers and tokens of vision transformers, held against hidden states that are pooled here by hand."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from mmdf.cache.errors import UsageError, WeightsError
from mmdf.extract.backbones.base import Backbone
from mmdf.extract.backbones.names import chosen_cards
from mmdf.extract.outputs import Outputs
from mmdf.extract.views import Views

VIT = {"hidden_size": 32, "num_hidden_layers": 12, "num_attention_heads": 2, "intermediate_size": 64}
DINO = {"hidden_size": 32, "num_hidden_layers": 12, "num_attention_heads": 2, "image_size": 56, "patch_size": 8}
DINO_PROCESSOR = {"size": {"shortest_edge": 128}, "crop_size": {"height": 112, "width": 112}}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}

# Name to model, processor, tokens before the patches, positions in time, patches a side.
MODELS: dict[str, tuple] = {
    "clip-vit-b32": (
        transformers.CLIPVisionModelWithProjection,
        transformers.CLIPVisionConfig(**VIT, patch_size=32, projection_dim=24),
        transformers.CLIPImageProcessor(),
        (1, 1, 7),
    ),
    "dinov2-s": (
        transformers.Dinov2Model,
        transformers.Dinov2Config(**DINO),
        transformers.BitImageProcessor(**DINO_PROCESSOR, **IMAGENET),
        (1, 1, 14),
    ),
    "dinov2-s-reg": (
        transformers.Dinov2WithRegistersModel,
        transformers.Dinov2WithRegistersConfig(**DINO, num_register_tokens=4),
        transformers.BitImageProcessor(**DINO_PROCESSOR, **IMAGENET),
        (5, 1, 14),
    ),
    "videomae-base": (
        transformers.VideoMAEModel,
        transformers.VideoMAEConfig(**VIT, image_size=112, use_mean_pooling=False),
        transformers.VideoMAEImageProcessor(size={"shortest_edge": 112}, crop_size={"height": 112, "width": 112}),
        (0, 8, 7),
    ),
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, randomised) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    for name, (model_class, config, processor, _) in MODELS.items():
        randomised(model_class(config)).save_pretrained(folder / name)
        processor.save_pretrained(folder / name)
    return folder


@pytest.fixture(scope="module")
def views(pictures) -> dict[str, Views]:
    still, moving = pictures(2), pictures(0, 120, 160, clips=2)
    return {name: moving if name == "videomae-base" else still for name in MODELS}


@pytest.fixture(scope="module")
def held(weights: Path, load) -> dict[str, Backbone]:
    """Held, so that their models are loaded once for all tests."""
    return {name: load(name, weights) for name in MODELS}


@pytest.fixture(scope="module")
def answers(weights: Path, views: dict[str, Views], held: dict[str, Backbone]) -> dict[str, dict]:
    """The library's own states by layer on the inputs of the backbone: `all`, `prenorm`, `last`, and its embedding."""
    found = {}
    for name, (model_class, *_) in MODELS.items():
        model = model_class.from_pretrained(weights / name).eval()
        inputs = held[name].rows(views[name]).inputs
        norm = model.vision_model.post_layernorm if name.startswith("clip") else model.layernorm
        seen: list[torch.Tensor] = []
        with torch.inference_mode():
            if not name.startswith("clip"):
                # What goes into the final LayerNorm, whatever the library calls it.
                norm.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0]))
            answer = model(pixel_values=inputs, output_hidden_states=True)
            before = answer.last_hidden_state if name.startswith("clip") else seen[0]
            found[name] = {
                "all": [*answer.hidden_states[:-1], before],
                "prenorm": [before],
                "0,2": [answer.hidden_states[0], answer.hidden_states[2]],
                "last": [norm(before)],
                "embedding": answer.image_embeds if name.startswith("clip") else answer.last_hidden_state,
            }
    return found


def pooled(tokens: np.ndarray, name: str, prefix: int, times: int, side: int) -> np.ndarray:
    """A kind of token of (n, tokens, D), (n, how many, D); cell i of a grid: floor(i s / g) to ceil((i + 1) s / g)."""
    if name == "cls":
        return tokens[:, :1]
    patches = tokens[:, prefix:].reshape(len(tokens), times, side, side, -1)
    if name == "mean":
        return patches.mean((1, 2, 3))[:, None]
    cells = int(name[4:])
    spans = [slice(i * side // cells, math.ceil((i + 1) * side / cells)) for i in range(cells)]
    return np.stack([patches[:, :, rows, columns].mean((1, 2, 3)) for rows in spans for columns in spans], 1)


def by_hand(states: list[torch.Tensor], tokens: str, layout: tuple[int, int, int]) -> np.ndarray:
    """(n, layers, tokens, D), without the axes that have one entry."""
    layers = []
    for state in states:
        of_layer = [pooled(state.numpy(), name, *layout) for name in tokens.split(",")]
        layers.append(np.concatenate(of_layer, 1))
    found = np.stack(layers, 1)
    return found.reshape(len(found), *(n for n in found.shape[1:3] if n > 1), found.shape[3])


LAYERS = ("last", "prenorm", "all", "0,2")
TOKENS = ("", "cls", "mean", "grid4", "cls,mean,grid7")


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("name", MODELS)
def test_layers_and_tokens_equal_the_library_s_states(
    name: str,
    tokens: str,
    weights: Path,
    views: dict[str, Views],
    answers: dict[str, dict],
    load: Callable[..., Backbone],
    embed: Callable[[Backbone, Views], np.ndarray],
) -> None:
    default = "mean" if name == "videomae-base" else "cls"
    if name == "videomae-base" and "cls" in tokens:
        tokens = tokens.replace("cls", "grid2")
    for layers in LAYERS:
        if (layers, tokens) == ("last", ""):
            continue
        backbone = load(name, weights, layers, tokens)
        expected = by_hand(answers[name][layers], tokens or default, MODELS[name][3])
        found = embed(backbone, views[name])
        spec = backbone.spec
        assert found.shape == (len(expected), spec.dim)
        assert spec.shape == (expected.shape[1:] if expected.ndim > 2 else ())
        assert np.abs(found.reshape(expected.shape) - expected).max() < 2e-5
        assert np.abs(expected).max() > 0.1
        assert np.abs(expected[0] - expected[1]).max() > 1e-2


@pytest.mark.parametrize("name", MODELS)
def test_the_plain_embedding_is_the_last_layer_s(
    name: str, weights: Path, views: dict[str, Views], answers: dict[str, dict], load, embed
) -> None:
    found = embed(load(name, weights), views[name])
    answer = answers[name]["embedding"].numpy()
    expected = {"clip-vit-b32": answer, "videomae-base": answer.mean(1)}.get(name)
    assert np.abs(found - (answer[:, 0] if expected is None else expected)).max() < 2e-5
    if name != "clip-vit-b32":
        tokens = "mean" if name == "videomae-base" else "cls"
        assert np.allclose(found, embed(load(name, weights, tokens=tokens), views[name]), atol=1e-6)


def test_clip_s_class_token_is_what_the_projection_gets(weights: Path, views, answers, load, embed) -> None:
    tokens = embed(load("clip-vit-b32", weights, tokens="cls"), views["clip-vit-b32"])
    model = transformers.CLIPVisionModelWithProjection.from_pretrained(weights / "clip-vit-b32")
    projected = tokens @ model.visual_projection.weight.detach().numpy().T
    assert np.abs(projected - answers["clip-vit-b32"]["embedding"].numpy()).max() < 2e-5


def test_every_choice_has_a_name_and_a_fingerprint_of_its_own(weights: Path, held, load) -> None:
    specs = [load("dinov2-s", weights, layers, tokens).spec for layers in LAYERS for tokens in TOKENS]
    assert len({spec.fingerprint for spec in specs}) == len({spec.alias for spec in specs}) == len(specs)
    assert specs[0].alias == "dinov2-s/frame"
    for spec in specs:
        found = Outputs.of_variant(spec.variant)
        assert load("dinov2-s", weights, found.layers, ",".join(found.tokens)).spec == spec


@pytest.mark.parametrize(
    ("layers", "tokens", "variant", "shape", "dim"),
    [
        ("last", "", "", (), 24),
        ("last", "cls", "cls", (), 32),
        ("prenorm", "", "prenorm", (), 32),
        ("5", "", "layers-5", (), 32),
        ("all", "", "layers-all", (13, 32), 13 * 32),
        ("0,2", "cls,mean,grid4", "layers-0-2+cls-mean-grid4", (2, 18, 32), 2 * 18 * 32),
    ],
)
def test_the_spec_tells_what_was_kept(
    layers: str, tokens: str, variant: str, shape: tuple, dim: int, weights: Path, load
) -> None:
    spec = load("clip-vit-b32", weights, layers, tokens).spec
    assert (spec.variant, spec.shape, spec.dim) == (variant, shape, dim)
    assert spec.alias == "clip-vit-b32/frame" + (f"+{variant}" if variant else "")
    assert (spec.layers, spec.pooling) == (layers, tokens or ("cls, projected" if dim == 24 else "cls"))


def test_a_whole_checkpoint_of_clip_gives_its_image_tower(tmp_path: Path, randomised, pictures, load, embed) -> None:
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.CLIPConfig(
        text_config=text | {"vocab_size": 99, "bos_token_id": 1, "eos_token_id": 2},
        vision_config=VIT | {"patch_size": 32, "projection_dim": 24},
        projection_dim=24,
    )
    model = randomised(transformers.CLIPModel(config))
    model.save_pretrained(tmp_path / "clip-vit-b32")
    transformers.CLIPImageProcessor().save_pretrained(tmp_path / "clip-vit-b32")
    backbone, views = load("clip-vit-b32", tmp_path), pictures()
    with torch.inference_mode():
        expected = model.get_image_features(pixel_values=backbone.rows(views).inputs)
    expected = expected if isinstance(expected, torch.Tensor) else expected.pooler_output
    assert np.abs(embed(backbone, views) - expected.numpy()).max() < 2e-5


@pytest.mark.parametrize(
    ("name", "layers", "tokens", "error", "text"),
    [
        ("videomae-base", "last", "cls", UsageError, "'videomae-base' has no class token"),
        ("clip-vit-b32", "last", "grid8", UsageError, "grid8: the model has 7 x 7 patches only"),
        ("clip-vit-b32", "all", "cls,grid9", UsageError, "grid9: the model has 7 x 7 patches only"),
        ("dinov2-s", "13", "", UsageError, "the model has the layers 0 to 12"),
        ("dinov2-s", "3,3", "", UsageError, "each named once"),
        ("dinov2-s", "-1", "", UsageError, "--layers takes last"),
        ("dinov2-s", "last", "grid0", UsageError, "--tokens knows cls"),
        ("dinov2-s", "last", "cls,cls", UsageError, "names one twice"),
        ("lfcc", "all", "", UsageError, "none of lfcc has layers to choose from"),
        ("lfcc", "last", "mean", UsageError, "none of lfcc has tokens to choose from"),
        ("hubert-base", "last", "mean", UsageError, "none of hubert-base has tokens"),
    ],
)
def test_what_a_model_has_not_is_refused_before_any_file_is_decoded(
    name: str, layers: str, tokens: str, error: type, text: str, weights: Path, load
) -> None:
    with pytest.raises(error, match=text):
        load(name, weights, layers, tokens)


def test_fewer_layers_than_the_card_says_are_refused(tmp_path: Path, load) -> None:
    model_class, _, processor, _ = MODELS["dinov2-s"]
    config = transformers.Dinov2Config(**DINO | {"num_hidden_layers": 2})
    model_class(config).save_pretrained(tmp_path / "dinov2-s")
    processor.save_pretrained(tmp_path / "dinov2-s")
    with pytest.raises(WeightsError, match=r"holds 2 layers.*wants 12"):
        load("dinov2-s", tmp_path, "all")


def test_an_option_holds_for_those_that_can_follow_it() -> None:
    outputs = Outputs.parse("all", "grid4")
    cards = chosen_cards(["lfcc", "clip-vit-b32", "hubert-base", "convnext-tiny"], outputs)
    assert [outputs.of(card).variant for card in cards] == ["", "layers-all+grid4", "layers-all", "grid4"]
