"""The small layers that heads share: standardisation, masked averages and feature dropout.

Tensors in, tensors out; knows nothing of files, specs or labels.
"""

import torch
from torch import Tensor, nn

# Below this share of a dimension's largest magnitude, its spread is rounding noise of float16 storage (2^-11) or less.
RELATIVE_SPREAD = 1e-5


class Standardiser(nn.Module):
    """Shift and scale every dimension to mean 0 and standard deviation 1 on the training items.

    A dimension that is constant in training (the spread over time of single pictures, say) gets scale 1 and comes out
    as 0, whatever it is later: nothing was learned about it.

    Parameters
    ----------
    dim
        Width of the input.
    """

    mean: Tensor
    scale: Tensor
    varies: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.register_buffer("varies", torch.ones(dim, dtype=torch.bool))

    def fit(self, x: Tensor, present: Tensor) -> None:
        """Take mean and scale from the present rows of `x` (n, dim); `present` is (n,) bool and not all False."""
        # In float64: the squares of large embeddings would cost float32 its digits.
        rows = x[present].double()
        spread = rows.std(0, correction=0)
        varies = spread > RELATIVE_SPREAD * rows.abs().amax(0)
        self.mean.copy_(rows.mean(0))
        self.varies.copy_(varies)
        self.scale.copy_(torch.where(varies, spread, 1.0))

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """Standardised `x`, (n, dim); rows that are not present come out as zeros, that is as the training mean."""
        return torch.where(present[:, None] & self.varies, (x - self.mean) / self.scale, 0.0)


def masked_mean(values: Tensor, present: Tensor) -> Tensor:
    """Mean over the present columns of `values` (n, S), `present` (n, S) bool; 0 where a row has none."""
    return torch.where(present, values, 0.0).sum(1) / present.sum(1).clamp(min=1)


def drop_features(present: Tensor, p: float) -> Tensor:
    """Hide each present feature with probability `p`, never the last one of an item; (n, S) bool to (n, S) bool.

    Modality dropout (Neverova et al. 2016, ModDrop), on whole features. Where all would go, one of the
    item's present features, drawn evenly, stays.
    """
    chance = torch.rand(present.shape, device=present.device)
    kept = present & (chance >= p)
    saved = torch.where(present, chance, -1.0).argmax(1, keepdim=True)
    rescue = torch.zeros_like(present).scatter(1, saved, True) & present
    return torch.where(kept.any(1, keepdim=True), kept, rescue)
