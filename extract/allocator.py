"""Freed tensors on the CPU are reused at once, instead of going back to the system and being faulted in again.

glibc maps every large block anew and unmaps it when it is freed, so each layer of each forward pass pays for fresh
pages: about half of an EfficientNet's time, a fifth to a third of DINOv2's, ConvNeXt's and Wav2Vec2's
(docs/performance.md). CUDA's allocator keeps its blocks by itself.
"""

import ctypes
import sys

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_TWO_GB = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell glibc to keep what is freed; False where the C library is another one. For the whole process, for good."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(_M_MMAP_MAX, 0) == 1 and mallopt(_M_TRIM_THRESHOLD, _TWO_GB) == 1
