"""One folder a class, with or without folders for splits, methods and people. Reads names and sizes, never a medium.

A path is read from the left: `[split/] [any/] CLASS/ [split/] [method/] [identity/] [any/] file`. The first folder
whose name is a class word (`words.CLASS_WORDS`) is the class folder. Below a FAKE folder the first sub-folder is the
method and the next one the identity; below a REAL folder the first one is the identity. What is not there is null.
"""

import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mmdf.cache.errors import DataError
from mmdf.cache.manifest import Item, Manifest, inside
from mmdf.extract.datasets.words import CLASS_WORDS, EXTENSIONS, FAKE, SPLIT_WORDS, modality_of

_log = logging.getLogger(__name__)
_SHOWN = 12


def build(root: Path, dataset: str | None = None) -> Manifest:
    """A manifest of the media below the class folders of `root`.

    A split word (`words.SPLIT_WORDS`) counts anywhere above the class folder and directly below it; other folders
    above the class folder are not read, nor are those below the identity. The extension decides the modality. Hidden
    files and folders, other extensions and media outside of any class folder are skipped and counted in the log.
    Symbolic links to folders inside of the root are not followed, since their files are listed where they are.

    Raises
    ------
    DataError
        If there is no class folder or no medium, if a path names two splits, or if a link leaves the root.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder. The layout 'folders' reads a folder with one sub-folder a class.")
    dataset = dataset or root.resolve().name
    skipped: Counter[str] = Counter()
    items = [
        item
        for relative, size_bytes in _files(root, skipped)
        if (item := _item(relative, size_bytes, dataset, skipped)) is not None
    ]
    if not items:
        raise DataError(_nothing_found(root, skipped))
    for reason, count in sorted(skipped.items()):
        _log.info("skipped %d %s", count, reason)
    return Manifest.of(items, root)


def _files(root: Path, skipped: Counter[str]) -> Iterator[tuple[str, int]]:
    """Relative path and size in bytes of every visible file, in the order of their names."""
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        folders = []
        with os.scandir(root / prefix) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
        for entry in entries:
            relative = prefix + entry.name
            if entry.name.startswith("."):
                skipped["hidden files or folders"] += 1
                continue
            if entry.is_symlink():
                inside(root, relative)
            if entry.is_dir(follow_symlinks=False):
                folders.append(relative + "/")
            elif entry.is_file():
                yield relative, entry.stat().st_size
            else:
                skipped["links to folders, broken links or special files"] += 1
        waiting.extend(reversed(folders))


def _item(relative: str, size_bytes: int, dataset: str, skipped: Counter[str]) -> Item | None:
    modality = modality_of(relative)
    if modality is None:
        skipped["files of other types"] += 1
        return None
    folders = relative.split("/")[:-1]
    found = next((depth for depth, name in enumerate(folders) if name.lower() in CLASS_WORDS), None)
    if found is None:
        skipped["media outside of a class folder"] += 1
        return None
    label = CLASS_WORDS[folders[found].lower()]
    above, below = folders[:found], folders[found + 1 :]
    splits = [SPLIT_WORDS[name.lower()] for name in (*above, *below[:1]) if name.lower() in SPLIT_WORDS]
    if len(set(splits)) > 1:
        raise DataError(f"'{relative}' stands in the splits {' and '.join(splits)} at once. Rename one of the folders.")
    if below and below[0].lower() in SPLIT_WORDS:
        below = below[1:]
    method = below.pop(0) if label == FAKE and below else None
    return Item(
        item_id=f"{dataset}/{relative}",
        path=relative,
        modality=modality,
        dataset=dataset,
        label=label,
        method=method,
        identity=below[0] if below else None,
        split=splits[0] if splits else None,
        size_bytes=size_bytes,
    )


def _nothing_found(root: Path, skipped: Counter[str]) -> str:
    outside = skipped["media outside of a class folder"]
    if not outside:
        known = " ".join(extension for extensions in EXTENSIONS.values() for extension in extensions)
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(skipped.items()) if count)
        return f"{root} holds no media (found: {counts or 'nothing'}). Known extensions: {known}."
    top = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    shown = ", ".join(top[:_SHOWN]) + (f" and {len(top) - _SHOWN} more" if len(top) > _SHOWN else "")
    return (
        f"No class folder below {root}: {outside} media files, but none in a folder whose name is a class. "
        f"Folders at the top: {shown or 'none'}. Recognised: {', '.join(CLASS_WORDS)}, with or without train, val and "
        "test. Rename the folders, or describe the files in a table and use the layout 'table'."
    )
