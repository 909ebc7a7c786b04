"""The detector folder: detector.json, head.safetensors and README.md, written whole or not at all.

Plain JSON and bytes; knows nothing of heads or how they score. Nothing in a detector is ever unpickled.
"""

import hashlib
import json
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmdf.cache.errors import CacheError, UsageError
from mmdf.cache.parts import sync_tree

FORMAT = "mmdf-detector"
VERSION = 1
DOCUMENT, WEIGHTS, CARD = "detector.json", "head.safetensors", "README.md"


def write_folder(folder: Path, document: Mapping[str, Any], weights: bytes) -> None:
    """Write a detector, replacing an older one in `folder`.

    Raises
    ------
    UsageError
        If something other than a detector lies there.
    """
    if folder.exists() and not _is_replaceable(folder):
        raise UsageError(f"{folder} exists and is not a detector, so it is left alone. Give -o another folder.")
    document = {
        "format": FORMAT,
        "version": VERSION,
        **document,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.new")
    old = new.with_suffix(".old")
    try:
        new.mkdir()
        (new / DOCUMENT).write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        (new / WEIGHTS).write_bytes(weights)
        (new / CARD).write_text(model_card(document), encoding="utf-8")
        sync_tree(new)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    finally:
        # Whatever failed, the older detector is there again and no half one beside it.
        if old.exists() and not folder.exists():
            old.rename(folder)
        for leftover in (new, old):
            shutil.rmtree(leftover, ignore_errors=True)


def _is_replaceable(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    if not any(folder.iterdir()):
        return True
    try:
        return json.loads((folder / DOCUMENT).read_text(encoding="utf-8"))["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read_folder(folder: Path) -> tuple[dict[str, Any], bytes]:
    """The document and the weights of a detector.

    Raises
    ------
    CacheError
        If there is none, a newer mmdf wrote it, or it is damaged.
    """
    path = folder / DOCUMENT
    if not path.is_file():
        raise CacheError(f"No detector at {folder}. Make one: mmdf train HEAD -s STORE -m MANIFEST -o {folder}")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        kind, number = document["format"], int(document["version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(folder, error) from error
    if kind != FORMAT or number > VERSION:
        raise CacheError(
            f"{folder} is in the format {kind} {number}; this mmdf reads {FORMAT} up to {VERSION}. "
            "Upgrade mmdf (pip install -U mmdf), or train again."
        )
    try:
        weights = (folder / WEIGHTS).read_bytes()
        expected = document["weights_sha256"]
    except (OSError, KeyError) as error:
        raise damaged(folder, error) from error
    if hashlib.sha256(weights).hexdigest() != expected:
        raise damaged(folder, ValueError(f"{WEIGHTS} does not have the checksum in {DOCUMENT}"))
    return document, weights


def damaged(folder: Path, error: Exception) -> CacheError:
    """The error for a detector that cannot be read, with what to do."""
    what = f"{type(error).__name__}: {error}"
    return CacheError(f"The detector {folder} is damaged ({what}). Copy it again, or train it anew: mmdf train.")


def model_card(document: Mapping[str, Any]) -> str:
    """The README of a detector, in Markdown, from its document."""
    record = document["record"]
    validation = record["validation"]
    features = "\n".join(f"- `{spec['backbone']}/{spec['view']}` ({spec['stream']})" for spec in document["features"])
    counts = "; ".join(f"{name}: {c['real']} real, {c['fake']} fake" for name, c in record["items"].items())
    return f"""# A deepfake detector: {document["head"]["name"]}

Made by mmdf {document["mmdf"]}. It reads embeddings of frozen backbones, never media itself:

{features}

## Trained on
{", ".join(record["datasets"]) or "unnamed data"} ({counts}), seed {record["seed"]}.

## How good it is
ROC-AUC on its own validation items: {validation["auc"]:.3f}. At the threshold {document["threshold"]:.4f}
({document["threshold_from"]}) it called {validation["false_alarm_rate"]:.1%} of the real validation items fake and
missed {validation["miss_rate"]:.1%} of the fakes. Training stopped, was calibrated and got its threshold on these same
items, so expect less on others: measure with `mmdf evaluate` on a test split and on another data set.

## Limits
- It knows the forgeries it was shown. Scores on other generators, codecs and recording devices can be near chance.
- The probability holds for the share of fakes in its validation items, not for yours.
- Not for verdicts about people without a human examiner and evidence besides this score.
"""
