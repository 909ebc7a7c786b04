"""`mmdf extract` as one function: from names and paths to a store with embeddings, and a record of the run.

Imports torch only once the weights are known to be there: what is missing is told within a second.
"""

import platform
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmdf.cache.manifest import Manifest
from mmdf.cache.store import FeatureStore
from mmdf.extract.options import ExtractOptions
from mmdf.extract.weights import check_weights

if TYPE_CHECKING:
    from mmdf.extract.plan import Progress
    from mmdf.extract.summary import Summary

_RECORDED = ("mmdf", "torch", "torchaudio", "torchvision", "transformers", "timm", "zarr", "av", "pillow", "numpy")


def run_extract(
    manifest: Manifest,
    store_path: Path,
    names: Sequence[str],
    options: ExtractOptions,
    progress: "Progress" = lambda done, failed: None,
    say: Callable[[str], None] = lambda text: None,
) -> "Summary":
    """Extract `names` for every item of `manifest` into the store at `store_path`, made if need be.

    Parameters
    ----------
    say
        Called with one line of text for people: the device and why, where the run is recorded.

    Raises
    ------
    MmdfError
        For anything that a person can mend. Bad media files do not raise; they are in the summary.
    """
    check_weights(names, options.weights_dir, options.download)
    import torch

    from mmdf.extract.backbones.load import augmented, load_backbones
    from mmdf.extract.device import choose_compute
    from mmdf.extract.estimate import estimate
    from mmdf.extract.stage import Extraction

    compute = choose_compute(options.device, options.dtype)
    backbones = load_backbones(
        names, compute, options.sampling, options.weights_dir, options.download, options.outputs, options.compiled
    )
    backbones = augmented(backbones, options.augment, options.augment_seed)
    store = FeatureStore.open(store_path, create=True)
    say(f"Computing on {compute.reason}.")
    if options.limit is not None:
        manifest = manifest.take(np.arange(min(options.limit, len(manifest))))
    say(estimate(manifest, store_path, names, options).to_line())
    run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
    summary = Extraction(manifest, store, backbones, compute.device, options, run_id, progress).run()
    record = {
        "run_id": run_id,
        "features": {b.spec.alias: b.spec.fingerprint for b in backbones},
        "compute": compute.reason,
        "options": asdict(options),
        "host": platform.platform(),
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in _RECORDED} | {"python": platform.python_version()},
        "summary": summary.to_dict(),
    }
    say(f"Recorded in {store.ledger.add_run(run_id, record)}.")
    return summary
