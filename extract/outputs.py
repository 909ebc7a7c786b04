"""What is kept of a backbone's answer beside its plain embedding: which layers, which tokens. Light, no torch.

--layers  last (default) | prenorm | all | 6,9,12     one embedding a layer, an axis of its own
--tokens  cls, mean, grid4, grid7, joined by commas    class token, mean of patches, patches pooled to 4x4 or 7x7
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mmdf.cache.errors import UsageError
from mmdf.extract.backbones.cards import Card

_GRID = re.compile(r"grid([1-9]\d?)")


@dataclass(frozen=True)
class Outputs:
    """Layers and tokens that are kept.

    Attributes
    ----------
    layers
        `last` is the last layer after the model's final LayerNorm, `prenorm` the same before it, `all` the input of
        the first layer and the output of each (as s3prl counts them), or numbers of those.
    tokens
        Empty for the backbone's own embedding.
    """

    layers: str = "last"
    tokens: tuple[str, ...] = ()

    @staticmethod
    def parse(layers: str = "last", tokens: str = "") -> "Outputs":
        """Read the two options as they are typed. `UsageError` on anything else."""
        named = tuple(part.strip() for part in tokens.split(",") if part.strip())
        for token in named:
            if token not in ("cls", "mean") and not _GRID.fullmatch(token):
                raise UsageError(f"--tokens knows cls, mean and gridN such as grid4, not '{token}'.")
        if len(set(named)) != len(named):
            raise UsageError(f"--tokens names one twice: {tokens}.")
        layers = layers.replace(" ", "")
        if layers not in ("last", "prenorm", "all") and not re.fullmatch(r"\d+(,\d+)*", layers):
            raise UsageError(f"--layers takes last, prenorm, all or numbers such as 6,9,12, not '{layers}'.")
        return Outputs(layers, named)

    @staticmethod
    def of_variant(variant: str) -> "Outputs":
        """What a feature of this variant keeps: the inverse of `variant`."""
        layers, tokens = "last", tuple[str, ...]()
        for part in variant.split("+"):
            named = tuple(part.split("-"))
            if part == "prenorm" or part.startswith("layers-"):
                layers = part.removeprefix("layers-").replace("-", ",")
            elif all(token in ("cls", "mean") or _GRID.fullmatch(token) for token in named):
                tokens = named
        return Outputs(layers, tokens)

    def of(self, card: Card) -> "Outputs":
        """What of this applies to one backbone: signal-level ones have neither layers nor tokens."""
        return Outputs(self.layers if card.n_layers else "last", self.tokens if card.has_tokens else ())

    def check(self, cards: Sequence[Card]) -> None:
        """`UsageError` if an option was given that none of the backbones can follow."""
        if self.layers != "last" and not any(card.n_layers for card in cards):
            raise UsageError(f"--layers {self.layers}: none of {_names(cards)} has layers to choose from.")
        if self.tokens and not any(card.has_tokens for card in cards):
            raise UsageError(f"--tokens {','.join(self.tokens)}: none of {_names(cards)} has tokens to choose from.")
        for card in cards:
            if card.n_layers:
                self.of(card).layer_numbers(card.n_layers)

    def layer_numbers(self, n_layers: int) -> tuple[int, ...]:
        """The hidden states to keep: 0 is the input of the first layer. Empty for `last` and `prenorm`."""
        if self.layers in ("last", "prenorm"):
            return ()
        if self.layers == "all":
            return tuple(range(n_layers + 1))
        numbers = tuple(int(number) for number in self.layers.split(","))
        if max(numbers) > n_layers or len(set(numbers)) != len(numbers):
            raise UsageError(f"--layers {self.layers}: the model has the layers 0 to {n_layers}, each named once.")
        return numbers

    def shape(self, n_layers: int, dim: int) -> tuple[int, ...]:
        """Axes of one embedding, empty for a plain one: layers, tokens, width, each only where there are several."""
        n_kept = max(1, len(self.layer_numbers(n_layers)))
        n_tokens = sum(int(token[4:]) ** 2 if token.startswith("grid") else 1 for token in self.tokens) or 1
        axes = tuple(n for n in (n_kept, n_tokens) if n > 1)
        return (*axes, dim) if axes else ()

    @property
    def variant(self) -> str:
        """How this reads in an alias; empty for the plain embedding."""
        parts = []
        if self.layers == "prenorm":
            parts.append("prenorm")
        elif self.layers != "last":
            parts.append(f"layers-{self.layers.replace(',', '-')}")
        if self.tokens:
            parts.append("-".join(self.tokens))
        return "+".join(parts)


def _names(cards: Sequence[Card]) -> str:
    return ", ".join(card.name for card in cards)


PLAIN = Outputs()
