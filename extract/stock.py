"""The stock of weights on this machine: what is here, whether it is what its makers published, and a copy to take away.

No torch; nothing is loaded, files are only hashed and copied.
"""

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mmdf.cache.errors import MmdfError, WeightsError
from mmdf.extract.backbones import CARDS, Card, card_of, load_installed_plugins
from mmdf.extract.weights import CONFIG_FILES, digest_of, find_weights, local_folder

DIGESTS = "mmdf-weights.json"
_BLOB = re.compile(r"[0-9a-f]{64}")
# torch.hub's custom: `r3d_18-b3b3357e.pth` has a sha256 that begins so.
_NAMED = re.compile(r"-([0-9a-f]{8,})\.pth$")


@dataclass(frozen=True)
class Stocked:
    """The weights of one backbone on this machine.

    Attributes
    ----------
    state
        `here`, `missing`; after a check `verified`, `differs`, or `unknown` where nobody published a digest.
    source
        Where they come from, and after a check what they were held against.
    """

    name: str
    state: str
    path: str
    size_bytes: int
    source: str
    sha256: str = ""

    def to_dict(self) -> dict:
        """Plain JSON values."""
        return asdict(self)

    def to_text(self) -> str:
        """One line for people."""
        size = f"{self.size_bytes / 1e6:.0f} MB" if self.size_bytes else ""
        return f"{self.state:<9} {self.name:<20} {size:>8}  {self.source}" + (f"  {self.path}" if self.path else "")


def cards_with_weights(names: Sequence[str], weights_dir: Path | None = None) -> list[Card]:
    """The cards called `names`, or every card that has weights. Raises `UsageError` for an unknown name."""
    if names:
        return [card_of(name, weights_dir) for name in names]
    load_installed_plugins()
    return [card for card in CARDS.values() if card.hub_id or card.url or card.package]


def take_stock(names: Sequence[str] = (), weights_dir: Path | None = None) -> list[Stocked]:
    """What is here of `names`, or of all backbones that have weights."""
    return [_stocked(card, weights_dir) for card in cards_with_weights(names, weights_dir)]


def verify(names: Sequence[str] = (), weights_dir: Path | None = None) -> list[Stocked]:
    """Hash what is here and hold it against what was published: card, hub cache, file name, or an export's own list."""
    found = []
    for card in cards_with_weights(names, weights_dir):
        stocked = _stocked(card, weights_dir)
        if stocked.state == "missing":
            found.append(stocked)
            continue
        file = Path(stocked.path)
        digest = digest_of(file)
        wanted, source = _published(card, file)
        state = "unknown" if not wanted else "verified" if digest.startswith(wanted) else "differs"
        found.append(Stocked(card.name, state, stocked.path, stocked.size_bytes, source, digest))
    return found


def export(out: Path, names: Sequence[str] = (), weights_dir: Path | None = None) -> list[Stocked]:
    """Copy weights and configurations into a folder that another machine can use with `--weights`.

    Parameters
    ----------
    names
        None for all that are here, but for those that come with a package.

    Raises
    ------
    WeightsError
        If a backbone that was named is not here, or a copy differs from its source.
    """
    exported = []
    for card in cards_with_weights(names, weights_dir):
        if card.package or (not names and _stocked(card, weights_dir).state == "missing"):
            continue
        source = find_weights(card, weights_dir)
        if source is not None:
            exported.append(_copy(card, source, out / _folder_name(card)))
    if not exported:
        raise WeightsError("There is nothing to export: no weights are here. Fetch some: mmdf weights fetch NAME")
    list_file = out / DIGESTS
    known = json.loads(list_file.read_text()) if list_file.is_file() else {}
    known |= {str(Path(s.path).relative_to(out)): s.sha256 for s in exported}
    list_file.write_text(json.dumps(known, indent=2) + "\n")
    return exported


def _copy(card: Card, source: Path, folder: Path) -> Stocked:
    folder.mkdir(parents=True, exist_ok=True)
    for name in CONFIG_FILES:
        if (source.parent / name).is_file():
            shutil.copyfile(source.parent / name, folder / name)
    # Whole or not at all: a copy that was cut short must not look like weights.
    partial = folder / f"{source.name}.partial"
    shutil.copyfile(source, partial)
    digest = digest_of(source)
    if digest_of(partial) != digest:
        partial.unlink()
        raise WeightsError(f"The copy of {source} in {folder} differs from it. Check the disk and export again.")
    target = partial.replace(folder / source.name)
    return Stocked(card.name, "exported", str(target), target.stat().st_size, str(source), digest)


def _stocked(card: Card, weights_dir: Path | None) -> Stocked:
    source = f"{card.hub_id}@{card.revision[:8]}" if card.hub_id else card.package or card.url
    try:
        file = find_weights(card, weights_dir)
    except MmdfError:
        file = None
    if file is None:
        return Stocked(card.name, "missing", "", 0, source)
    return Stocked(card.name, "here", str(file), file.stat().st_size, source)


def _published(card: Card, file: Path) -> tuple[str, str]:
    """The digest that the weights should have, or its beginning, and who says so; empty if nobody does."""
    if card.sha256:
        return card.sha256, "the card"
    blob = file.resolve()
    if file.is_symlink() and blob.parent.name == "blobs" and _BLOB.fullmatch(blob.name):
        return blob.name, "the hub, through the name in its cache"
    named = _NAMED.search(file.name)
    if named:
        return named[1], "the end of the file's own name"
    for folder in file.parents[1:3]:
        if (folder / DIGESTS).is_file():
            known = json.loads((folder / DIGESTS).read_text())
            return known.get(str(file.relative_to(folder)), ""), str(folder / DIGESTS)
    return "", "nobody: no digest is published where mmdf looks"


def _folder_name(card: Card) -> str:
    return card.name.replace(":", "--").replace("/", "--")


def fetch_all(names: Sequence[str]) -> list[Stocked]:
    """Download what is missing of `names`. Raises `WeightsError` for the first that cannot be had."""
    for card in cards_with_weights(names):
        if local_folder(card) is None:
            find_weights(card, download=True)
    return take_stock(names)
