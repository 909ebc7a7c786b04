"""Each transformers backbone against the library's own processor and model, on random weights saved to disk."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import transformers
from PIL import Image

from mmdf.cache.errors import WeightsError
from mmdf.extract.backbones.base import Backbone
from mmdf.extract.backbones.load import load_backbones
from mmdf.extract.backbones.pretrained import _LOADED
from mmdf.extract.device import Compute
from mmdf.extract.media.decode import Decoded
from mmdf.extract.media.sampling import DEFAULT_SAMPLING
from mmdf.extract.media.sound import Sound
from mmdf.extract.media.video import Frames
from mmdf.extract.views import Views, make_views

CPU = torch.device("cpu")
SPEECH = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "conv_dim": [32] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
VIT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def save(folder: Path, model: transformers.PreTrainedModel, processor, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.05, generator=generator)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def save_clip(folder: Path) -> None:
    config = transformers.CLIPVisionConfig(**VIT, patch_size=32, projection_dim=24)
    save(folder, transformers.CLIPVisionModelWithProjection(config), transformers.CLIPImageProcessor())


def save_dinov2(folder: Path) -> None:
    config = transformers.Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=518)
    processor = transformers.BitImageProcessor(
        size={"shortest_edge": 256},
        crop_size={"height": 224, "width": 224},
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    save(folder, transformers.Dinov2Model(config), processor)


def save_videomae(folder: Path) -> None:
    processor = transformers.VideoMAEImageProcessor(image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])
    save(folder, transformers.VideoMAEModel(transformers.VideoMAEConfig(**VIT)), processor)


def save_wav2vec2(folder: Path) -> None:
    model = transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**SPEECH))
    save(folder, model, transformers.Wav2Vec2FeatureExtractor(do_normalize=True))


def save_hubert(folder: Path) -> None:
    model = transformers.HubertModel(transformers.HubertConfig(**SPEECH))
    save(folder, model, transformers.Wav2Vec2FeatureExtractor(do_normalize=True))


def load(name: str, weights_dir: Path, dtype: torch.dtype = torch.float32) -> Backbone:
    return load_backbones([name], Compute(CPU, dtype, "test"), DEFAULT_SAMPLING, weights_dir)[0]


def picture_views(n_frames: int = 3, height: int = 300, width: int = 400, clips: int = 0) -> Views:
    """Pictures as photographs have them: smooth, with fine noise on top."""
    rng = np.random.default_rng(0)
    n = max(n_frames, 16 * clips)
    coarse = rng.integers(0, 256, (n, 12, 16, 3), dtype=np.uint8)
    smooth = [np.asarray(Image.fromarray(c).resize((width, height), Image.Resampling.BICUBIC)) for c in coarse]
    pixels = np.clip(np.stack(smooth) + rng.normal(0, 8, (n, height, width, 3)), 0, 255).astype(np.uint8)
    rows = np.arange(16 * clips).reshape(clips, 16)
    return make_views(Decoded(Frames(pixels, np.arange(n) / 25, np.arange(n_frames), rows, np.arange(n))), CPU)


def sound_views(duration_s: float) -> Views:
    rng = np.random.default_rng(1)
    t = np.arange(int(duration_s * 16000)) / 16000
    samples = 0.1 * np.sin(2 * np.pi * 220 * t) + 0.02 * rng.standard_normal(len(t))
    return make_views(Decoded(sound=Sound(samples.astype(np.float32), 16000)), CPU)


def embed(backbone: Backbone, views: Views) -> np.ndarray:
    with torch.inference_mode():
        return backbone.forward(backbone.rows(views).inputs).numpy()


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


def clip_oracle(folder: Path, views: Views) -> torch.Tensor:
    model = transformers.CLIPVisionModelWithProjection.from_pretrained(folder).eval()
    processor = transformers.CLIPImageProcessor.from_pretrained(folder)
    return model(**processor(list(views.pictures("frame").pixels), return_tensors="pt")).image_embeds


def dinov2_oracle(folder: Path, views: Views) -> torch.Tensor:
    model = transformers.Dinov2Model.from_pretrained(folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    return model(**processor(list(views.pictures("frame").pixels), return_tensors="pt")).last_hidden_state[:, 0]


def videomae_oracle(folder: Path, views: Views) -> torch.Tensor:
    model = transformers.VideoMAEModel.from_pretrained(folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    batches = [processor(list(clip), return_tensors="pt") for clip in views.pictures("clip").pixels]
    return torch.cat([model(**batch).last_hidden_state.mean(1) for batch in batches])


def speech_oracle(model_class: type) -> Callable[[Path, Views], torch.Tensor]:
    def oracle(folder: Path, views: Views) -> torch.Tensor:
        model = model_class.from_pretrained(folder).eval()
        processor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(folder)
        # 9 s of sound: windows of 4 s at 0, 2, 4 s, and one that ends with the sound.
        windows = [views.voice("speech").samples[s : s + 64000].numpy() for s in (0, 32000, 64000, 80000)]
        batches = [processor(w, sampling_rate=16000, return_tensors="pt") for w in windows]
        return torch.cat([model(b.input_values).last_hidden_state.mean(1) for b in batches])

    return oracle


CASES = {
    "clip-vit-b32": (save_clip, clip_oracle, lambda: picture_views()),
    "clip-vit-l14": (save_clip, clip_oracle, lambda: picture_views(2, 400, 260)),
    "dinov2-s": (save_dinov2, dinov2_oracle, lambda: picture_views()),
    "dinov2-b": (save_dinov2, dinov2_oracle, lambda: picture_views(2, 180, 200)),
    "videomae-base": (save_videomae, videomae_oracle, lambda: picture_views(0, 120, 160, clips=2)),
    "wav2vec2-base": (save_wav2vec2, speech_oracle(transformers.Wav2Vec2Model), lambda: sound_views(9.0)),
    "hubert-base": (save_hubert, speech_oracle(transformers.HubertModel), lambda: sound_views(9.0)),
}


@pytest.mark.parametrize("name", CASES)
def test_embeddings_equal_the_library_s_own(name: str, tmp_path: Path) -> None:
    save_weights, oracle, views_of = CASES[name]
    save_weights(tmp_path / name)
    views = views_of()
    with torch.inference_mode():
        expected = oracle(tmp_path / name, views).numpy()
    backbone = load(name, tmp_path)
    found = embed(backbone, views)
    assert found.shape == expected.shape == (len(expected), backbone.spec.dim)
    assert len(np.unique(expected.round(5), axis=0)) == len(expected), "the oracle tells its inputs apart"
    assert np.abs(found - expected).max() < 1e-4
    assert cosine(embed(load(name, tmp_path, torch.bfloat16), views), expected) > 0.999


@pytest.mark.parametrize("name", ["clip-vit-b32", "dinov2-s"])
def test_preprocessing_equals_the_processor_on_pillow_images(name: str, tmp_path: Path) -> None:
    CASES[name][0](tmp_path / name)
    views = picture_views()
    images = [Image.fromarray(f.permute(1, 2, 0).numpy()) for f in views.pictures("frame").pixels]
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / name)
    expected = processor(images, return_tensors="pt")["pixel_values"]
    assert (load(name, tmp_path).rows(views).inputs - expected).abs().max() < 1e-3


def test_times_are_those_of_the_frames(tmp_path: Path) -> None:
    save_videomae(tmp_path / "videomae-base")
    views = picture_views(0, 120, 160, clips=2)
    assert load("videomae-base", tmp_path).rows(views).times_s == pytest.approx([0, 16 / 25])
    save_wav2vec2(tmp_path / "wav2vec2-base")
    assert load("wav2vec2-base", tmp_path).rows(sound_views(9.0)).times_s == pytest.approx([0, 2, 4, 5])


def test_short_sound_is_not_padded(tmp_path: Path) -> None:
    save_wav2vec2(tmp_path / "wav2vec2-base")
    rows = load("wav2vec2-base", tmp_path).rows(sound_views(0.5))
    assert rows.inputs.shape == (1, 8000)


def test_a_row_does_not_depend_on_its_batch(tmp_path: Path) -> None:
    save_hubert(tmp_path / "hubert-base")
    backbone = load("hubert-base", tmp_path)
    inputs = backbone.rows(sound_views(9.0)).inputs
    with torch.inference_mode():
        assert np.allclose(backbone.forward(inputs)[2:3], backbone.forward(inputs[2:3]), atol=1e-5)


def test_the_spec_follows_weights_and_precision(tmp_path: Path) -> None:
    save_clip(tmp_path / "a" / "clip-vit-b32")
    save(
        tmp_path / "b" / "clip-vit-b32",
        transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**VIT, patch_size=32)),
        transformers.CLIPImageProcessor(),
        seed=1,
    )
    one, half = load("clip-vit-b32", tmp_path / "a").spec, load("clip-vit-b32", tmp_path / "a", torch.bfloat16).spec
    other = load("clip-vit-b32", tmp_path / "b").spec
    assert len({one.fingerprint, half.fingerprint, other.fingerprint}) == 3
    assert one.same_but_precision(half)
    assert not one.same_but_precision(other)
    assert one.dim == 24
    assert one.preprocessing["resize_px"] == 224


def test_another_model_in_the_folder_is_refused(tmp_path: Path) -> None:
    save_clip(tmp_path / "clip-vit-b32")
    (tmp_path / "clip-vit-b32" / "config.json").write_text(json.dumps({"model_type": "nonsense"}))
    with pytest.raises(WeightsError, match="does not hold the weights of 'clip-vit-b32'"):
        load("clip-vit-b32", tmp_path)


def test_weights_with_a_gap_are_refused_and_not_filled_with_noise(tmp_path: Path) -> None:
    save_dinov2(tmp_path / "dinov2-s")
    file = tmp_path / "dinov2-s" / "model.safetensors"
    tensors = safetensors.torch.load_file(file)
    name = next(name for name in tensors if "mlp.fc1.weight" in name)
    safetensors.torch.save_file({n: t for n, t in tensors.items() if n != name}, file, {"format": "pt"})
    with pytest.raises(WeightsError, match="1 tensors are missing"):
        load("dinov2-s", tmp_path)


def test_a_checkpoint_for_pretraining_holds_the_encoder(tmp_path: Path) -> None:
    config = transformers.VideoMAEConfig(**VIT, decoder_num_hidden_layers=1, decoder_hidden_size=24)
    processor = transformers.VideoMAEImageProcessor()
    save(tmp_path / "videomae-base", transformers.VideoMAEForPreTraining(config), processor)
    assert load("videomae-base", tmp_path).spec.dim == 32


def test_a_model_of_another_rate_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "wav2vec2-base"
    save_wav2vec2(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": 8000}))
    with pytest.raises(WeightsError, match="wants 8000 Hz"):
        load("wav2vec2-base", tmp_path)


def test_a_tensor_of_another_shape_is_refused_by_name(tmp_path: Path) -> None:
    save_dinov2(tmp_path / "dinov2-s")
    file = tmp_path / "dinov2-s" / "model.safetensors"
    tensors = safetensors.torch.load_file(file)
    name = next(name for name in tensors if "mlp.fc1.weight" in name)
    safetensors.torch.save_file(tensors | {name: torch.zeros(3, 3)}, file, {"format": "pt"})
    with pytest.raises(WeightsError, match=rf"1 tensors are missing or of another shape, {re.escape(name)}"):
        load("dinov2-s", tmp_path)


@pytest.mark.parametrize("content", [b"", b"no tensors"])
def test_a_damaged_file_is_told_in_words(content: bytes, tmp_path: Path) -> None:
    save_dinov2(tmp_path / "dinov2-s")
    (tmp_path / "dinov2-s" / "model.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match="does not hold the weights of 'dinov2-s'"):
        load("dinov2-s", tmp_path)


def test_attention_runs_as_fast_as_the_library_can(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save_clip(tmp_path / "clip-vit-b32")
    capfd.readouterr()
    backbone = load("clip-vit-b32", tmp_path)
    assert capfd.readouterr().err == "", "no progress bars of the library's own"
    configs = [m.config for m in _LOADED.values() if m.config.model_type == "clip_vision_model"]
    assert backbone.spec.dim == 24
    assert {config._attn_implementation for config in configs} == {"sdpa"}
