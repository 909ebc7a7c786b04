"""Peak memory of an extraction, in a process of its own: run as `python -m mmdf.extract.bench.memory`.

The high-water mark is read from /proc where there is one: `ru_maxrss` of a process begins at the peak of the one that
started it, so a benchmark that has held a few models would see itself.
"""

import json
import multiprocessing
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmdf.cache.errors import MmdfError
from mmdf.cache.manifest import Manifest
from mmdf.extract.options import ExtractOptions
from mmdf.extract.summary import peak_memory_mb

_POLL_ITEMS = 10


def peak_of_extraction(manifest: Manifest, names: Sequence[str], n_items: int, folder: Path, **options: Any) -> float:
    """MB that the extraction of the first `n_items` holds at most, decode workers included, in a fresh process.

    Parameters
    ----------
    options
        Of `ExtractOptions`: device, dtype, n_workers, weights_dir.
    """
    with tempfile.TemporaryDirectory(prefix="memory-", dir=folder) as temporary:
        manifest.write(Path(temporary) / "items.parquet")
        request = {"folder": temporary, "names": list(names), "options": options | {"limit": n_items}}
        arguments = [sys.executable, "-m", "mmdf.extract.bench.memory"]
        done = subprocess.run(arguments, input=json.dumps(request, default=str), capture_output=True, text=True)
        if done.returncode:
            raise MmdfError(f"The extraction of {n_items} items did not finish: {done.stderr.strip()[-500:]}")
        return float(json.loads(done.stdout)["peak_mb"])


def main() -> None:
    """Read a request from stdin, run it, write the peak to stdout."""
    from mmdf.extract.run import run_extract

    request = json.load(sys.stdin)
    folder = Path(request["folder"])
    options = request["options"]
    if options.get("weights_dir"):
        options["weights_dir"] = Path(options["weights_dir"])
    workers_mb: dict[int, float] = {}
    n_seen = 0

    def progress(done: int, failed: int) -> None:
        nonlocal n_seen
        n_seen += done
        if n_seen % _POLL_ITEMS == 0:
            # Here and not after the run: then they are gone.
            workers_mb.update((p.pid or 0, high_water_mb(p.pid)) for p in multiprocessing.active_children())

    manifest = Manifest.read(folder / "items.parquet")
    summary = run_extract(manifest, folder / "store", request["names"], ExtractOptions(**options), progress)
    if summary.failures:
        raise MmdfError(f"{len(summary.failures)} items failed")
    # One after the other, if there was more than one: a worker is replaced after some hundred files.
    n_workers = max(1, int(options.get("n_workers", 1)))
    largest = sorted(workers_mb.values(), reverse=True)[:n_workers]
    sys.stdout.write(json.dumps({"peak_mb": (high_water_mb("self") or peak_memory_mb()) + sum(largest)}))


def high_water_mb(process: int | str | None) -> float:
    """The most memory that a process has held, in MB; 0 where the system does not say."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
