"""Backbones from names: every weights file is found before the first model is loaded."""

from collections.abc import Sequence
from pathlib import Path

from mmdf.cache.errors import UsageError
from mmdf.extract.backbones import FAMILIES, card_of
from mmdf.extract.backbones.base import Backbone, LoadContext
from mmdf.extract.device import Compute
from mmdf.extract.media.sampling import Sampling
from mmdf.extract.weights import digest_of, find_weights


def load_backbones(
    names: Sequence[str],
    compute: Compute,
    sampling: Sampling,
    weights_dir: Path | None = None,
    download: bool = False,
) -> list[Backbone]:
    """Load the backbones called `names`.

    Raises
    ------
    UsageError
        For an unknown or repeated name.
    WeightsError
        If weights are missing, before anything is loaded.
    """
    if len(set(names)) != len(names):
        raise UsageError(f"A backbone is named twice in {', '.join(names)}.")
    cards = [card_of(name) for name in names]
    files = [find_weights(card, weights_dir, download) for card in cards]
    return [
        FAMILIES.get(card.family)(LoadContext(card, file, digest_of(file), compute.device, compute.dtype, sampling))
        for card, file in zip(cards, files, strict=True)
    ]
