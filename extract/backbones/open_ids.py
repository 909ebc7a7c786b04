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
    """A card made from an id. Its width is 0, being known only once the weights are.

    Raises
    ------
    UsageError
        If the id has not the form that is expected.
    """
    found = _HF.fullmatch(name)
    if found:
        card = Card(
            name, "hf", "frame", 0, "see its page on the hub", "see its page on the hub", found["hub_id"],
            found["revision"] or "main", views=_STILL, has_tokens=True,
        )  # fmt: skip
        return _with_view(card, weights_dir)
    found = _TIMM.fullmatch(name)
    if found:
        architecture = found["architecture"]
        return Card(
            name, "timm", "frame", 0, "see timm", "see its page on the hub", f"timm/{architecture}", "main",
            architecture=architecture, views=_STILL, has_tokens=True,
        )  # fmt: skip
    raise UsageError(f"'{name}' is not of the form hf:ORG/NAME[@REVISION] or timm:NAME.")


def _with_view(card: Card, weights_dir: Path | None) -> Card:
    from mmdf.extract.weights import local_folder

    folder = local_folder(card, weights_dir)
    if folder is None:
        return card
    config, processor = _json(folder / "config.json"), _json(folder / "preprocessor_config.json")
    vision = config.get("vision_config", config)
    n_layers = int(vision.get("num_hidden_layers", 0))
    if "sampling_rate" in processor:
        return replace(card, view="speech", views=("speech", "speech-trimmed"), n_layers=n_layers, has_tokens=False)
    if "num_frames" in config:
        return replace(card, view="clip", views=("clip", "face-clip"), n_layers=n_layers)
    return replace(card, n_layers=n_layers)


def _json(path: Path) -> dict:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
