"""The backbones by name: cards that are readable without torch, and the families that know how to run them.

A name is `NAME` or `NAME/VIEW`. Beside the built-in ones there are `hf:ORG/NAME[@REVISION]` (any encoder that
transformers' `AutoModel` opens), `timm:NAME`, and what plugins register (docs/backbones.md).
"""

import importlib.util
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from mmdf.cache.errors import MmdfError, UsageError
from mmdf.cache.registry import Registry, did_you_mean
from mmdf.extract.backbones import cards
from mmdf.extract.backbones.cards import NORMS, VIEWS, Card, View

__all__ = ["CARDS", "FAMILIES", "NORMS", "VIEWS", "Card", "View", "card_of", "load_plugin", "register"]

ENTRY_POINTS = "mmdf.backbones"

FAMILIES: Registry = Registry(
    "backbone family",
    {
        "clip": "mmdf.extract.backbones.pictures:load_clip",
        "dinov2": "mmdf.extract.backbones.pictures:load_dinov2",
        "videomae": "mmdf.extract.backbones.pictures:load_videomae",
        "timm": "mmdf.extract.backbones.convolutional:load_timm",
        "video-resnet": "mmdf.extract.backbones.convolutional:load_video_resnet",
        "speech": "mmdf.extract.backbones.speech:load_speech",
        "hf": "mmdf.extract.backbones.hub:load_hf",
        "lfcc": "mmdf.extract.backbones.signal:load_lfcc",
        "cqcc": "mmdf.extract.backbones.cqcc:load_cqcc",
        "logmel": "mmdf.extract.backbones.signal:load_logmel",
        "spectrum": "mmdf.extract.backbones.signal:load_spectrum",
        "residual": "mmdf.extract.backbones.residual:load_residual",
        "motion": "mmdf.extract.backbones.motion:load_motion",
        "face-geometry": "mmdf.extract.backbones.signal:load_face_geometry",
        "toy": "mmdf.extract.backbones.toy:load_toy",
    },
)

CARDS: dict[str, Card] = dict(cards.CARDS)

_NAME = re.compile(r"[\w.-]+")


def register(card: Card, load: Callable | str) -> None:
    """Add a backbone: what a plugin calls. `load` takes a `LoadContext` and gives a `Backbone` (backbones/base.py).

    Raises
    ------
    UsageError
        If the name of the card or its family is taken, or the card names a view that does not exist.
    """
    views = card.views if card.view in card.views else (card.view, *card.views)
    unknown = [view for view in views if view not in VIEWS]
    if unknown:
        raise UsageError(f"'{card.name}' wants the view '{unknown[0]}'. Views: {', '.join(VIEWS)}.")
    if card.name in CARDS or not _NAME.fullmatch(card.name):
        raise UsageError(
            f"A backbone cannot be called '{card.name}': the name is taken, or holds more than letters, digits, '-', "
            "'_' and '.'."
        )
    FAMILIES.add(card.family, load)
    CARDS[card.name] = replace(card, views=views)


def load_plugin(file: Path) -> None:
    """Run a Python file that registers backbones (`--plugin FILE`). It is code: run only what you trust.

    Raises
    ------
    UsageError
        If the file is not there, does not run, or registers nothing.
    """
    if not file.is_file():
        raise UsageError(f"There is no plugin {file}. Give --plugin a Python file; docs/backbones.md has an example.")
    path = file.resolve()
    module_name = f"mmdf_plugin_{path.stem}"
    loaded = sys.modules.get(module_name)
    if loaded is not None and loaded.__file__ == str(path):
        return
    before = set(CARDS)
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{file} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except MmdfError:
        del sys.modules[module_name]
        raise
    except Exception as error:
        del sys.modules[module_name]
        raise UsageError(f"The plugin {file} does not run ({type(error).__name__}: {error}).") from error
    if set(CARDS) == before:
        del sys.modules[module_name]
        raise UsageError(f"The plugin {file} registers no backbone: call mmdf.extract.backbones.register(card, load).")


@cache
def load_installed_plugins() -> None:
    """Import what installed packages offer under the entry point `mmdf.backbones`, once."""
    for point in entry_points(group=ENTRY_POINTS):
        try:
            point.load()
        except MmdfError as error:
            raise UsageError(f"The plugin '{point.name}' of {point.value} does not load. {error}") from error
        except Exception as error:
            raise UsageError(
                f"The plugin '{point.name}' of {point.value} does not load ({type(error).__name__}: {error}). "
                "Mend or uninstall it."
            ) from error


def card_of(name: str, weights_dir: Path | None = None) -> Card:
    """The card of `NAME` or `NAME/VIEW`, with that view.

    Parameters
    ----------
    weights_dir
        Where the configuration of `hf:` names is looked for, to tell what such a model looks at.

    Raises
    ------
    UsageError
        With the nearest name if there is none, or the backbone's views if it cannot look at that one.
    """
    base, slash, view = name.rpartition("/")
    # hf:openai/clip is a repository whose name happens to be that of a view.
    if not slash or view not in VIEWS or (base.startswith("hf:") and "/" not in base):
        base, view = name, ""
    card = _card(base, weights_dir)
    if not view:
        return card
    if view not in card.views:
        raise UsageError(f"'{base}' cannot look at '{view}'. Its views: {', '.join(card.views)}.")
    return replace(card, view=view)


def _card(name: str, weights_dir: Path | None) -> Card:
    if name.startswith(("hf:", "timm:")):
        from mmdf.extract.backbones.open_ids import card_of_id

        return card_of_id(name, weights_dir)
    if name not in CARDS:
        load_installed_plugins()
    if name not in CARDS:
        hint = did_you_mean(name, CARDS)
        raise UsageError(
            f"Unknown backbone '{name}'.{hint} Available: {', '.join(CARDS)}, hf:ORG/NAME, timm:NAME. "
            f"Views: NAME/VIEW, with VIEW one of {', '.join(VIEWS)}."
        )
    return CARDS[name]
