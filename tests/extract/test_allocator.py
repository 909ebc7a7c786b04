import subprocess
import sys

import pytest

CODE = """
import resource, sys
import torch
from mmdf.extract.allocator import keep_freed_memory
keeps = keep_freed_memory() if sys.argv[1] == "keep" else True
def faults():
    for _ in range(20):
        torch.zeros(8 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
first = faults()
sys.stdout.write(f"{keeps} {faults() - first}")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_freed_memory_is_not_faulted_in_again() -> None:
    found = {}
    for how in ("keep", "plain"):
        done = subprocess.run([sys.executable, "-c", CODE, how], capture_output=True, text=True, check=True)
        keeps, faults = done.stdout.split()
        assert keeps == "True"
        found[how] = int(faults)
    # 20 tensors of 32 MB: 8192 pages each, or hundreds where pages are huge.
    assert found["keep"] < 0.1 * found["plain"]
