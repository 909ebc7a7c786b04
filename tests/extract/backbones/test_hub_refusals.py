"""Hub ids of models that are no encoders of pictures, clips or raw sound, and options that a model cannot follow."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import transformers

from mmdf.cache.errors import UsageError, WeightsError

TINY_VIT = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}


@pytest.mark.parametrize(
    ("layers", "tokens", "name", "text"),
    [
        ("last", "cls", "siglip", "has no class token"),
        ("last", "cls", "resnet", "has no class token"),
        ("last", "cls", "swin", "has no class token"),
        ("last", "grid9", "resnet", "grid9: the model has 8 x 8 patches only"),
        ("last", "grid5", "vit", "grid5: the model has 4 x 4 patches only"),
        ("1,2", "", "resnet", "has layers to choose from"),
        ("1,2", "", "swin", "has layers to choose from"),
        ("4", "", "vit", "layers 0 to 3"),
    ],
)
def test_what_a_model_has_not(layers: str, tokens: str, name: str, text: str, tmp_path: Path, save, load) -> None:
    save(tmp_path / "org" / name, name)
    with pytest.raises(UsageError, match=text):
        load(f"hf:org/{name}", tmp_path, layers, tokens)


def spectrogram_transformer() -> transformers.PreTrainedModel:
    config = transformers.ASTConfig(**TINY_VIT, num_mel_bins=32, max_length=64)
    return transformers.ASTModel(config)


def bert() -> transformers.PreTrainedModel:
    return transformers.BertModel(transformers.BertConfig(**TINY_VIT, vocab_size=99))


@pytest.mark.parametrize(
    ("make", "processor", "text"),
    [
        (
            spectrogram_transformer,
            transformers.ASTFeatureExtractor(num_mel_bins=32, max_length=64),
            "does not take raw sound",
        ),
        (bert, transformers.ViTImageProcessor(size={"height": 64, "width": 64}), "cannot be run on a frame alone"),
        ("vit", transformers.ViTImageProcessor(size={"height": 64, "width": 32}), "not square"),
        ("vit", transformers.ViTImageProcessor(size={"height": 96, "width": 96}), "cannot be run on a frame alone"),
        (
            "vit",
            transformers.ViTImageProcessor(size={"height": 64, "width": 64}, do_normalize=False),
            "do_normalize is false",
        ),
        (
            "vit",
            transformers.ViTImageProcessor(size={"height": 64, "width": 64}, rescale_factor=1 / 127),
            "does more than resize",
        ),
        (
            lambda: transformers.TimesformerModel(
                transformers.TimesformerConfig(**TINY_VIT, image_size=64, num_frames=8)
            ),
            transformers.VideoMAEImageProcessor(),
            "looks at 8 frames; clips have 16",
        ),
    ],
    ids=["mel", "text", "no square", "another size", "no norm", "another scale", "frames"],
)
def test_models_that_do_not_fit_are_refused_in_words(
    make: Callable | str, processor, text: str, tmp_path: Path, save, load
) -> None:
    save(tmp_path / "org" / "a", make, processor)
    with pytest.raises(WeightsError, match=text):
        load("hf:org/a", tmp_path)


def test_code_beside_the_weights_is_never_run(tmp_path: Path, save, load, monkeypatch) -> None:
    """Not even where somebody is there to say yes."""
    folder = tmp_path / "org" / "a"
    save(folder, "vit")
    for name, entry in {
        "config.json": {"AutoConfig": "trap.Config", "AutoModel": "trap.Model"},
        "preprocessor_config.json": {"AutoImageProcessor": "trap.Processor"},
    }.items():
        values = json.loads((folder / name).read_text())
        unknown = {"model_type": "trap"} if name == "config.json" else {"image_processor_type": "Trap"}
        (folder / name).write_text(json.dumps(values | unknown | {"auto_map": entry}))
    (folder / "trap.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\n")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(WeightsError, match="does not hold the weights of 'hf:org/a'"):
        load("hf:org/a", tmp_path)
    assert not (tmp_path / "sprung").exists()
