"""Backbones from names: every weights file is found before the first model is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mmdf.cache.errors import UsageError
from mmdf.cache.spec import FeatureSpec
from mmdf.extract.allocator import keep_freed_memory
from mmdf.extract.backbones import FAMILIES
from mmdf.extract.backbones.base import Backbone, LoadContext, Rows
from mmdf.extract.backbones.names import GEOMETRY, chosen_cards
from mmdf.extract.device import Compute
from mmdf.extract.media.sampling import Sampling
from mmdf.extract.outputs import PLAIN, Outputs
from mmdf.extract.perturb.plan import recipe
from mmdf.extract.views import Views
from mmdf.extract.weights import digest_of, find_weights


def load_backbones(
    names: Sequence[str],
    compute: Compute,
    sampling: Sampling,
    weights_dir: Path | None = None,
    download: bool = False,
    outputs: Outputs = PLAIN,
    compiled: Sequence[str] = (),
) -> list[Backbone]:
    """Load the backbones called `names`, in that order; one model serves all views that it is asked for.

    Raises
    ------
    UsageError
        For an unknown or repeated name, or one that is to be compiled and was not asked for.
    WeightsError
        If weights are missing, before anything is loaded.
    """
    cards = chosen_cards(names, outputs, weights_dir)
    strangers = set(compiled) - {card.name for card in cards} - {"all"}
    if strangers:
        raise UsageError(f"--compile names {', '.join(sorted(strangers))}, which is not among {', '.join(names)}.")
    if compute.device.type == "cpu":
        keep_freed_memory()
    files = [find_weights(card, weights_dir, download) for card in cards]
    digests = {file: digest_of(file) for file in set(files)}
    loaded: list[Backbone] = []
    for card, file in zip(cards, files, strict=True):
        compile_ = card.name in compiled or "all" in compiled
        kept = outputs.of(card)
        context = LoadContext(card, file, digests[file], compute.device, compute.dtype, sampling, kept, compile_)
        loaded.append(FAMILIES.get(card.family)(context))
    return loaded


@dataclass(frozen=True)
class AugmentedBackbone:
    """A backbone as it looks at one augmented view of the items: the same model under a spec of its own."""

    inner: Backbone
    spec: FeatureSpec

    def rows(self, views: Views) -> Rows:
        """As the backbone itself."""
        return self.inner.rows(views)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """As the backbone itself."""
        return self.inner.forward(inputs)


def augmented(backbones: Sequence[Backbone], n_views: int, seed: int) -> list[Backbone]:
    """The backbones, and each of them once more for every augmented view.

    A view is a feature of its own, so that `--augment 4` after `--augment 2` computes two views and keeps two.
    """
    found = list(backbones)
    for index in range(1, n_views + 1):
        for backbone in backbones:
            # Where a face is does not change with the colours of its picture.
            if backbone.spec.backbone == GEOMETRY:
                continue
            spec = backbone.spec
            draw = {"index": index, "seed": seed, "recipe": recipe()[spec.stream]}
            variant = "+".join(part for part in (spec.variant, f"aug{index}") if part)
            changed = replace(spec, variant=variant, sampling={**spec.sampling, "augment": draw})
            found.append(AugmentedBackbone(backbone, changed))
    return found
