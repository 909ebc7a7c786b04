"""How to run stage one. Light, so that the command line can say it before torch is loaded."""

from dataclasses import dataclass
from pathlib import Path

from mmdf.extract.media.limits import DEFAULT_LIMITS, Limits
from mmdf.extract.media.sampling import DEFAULT_SAMPLING, Sampling
from mmdf.extract.outputs import PLAIN, Outputs


@dataclass(frozen=True)
class ExtractOptions:
    """What the shell can say of a run, beside manifest, store and backbones.

    Only `dtype`, `sampling`, `outputs` and `augment` change numbers in the store; all are in every feature's spec.

    Attributes
    ----------
    weights_dir, download
        Where to look for weights instead of the hub cache, and whether to fetch what is missing.
    device, dtype
        "auto", or what torch calls them.
    limit
        Only so many items, the first ones of the manifest.
    batch_rows
        Rows a forward pass, lowered by itself when memory runs out.
    slice_items
        Items a part. What a kill can cost at the most.
    n_workers
        Decode processes; 0 decodes in this one.
    retry_failed
        Try again what failed in an earlier run.
    outputs
        Layers and tokens to keep of each backbone.
    augment, augment_seed
        Augmented views to make of every item of the train split, and the seed of their draws.
    compiled
        Backbones that go through `torch.compile`, or "all": where it pays differs (docs/performance.md).
    """

    weights_dir: Path | None = None
    download: bool = False
    device: str = "auto"
    dtype: str = "auto"
    limit: int | None = None
    batch_rows: int = 32
    slice_items: int = 64
    n_workers: int = 1
    retry_failed: bool = False
    sampling: Sampling = DEFAULT_SAMPLING
    limits: Limits = DEFAULT_LIMITS
    outputs: Outputs = PLAIN
    augment: int = 0
    augment_seed: int = 0
    compiled: tuple[str, ...] = ()
