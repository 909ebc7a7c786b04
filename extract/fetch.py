"""Weights from the network, and only when asked: into the hub's cache or torch's, whole or not at all. No torch."""

import hashlib
import shutil
import urllib.request
from pathlib import Path
from urllib.error import URLError

from mmdf.cache.errors import WeightsError
from mmdf.extract.backbones import Card
from mmdf.extract.weights import CONFIG_FILES, WEIGHT_FILES, torch_cache

_TIMEOUT_S = 60


def fetch(card: Card) -> Path:
    """Download the weights of `card` and return the folder they are in.

    Raises
    ------
    WeightsError
        If there is no network, or what came is not what was asked for.
    """
    if card.url:
        return _from_url(card)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    # Which of them an open id has, nobody has written down; asking for both at once would fetch the weights twice.
    names = WEIGHT_FILES if card.name.startswith(("hf:", "timm:")) else (card.weight_file,)
    try:
        for name in names:
            wanted = [*CONFIG_FILES, name]
            folder = Path(snapshot_download(card.hub_id, revision=card.revision, allow_patterns=wanted))
            if (folder / name).is_file():
                return folder
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise WeightsError(_text(card, "the hub", error)) from error
    raise WeightsError(
        f"{card.hub_id} at revision {card.revision} has no {' or '.join(names)}. Weights in several pieces, or of "
        "other kinds, need a plugin: docs/backbones.md."
    )


def _from_url(card: Card) -> Path:
    folder = torch_cache()
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / card.weight_file
    temporary = target.with_suffix(".partial")
    try:
        with urllib.request.urlopen(card.url, timeout=_TIMEOUT_S) as answer, temporary.open("wb") as file:
            shutil.copyfileobj(answer, file)
        with temporary.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if not digest.startswith(url_digest(card)):
            raise WeightsError(
                f"What {card.url} gave is not what its name promises (sha256 {digest}). Try again later."
            )
        temporary.replace(target)
    except (URLError, OSError) as error:
        raise WeightsError(_text(card, card.url, error)) from error
    finally:
        temporary.unlink(missing_ok=True)
    return folder


def url_digest(card: Card) -> str:
    """The digits of the sha256 that the name of a torchvision file ends with: "b3b3357e" of `r3d_18-b3b3357e.pth`."""
    return card.weight_file.rpartition("-")[2].partition(".")[0]


def _text(card: Card, source: str, error: Exception) -> str:
    return (
        f"The weights of '{card.name}' could not be fetched from {source} ({type(error).__name__}). Run `mmdf weights "
        f"fetch {card.name}` and `mmdf weights export DIR` on a machine with a network, and use --weights DIR here."
    )
