"""`mmdf extract` as one function: from names and paths to a store with embeddings, and a record of the run."""

import platform
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from mmdf.cache.manifest import Manifest
from mmdf.cache.store import FeatureStore
from mmdf.extract.backbones.load import load_backbones
from mmdf.extract.device import choose_compute
from mmdf.extract.stage import ExtractConfig, Extraction, Progress, Summary

_RECORDED = ("mmdf", "torch", "torchaudio", "torchvision", "transformers", "timm", "zarr", "av", "pillow", "numpy")


@dataclass(frozen=True)
class ExtractOptions:
    """What the shell can say of a run, beside manifest, store and backbones."""

    weights_dir: Path | None = None
    download: bool = False
    device: str = "auto"
    dtype: str = "auto"
    limit: int | None = None
    config: ExtractConfig = field(default_factory=ExtractConfig)


def run_extract(
    manifest: Manifest,
    store_path: Path,
    names: Sequence[str],
    options: ExtractOptions,
    progress: Progress = lambda done, failed: None,
    say: Callable[[str], None] = lambda text: None,
) -> Summary:
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
    compute = choose_compute(options.device, options.dtype)
    backbones = load_backbones(names, compute, options.config.sampling, options.weights_dir, options.download)
    store = FeatureStore.open(store_path, create=True)
    say(f"Computing on {compute.reason}.")
    if options.limit is not None:
        manifest = manifest.take(np.arange(min(options.limit, len(manifest))))
    run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
    summary = Extraction(manifest, store, backbones, compute.device, options.config, run_id, progress).run()
    record = {
        "run_id": run_id,
        "features": {b.spec.alias: b.spec.fingerprint for b in backbones},
        "compute": compute.reason,
        "config": asdict(options.config),
        "host": platform.platform(),
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in _RECORDED} | {"python": platform.python_version()},
        "summary": summary.to_dict(),
    }
    say(f"Recorded in {store.ledger.add_run(run_id, record)}.")
    return summary
