"""What there is to choose from: `mmdf list`. Reads cards and docstrings; imports nothing heavy."""

from typing import Any

from mmdf.cache.errors import UsageError, WeightsError
from mmdf.cache.registry import did_you_mean
from mmdf.extract.backbones import CARDS, Card, load_installed_plugins
from mmdf.extract.datasets import layouts
from mmdf.extract.weights import find_weights
from mmdf.fuse.heads import heads


def catalogue(what: str) -> tuple[list[dict[str, Any]], str]:
    """The rows of one list and the same as text. `UsageError` for a list that does not exist."""
    lists = {"backbones": _backbones, "heads": _heads, "layouts": _layouts}
    if what not in lists:
        raise UsageError(f"There is no list '{what}'.{did_you_mean(what, lists)} Known: {', '.join(lists)}.")
    rows = lists[what]()
    return rows, _aligned([list(rows[0]), *([str(value) for value in row.values()] for row in rows)])


def _aligned(table: list[list[str]]) -> str:
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in table)
    return "\n".join(line.rstrip() for line in padded)


def _backbones() -> list[dict[str, Any]]:
    load_installed_plugins()
    return [
        {
            "name": card.name,
            "views": ",".join((card.view, *(view for view in card.views if view != card.view))),
            "dim": card.dim,
            "input": f"{card.input_px} px, {card.norm}"
            if card.input_px
            else "16 kHz"
            if card.stream == "sound"
            else "any",
            "hop_s": "even" if card.hop_s is None else f"{card.hop_s:g}",
            "layers": card.n_layers or "-",
            "weights": weights_state(card),
            "licence": card.licence,
            "source": _source(card),
            "paper": card.paper,
        }
        for card in CARDS.values()
    ]


def _source(card: Card) -> str:
    if card.hub_id:
        return f"{card.hub_id}@{card.revision[:8]}"
    return card.package or card.url.rpartition("/")[2] or "none needed"


def weights_state(card: Card) -> str:
    """Whether the weights are on this machine: here, missing, or none needed."""
    try:
        return "here" if find_weights(card) else "none needed"
    except WeightsError:
        return "missing"


def _heads() -> list[dict[str, Any]]:
    return [{"name": name, "what": heads.describe(name)} for name in heads]


def _layouts() -> list[dict[str, Any]]:
    return [{"name": name, "what": layouts.describe(name)} for name in layouts]
