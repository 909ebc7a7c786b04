"""Checkpoints of published size with seeded random weights, saved as the hub would hand them out. No network.

Each is a folder with `config.json`, `preprocessor_config.json` and `model.safetensors`, so the folder of all of them
can be given as `--weights DIR`. What they compute means nothing; how long it takes is that of the real ones.
"""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
import transformers
from transformers.utils import logging

from mmdf.cache.errors import UsageError
from mmdf.extract.backbones import CARDS, NORMS

_SEED = 0
_TINY_VIT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_TINY_SPEECH = _TINY_VIT | {
    "conv_dim": [32] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
}  # fmt: skip


def save_checkpoints(folder: Path, names: Sequence[str], tiny: bool = False) -> Path:
    """Save a checkpoint of every backbone in `names` below `folder`, which is returned; those that lie there stay.

    Parameters
    ----------
    tiny
        A few thousand parameters instead of the published number. Convolutional nets have one size only, their own.

    Raises
    ------
    UsageError
        For a backbone that no checkpoint can be made of here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if CARDS[name].package or not CARDS[name].hub_id:
            continue
        if CARDS[name].family != "timm" and name not in _MAKERS:
            raise UsageError(f"The benchmark cannot make a checkpoint of '{name}'. It can of: {', '.join(_MAKERS)}.")
        if not (folder / name).exists():
            # Under its name only once it is whole.
            with tempfile.TemporaryDirectory(dir=folder) as temporary:
                made = Path(temporary) / name
                _save(made, name, tiny)
                made.rename(folder / name)
    return folder


def _save(folder: Path, name: str, tiny: bool) -> None:
    # What `randomise` leaves as the library made it is drawn from torch's own generator.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        if CARDS[name].family == "timm":
            _save_timm(folder, CARDS[name].architecture)
            return
        model, processor = _MAKERS[name](tiny)
    randomise(model)
    shows_bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        processor.save_pretrained(folder)
        model.save_pretrained(folder)
    finally:
        if shows_bars:
            logging.enable_progress_bar()


def randomise(model: torch.nn.Module) -> None:
    """Seeded weights that keep the size of what goes through: numbers near zero would be slow ones (subnormal)."""
    generator = torch.Generator().manual_seed(_SEED)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, (2 / parameter[0].numel()) ** 0.5, generator=generator)


def _save_timm(folder: Path, architecture: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model = timm.create_model(architecture, pretrained=False)
    randomise(model)
    safetensors.torch.save_file(model.state_dict(), folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"architecture": architecture}))


def _clip(tiny: bool) -> tuple[Any, Any]:
    sizes: dict[str, Any] = _TINY_VIT | {"projection_dim": 24} if tiny else {}
    config = transformers.CLIPVisionConfig(patch_size=32, **sizes)
    return transformers.CLIPVisionModelWithProjection(config), transformers.CLIPImageProcessor()


def _dinov2(tiny: bool) -> tuple[Any, Any]:
    sizes = (32, 2, 2) if tiny else (384, 12, 6)
    config = transformers.Dinov2Config(
        hidden_size=sizes[0], num_hidden_layers=sizes[1], num_attention_heads=sizes[2], image_size=518, patch_size=14
    )
    mean, std = NORMS["imagenet"]
    processor = transformers.BitImageProcessor(
        size={"shortest_edge": 256},
        crop_size={"height": 224, "width": 224},
        image_mean=list(mean),
        image_std=list(std),
    )
    return transformers.Dinov2Model(config), processor


def _wav2vec2(tiny: bool) -> tuple[Any, Any]:
    config = transformers.Wav2Vec2Config(**_TINY_SPEECH if tiny else {})
    return transformers.Wav2Vec2Model(config), transformers.Wav2Vec2FeatureExtractor(do_normalize=True)


def _hubert(tiny: bool) -> tuple[Any, Any]:
    config = transformers.HubertConfig(**_TINY_SPEECH if tiny else {})
    return transformers.HubertModel(config), transformers.Wav2Vec2FeatureExtractor(do_normalize=True)


def _videomae(tiny: bool) -> tuple[Any, Any]:
    config = transformers.VideoMAEConfig(**_TINY_VIT if tiny else {})
    mean, std = NORMS["imagenet"]
    processor = transformers.VideoMAEImageProcessor(image_mean=list(mean), image_std=list(std))
    return transformers.VideoMAEModel(config), processor


_MAKERS: Mapping[str, Callable[[bool], tuple[Any, Any]]] = {
    "clip-vit-b32": _clip,
    "dinov2-s": _dinov2,
    "wav2vec2-base": _wav2vec2,
    "hubert-base": _hubert,
    "videomae-base": _videomae,
}
