"""Backbones that have no card here: `hf:ORG/NAME[@REVISION]` and `timm:NAME`. No torch; reads their configuration.

What a Hugging Face model looks at is told by its configuration, once that is on this machine: a sampling rate means
speech, a number of frames means clips, anything else frames.
"""

import json
import re
from dataclasses import replace
from pathlib import Path

from mmdf.cache.errors import UsageError
from mmdf.extract.backbones.cards import Card

_HF = re.compile(r"hf:(?P<hub_id>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.-]+))?")
_TIMM = re.compile(r"timm:(?P<architecture>[\w.-]+)")
_STILL = ("frame", "face", "mouth")


def card_of_id(name: str, weights_dir: Path | None) -> Card:
    """A card made from an id. Its width is what the configuration says, for estimates; 0 where that is not here.

    Raises
    ------
    UsageError
        If the id has not the form that is expected.
    """
    # Here and not above: there is a way back from it to this package.
    from mmdf.extract.weights import local_folder

    found = _HF.fullmatch(name)
    if found:
        card = Card(
            name, "hf", "frame", 0, "see its page on the hub", "see its page on the hub", found["hub_id"],
            found["revision"] or "main", views=_STILL, has_tokens=True,
        )  # fmt: skip
        folder = local_folder(card, weights_dir)
        return card if folder is None else _configured(card, folder)
    found = _TIMM.fullmatch(name)
    if found:
        architecture = found["architecture"]
        card = Card(
            name, "timm", "frame", 0, "see timm", "see its page on the hub", f"timm/{architecture}", "main",
            architecture=architecture, views=_STILL, has_tokens=True,
        )  # fmt: skip
        folder = local_folder(card, weights_dir)
        return card if folder is None else replace(card, dim=_width(_json(folder / "config.json"), "num_features"))
    raise UsageError(f"'{name}' is not of the form hf:ORG/NAME[@REVISION] or timm:NAME.")


def _configured(card: Card, folder: Path) -> Card:
    config, processor = _json(folder / "config.json"), _json(folder / "preprocessor_config.json")
    vision = config.get("vision_config", config)
    width = _width(vision, "hidden_size") or _width(vision, "hidden_sizes")
    card = replace(
        card, dim=_width(config, "projection_dim") or width, token_dim=width, n_layers=_n_layers(config, folder)
    )
    if "sampling_rate" in processor:
        return replace(card, view="speech", views=("speech", "speech-trimmed"), has_tokens=False)
    return replace(card, view="clip", views=("clip", "face-clip")) if "num_frames" in config else card


def _width(config: object, name: str) -> int:
    found = config.get(name) if isinstance(config, dict) else None
    last = found[-1] if isinstance(found, list) and found else found
    return last if isinstance(last, int) else 0


def _n_layers(config: dict, folder: Path) -> int:
    vision = config.get("vision_config")
    if not isinstance(vision, dict):
        return int(config.get("num_hidden_layers", 0))
    if "num_hidden_layers" not in vision:
        # Published configurations of two towers leave out what is their class' default; only transformers knows that.
        from transformers import AutoConfig

        try:
            vision = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False).vision_config
            return int(getattr(vision, "num_hidden_layers", 0))
        except (OSError, ValueError, KeyError, AttributeError):
            return 0
    return int(vision["num_hidden_layers"])


def _json(path: Path) -> dict:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
