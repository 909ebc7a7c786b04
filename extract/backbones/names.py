"""From what people type after `-b` to the cards of a run. No torch."""

from collections.abc import Sequence
from pathlib import Path

from mmdf.cache.errors import UsageError
from mmdf.extract.backbones import Card, card_of
from mmdf.extract.outputs import PLAIN, Outputs

GEOMETRY = "face-geometry"


def chosen_cards(names: Sequence[str], outputs: Outputs = PLAIN, weights_dir: Path | None = None) -> list[Card]:
    """The cards of `NAME` and `NAME/VIEW`; with a view of faces comes `face-geometry`, which says where they are.

    Raises
    ------
    UsageError
        For an unknown or repeated name, or outputs that none of them has.
    """
    cards = [card_of(name, weights_dir) for name in names]
    aliases = [card.alias for card in cards]
    twice = sorted({alias for alias in aliases if aliases.count(alias) > 1})
    if twice:
        raise UsageError(f"The backbone {twice[0]} is named twice in {', '.join(names)}.")
    outputs.check(cards)
    if any(card.view == "face" for card in cards) and f"{GEOMETRY}/face" not in aliases:
        cards.append(card_of(GEOMETRY))
    return cards
