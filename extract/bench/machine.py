"""What may be told of the machine, and what share of it went to others: on a busy one a ratio is worth little."""

import os
import time
from pathlib import Path

import torch

from mmdf.extract.bench.results import Machine

_STAT = Path("/proc/stat")
# Of the line `cpu` in /proc/stat (man 5 proc): user, nice, system, then idle and waiting, then interrupts and steal.
_BUSY = (0, 1, 2, 5, 6, 7)


def machine(device: str, dtype: str) -> Machine:
    """This machine, by what decides its speed."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    instructions = torch.backends.cpu.get_cpu_capability()
    return Machine(cores(), torch.get_num_threads(), round(memory_gb, 1), instructions, device, dtype)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Meter:
    """Measures, from when it is made, what share of the machine's CPU time went to others."""

    def __init__(self) -> None:
        self._started, self._busy_s, self._own_s = time.perf_counter(), busy_s(), own_s()

    def others_share(self) -> float | None:
        """In [0, 1], of all cores; steal by other virtual machines counts. None where the system does not say."""
        now_s = busy_s()
        if now_s is None or self._busy_s is None:
            return None
        elapsed_s = (time.perf_counter() - self._started) * (os.cpu_count() or 1)
        return min(1.0, max(0.0, (now_s - self._busy_s) - (own_s() - self._own_s)) / elapsed_s)


def busy_s() -> float | None:
    """Seconds in which the cores of this machine were not idle, since it was started."""
    try:
        fields = _STAT.read_text().splitlines()[0].split()[1:]
    except OSError:
        return None
    return sum(float(fields[i]) for i in _BUSY) / os.sysconf("SC_CLK_TCK")


def own_s() -> float:
    """CPU time of this process and of those it started that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
