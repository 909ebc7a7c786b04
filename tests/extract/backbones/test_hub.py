"""Encoders by their hub id, opened from local folders, against the library's own processor and model."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from mmdf.extract.backbones import card_of
from mmdf.extract.backbones.base import Backbone

# Name to its plain embedding as the library has it, width, side of the map.
PICTURES: dict[str, tuple] = {
    "vit": (lambda m, x: m(pixel_values=x).pooler_output, 32, 4),
    "siglip": (lambda m, x: m.get_image_features(pixel_values=x).pooler_output, 32, 4),
    "clip": (lambda m, x: m.get_image_features(pixel_values=x).pooler_output, 24, 4),
    "convnext": (lambda m, x: m(pixel_values=x).pooler_output, 24, 2),
    "resnet": (lambda m, x: m(pixel_values=x).pooler_output.flatten(1), 24, 8),
    "swin": (lambda m, x: m(pixel_values=x).pooler_output, 16, 8),
}
CLIPS: dict[str, Callable] = {
    "videomae": lambda m, x: m(pixel_values=x).last_hidden_state.mean(1),
    "timesformer": lambda m, x: m(pixel_values=x).last_hidden_state[:, 1:].mean(1),
}
TINY_VIT = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
SPEECH = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_equal_the_library_s_processor_and_model(
    name: str, tmp_path: Path, save, pictures, load: Callable[..., Backbone], embed
) -> None:
    plain, dim, _ = PICTURES[name]
    (model, processor), views = save(tmp_path / "org" / name, name), pictures(2)
    backbone = load(f"hf:org/{name}", tmp_path)
    inputs = processor(list(views.pictures("frame").pixels), return_tensors="pt")["pixel_values"]
    assert (backbone.rows(views).inputs - inputs).abs().max() < 1e-3
    with torch.inference_mode():
        expected = plain(model, inputs).numpy()
    assert np.abs(embed(backbone, views) - expected).max() < 1e-3 * np.abs(expected).max()
    assert np.abs(expected[0] - expected[1]).max() > 1e-2 * np.abs(expected).max()
    assert (backbone.spec.alias, backbone.spec.dim) == (f"hf:org/{name}/frame", dim)


def by_hand(patches: np.ndarray, n: int) -> np.ndarray:
    """Means over a grid of patches (B, h, w, D), (B, n * n, D)."""
    side = patches.shape[1]
    spans = [slice(i * side // n, math.ceil((i + 1) * side / n)) for i in range(n)]
    return np.stack([patches[:, rows, columns].mean((1, 2)) for rows in spans for columns in spans], 1)


@pytest.mark.parametrize("name", PICTURES)
def test_tokens_of_pictures(name: str, tmp_path: Path, save, pictures, load, embed) -> None:
    plain, _, side = PICTURES[name]
    (model, processor), views = save(tmp_path / "org" / name, name), pictures(2)
    backbone = load(f"hf:org/{name}/mouth", tmp_path, tokens="mean,grid2")
    with torch.inference_mode():
        inputs = processor(list(views.pictures("frame").pixels), return_tensors="pt")["pixel_values"]
        tower = getattr(model, "vision_model", model)
        last = tower(pixel_values=inputs).last_hidden_state
        # CLIP's towers leave all but the class token as it is.
        last = (tower.post_layernorm(last) if name == "clip" else last).numpy()
        own = plain(model, inputs).numpy()
    if last.ndim == 4:
        patches, mean = last.transpose(0, 2, 3, 1), own[:, None]
    else:
        patches = last[:, last.shape[1] - side * side :].reshape(2, side, side, -1)
        mean = patches.mean((1, 2))[:, None]
    expected = np.concatenate([mean, by_hand(patches, 2)], 1)
    with torch.inference_mode():
        found = backbone.forward(inputs).numpy().reshape(2, 5, -1)
    assert backbone.spec.shape == (5, patches.shape[-1])
    assert np.abs(found - expected).max() < 1e-4 * max(1, np.abs(expected).max())


@pytest.mark.parametrize("name", ["vit", "siglip", "clip"])
def test_layers_of_pictures(name: str, tmp_path: Path, save, pictures, load) -> None:
    (model, _), views = save(tmp_path / "org" / name, name), pictures(1)
    backbone = load(f"hf:org/{name}", tmp_path, "all", "mean")
    tower = getattr(model, "vision_model", model)
    inputs = backbone.rows(views).inputs
    with torch.inference_mode():
        answer = tower(pixel_values=inputs, output_hidden_states=True)
        expected = torch.stack([h[:, h.shape[1] - 16 :].mean(1) for h in answer.hidden_states], 1).numpy()
        norm = tower.layernorm if name == "vit" else tower.post_layernorm
        last = norm(answer.hidden_states[-1])[:, -16:].mean(1).numpy()
        assert np.abs(load(f"hf:org/{name}", tmp_path, tokens="mean").forward(inputs).numpy() - last).max() < 2e-5
        found = backbone.forward(inputs).numpy()
    assert backbone.spec.shape == (4, 32)
    assert np.abs(found.reshape(expected.shape) - expected).max() < 2e-5


@pytest.mark.parametrize("name", CLIPS)
def test_clips_equal_the_library_s_processor_and_model(name: str, tmp_path: Path, save, pictures, load, embed) -> None:
    plain = CLIPS[name]
    (model, processor), views = save(tmp_path / "org" / name, name), pictures(0, 90, 120, clips=2)
    backbone = load(f"hf:org/{name}", tmp_path)
    batches = [processor(list(clip), return_tensors="pt")["pixel_values"] for clip in views.pictures("clip").pixels]
    with torch.inference_mode():
        expected = plain(model, torch.cat(batches)).numpy()
    assert np.abs(embed(backbone, views) - expected).max() < 1e-3 * np.abs(expected).max()
    assert np.abs(expected[0] - expected[1]).max() > 1e-2 * np.abs(expected).max()
    assert backbone.spec.alias == f"hf:org/{name}/clip"
    assert card_of(f"hf:org/{name}", tmp_path).views == ("clip", "face-clip")


@pytest.mark.parametrize("name", CLIPS)
def test_a_cell_of_a_clip_s_grid_is_a_place_in_the_picture(name: str, tmp_path: Path, save, load) -> None:
    """What enters the first layer of a clip changes only in the cell where its pixels change."""
    save(tmp_path / "org" / name, name)
    backbone = load(f"hf:org/{name}", tmp_path, "0", "grid4")
    still = torch.zeros(1, 16, 3, 64, 64)
    for row, column in ((0, 1), (2, 3)):
        moved = still.clone()
        moved[:, 5:7, :, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16] = 1
        with torch.inference_mode():
            change = (backbone.forward(moved) - backbone.forward(still)).reshape(4, 4, -1).abs().amax(2)
        assert (change > 1e-6).nonzero().tolist() == [[row, column]]


@pytest.mark.parametrize("stable", [False, True])
def test_speech(stable: bool, tmp_path: Path, save, sound, load, embed) -> None:
    options = {"do_stable_layer_norm": stable, "feat_extract_norm": "layer" if stable else "group"}
    processor = transformers.Wav2Vec2FeatureExtractor(do_normalize=stable)
    model, _ = save(
        tmp_path / "org" / "wavlm",
        lambda: transformers.WavLMModel(transformers.WavLMConfig(**SPEECH, **options)),
        processor,
    )
    views = sound(5.0)
    samples = views.voice("speech").samples.numpy()
    windows = processor([samples[:64000], samples[16000:]], sampling_rate=16000, return_tensors="pt").input_values
    with torch.inference_mode():
        expected = model(windows).last_hidden_state.mean(1).numpy()
    backbone = load("hf:org/wavlm", tmp_path)
    assert np.abs(embed(backbone, views) - expected).max() < 2e-5
    assert backbone.spec.alias == "hf:org/wavlm/speech"
    assert load("hf:org/wavlm/speech-trimmed", tmp_path, "all").spec.shape == (4, 16)


def test_a_classifier_s_checkpoint_has_no_pooler_to_be_made_up(tmp_path: Path, save, pictures, load, embed) -> None:
    config = transformers.ViTConfig(**TINY_VIT, image_size=64, patch_size=16)
    processor = transformers.ViTImageProcessor(size={"height": 64, "width": 64})
    model, _ = save(tmp_path / "org" / "vit", lambda: transformers.ViTForImageClassification(config), processor)
    views, backbone = pictures(2), load("hf:org/vit", tmp_path)
    with torch.inference_mode():
        expected = model.vit(backbone.rows(views).inputs).last_hidden_state[:, 1:].mean(1).numpy()
    assert np.abs(embed(backbone, views) - expected).max() < 2e-5
    assert backbone.spec.pooling == "mean of tokens"


def test_a_deit_squashes_before_it_cuts(tmp_path: Path, save, pictures, load) -> None:
    processor = transformers.DeiTImageProcessor(size={"height": 73, "width": 73}, crop_size={"height": 64, "width": 64})
    config = transformers.DeiTConfig(**TINY_VIT, image_size=64, patch_size=16)
    save(tmp_path / "org" / "deit", lambda: transformers.DeiTModel(config), processor)
    views = pictures(2)
    backbone = load("hf:org/deit", tmp_path, tokens="cls,grid4")
    inputs = processor(list(views.pictures("frame").pixels), return_tensors="pt")["pixel_values"]
    assert (backbone.rows(views).inputs - inputs).abs().max() < 1e-3
    # Class and distillation token come before the patches.
    assert backbone.spec.shape == (17, 32)
