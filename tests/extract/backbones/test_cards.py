"""What cards say of models, against the libraries and the processors that were published with the weights."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import transformers
from PIL import Image
from torchvision.models import video

from mmdf.cache.errors import WeightsError
from mmdf.extract.backbones import CARDS, FAMILIES, NORMS, VIEWS, Card
from mmdf.extract.backbones.base import LoadContext
from mmdf.extract.backbones.cards import REVISIONS, SHA256
from mmdf.extract.backbones.pictures import load_recipe
from mmdf.extract.backbones.preprocess import prepare
from mmdf.extract.media.sampling import DEFAULT_SAMPLING

CPU = torch.device("cpu")
SQUARE = {"height": 224, "width": 224}
CLIP_NORM = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
STEPS = {"do_resize": True, "do_center_crop": True, "do_normalize": True}
# preprocessor_config.json and the kind of model as they lie on the hub, CLIP's in the form of 2021.
PUBLISHED: dict[str, tuple[str, dict]] = {
    "clip": ("clip", STEPS | CLIP_NORM | {
        "feature_extractor_type": "CLIPFeatureExtractor", "size": 224, "crop_size": 224, "resample": 3,
    }),
    "dinov2": ("dinov2", STEPS | IMAGENET | {
        "image_processor_type": "BitImageProcessor", "do_convert_rgb": True, "do_rescale": True,
        "rescale_factor": 1 / 255, "size": {"shortest_edge": 256}, "crop_size": SQUARE, "resample": 3,
    }),
    "videomae": ("videomae", STEPS | IMAGENET | {
        "image_processor_type": "VideoMAEImageProcessor", "do_rescale": True, "rescale_factor": 1 / 255,
        "size": {"shortest_edge": 224}, "crop_size": SQUARE, "resample": 2,
    }),
}  # fmt: skip


@pytest.fixture
def context_of(tmp_path: Path) -> Callable[..., LoadContext]:
    """A card with the published processor in its folder."""

    def make(card: Card, **changes) -> LoadContext:
        kind, processor = PUBLISHED[card.family]
        (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor | changes))
        return LoadContext(card, tmp_path / "model.safetensors", "digest", CPU, torch.float32, DEFAULT_SAMPLING)

    return make


@pytest.mark.parametrize("card", CARDS.values(), ids=lambda card: card.name)
def test_a_card_is_whole(card: Card) -> None:
    assert card.family in FAMILIES
    assert card.view in card.views
    assert len(set(card.views)) == len(card.views)
    assert {VIEWS[view].stream for view in card.views} == {card.stream}
    assert card.dim > 0
    assert card.paper
    assert card.licence
    assert bool(card.norm) == bool(card.input_px)
    assert not card.norm or card.norm in NORMS
    assert sum(map(bool, (card.hub_id, card.url, card.package))) <= 1
    if card.hub_id:
        assert re.fullmatch(r"[0-9a-f]{40}", card.revision)
        assert card.weight_file in ("model.safetensors", "pytorch_model.bin")
    if card.url:
        assert card.url.endswith(f"/{card.weight_file}")
        assert re.fullmatch(r"\w+-[0-9a-f]{8}\.pth", card.weight_file)
    assert not card.sha256 or re.fullmatch(r"[0-9a-f]{64}", card.sha256)


def test_revisions_are_of_cards_and_none_is_used_twice() -> None:
    assert set(REVISIONS) == {card.name for card in CARDS.values() if card.hub_id}
    assert len(set(REVISIONS.values())) == len(REVISIONS)
    assert set(SHA256) <= set(REVISIONS)
    assert len({card.hub_id for card in CARDS.values() if card.hub_id}) == len(REVISIONS)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        # What transformers takes for granted of these classes is the base model of each paper.
        ("clip-vit-b32", transformers.CLIPVisionConfig()),
        ("dinov2-b", transformers.Dinov2Config()),
        ("dinov2-b-reg", transformers.Dinov2WithRegistersConfig()),
        ("videomae-base", transformers.VideoMAEConfig()),
        ("wav2vec2-base", transformers.Wav2Vec2Config()),
        ("hubert-base", transformers.HubertConfig()),
    ],
)
def test_base_models_are_as_wide_and_deep_as_the_library_s(name: str, config: transformers.PreTrainedConfig) -> None:
    card = CARDS[name]
    assert card.dim == getattr(config, "projection_dim", config.hidden_size)
    assert (card.token_dim or card.dim) == config.hidden_size
    assert card.n_layers == config.num_hidden_layers
    assert card.has_tokens == (card.stream == "picture")


@pytest.mark.parametrize(
    ("name", "width", "n_layers"),
    [
        # CLIP table 20; DINOv2 table 16; wav2vec 2.0 section 4.2; XLS-R table 2; HuBERT table 1; VideoMAE table 9.
        ("clip-vit-b16", 768, 12), ("clip-vit-l14", 1024, 24), ("dinov2-s", 384, 12), ("dinov2-l", 1024, 24),
        ("dinov2-s-reg", 384, 12), ("dinov2-l-reg", 1024, 24), ("wav2vec2-large", 1024, 24), ("xls-r-300m", 1024, 24),
        ("hubert-large", 1024, 24), ("videomae-large", 1024, 24),
    ],
)  # fmt: skip
def test_other_sizes_are_those_of_the_papers(name: str, width: int, n_layers: int) -> None:
    assert (CARDS[name].token_dim or CARDS[name].dim, CARDS[name].n_layers) == (width, n_layers)


@pytest.mark.parametrize("name", [name for name, card in CARDS.items() if card.family in PUBLISHED])
def test_the_recipe_of_the_published_processor_is_what_the_card_says(name: str, context_of) -> None:
    card, recipe = CARDS[name], load_recipe(context_of(CARDS[name]))
    assert recipe.crop_px == card.input_px
    assert (recipe.mean, recipe.std) == NORMS[card.norm]


@pytest.mark.parametrize("family", PUBLISHED)
@pytest.mark.parametrize("shape", [(300, 401), (225, 299), (299, 500), (720, 1280), (481, 270), (64, 49)])
def test_pictures_of_any_shape_are_prepared_as_the_processor_does(
    family: str, shape: tuple[int, int], context_of
) -> None:
    """To the pixel: also where the margins of the square cannot be halved, and where pictures grow."""
    context = context_of(next(card for card in CARDS.values() if card.family == family))
    processor = transformers.AutoImageProcessor.from_pretrained(context.folder)
    coarse = np.random.default_rng(0).integers(0, 256, (9, 16, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize(shape[::-1], Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    expected = processor([pixels], return_tensors="pt")["pixel_values"].flatten(0, -4)
    found = prepare(pixels[None], load_recipe(context), torch.float32)
    assert (found - expected).abs().max() < 1e-3


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"do_resize": False}, "do_resize is false"),
        ({"crop_size": {"height": 224, "width": 112}}, "which is no square"),
        ({"do_center_crop": False}, "its pictures are not square"),
        ({"resample": 0}, "lacks a usable"),
        ({"rescale_factor": 1 / 127.5}, "does more than resize"),
    ],
)
def test_a_processor_that_does_anything_else_is_refused(changes: dict, told: str, context_of) -> None:
    with pytest.raises(WeightsError, match=told):
        load_recipe(context_of(CARDS["dinov2-s"], **changes))


@pytest.mark.parametrize("name", [name for name, card in CARDS.items() if card.family == "timm"])
def test_the_recipe_of_timm_is_what_the_card_says(name: str) -> None:
    card = CARDS[name]
    data = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(card.architecture).to_dict())
    assert data["input_size"] == (3, card.input_px, card.input_px)
    assert (data["mean"], data["std"]) == NORMS[card.norm]


@pytest.mark.parametrize(
    ("name", "weights"), [("r3d-18", video.R3D_18_Weights), ("r2plus1d-18", video.R2Plus1D_18_Weights)]
)
def test_the_recipe_of_torchvision_is_what_the_card_says(name: str, weights: type) -> None:
    card, published = CARDS[name], weights.KINETICS400_V1
    preset = published.transforms()
    assert preset.crop_size == [card.input_px, card.input_px]
    assert (tuple(preset.mean), tuple(preset.std)) == NORMS[card.norm]
    assert published.url == card.url
