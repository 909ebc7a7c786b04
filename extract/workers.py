"""Decode workers: processes that may hang or die without taking the run with them.

Processes, timeouts and restarts are Pebble's. Ours: results come in the order of the requests and at most a few are
held, so that the run is the same whatever the number of workers, and memory stays bounded.
"""

import multiprocessing
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import TypeVar

import cv2
from pebble import ProcessExpired, ProcessFuture, ProcessPool

from mmdf.cache.errors import MediaError, MmdfError
from mmdf.extract.media.decode import Decoded, DecodeRequest, decode

# A worker is replaced after so many files: decord leaks slowly (decord#208).
FILES_PER_WORKER = 500
# For each video that may wait, so many small images or sounds may: a batch, so that the next one is there in time.
SMALL_FILE = 1 / 32
LARGE_FILE_BYTES = 4 * 2**20
_NICENESS = 10
T = TypeVar("T")


class DecodePool:
    """Decodes files in `n_workers` processes, or in this one if `n_workers` is 0."""

    def __init__(self, n_workers: int) -> None:
        self.n_workers = n_workers
        self._pool: ProcessPool | None = None

    def __enter__(self) -> "DecodePool":
        if self.n_workers:
            # Spawn, since forking a process that runs torch's threads deadlocks sooner or later.
            self._pool = ProcessPool(
                self.n_workers,
                max_tasks=FILES_PER_WORKER,
                initializer=_one_thread,
                context=multiprocessing.get_context("spawn"),
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.stop()
            self._pool.join()

    def decode(self, requests: Iterable[tuple[T, DecodeRequest]]) -> Iterator[tuple[T, Decoded]]:
        """Results in the order of `requests`, each with the tag that came with its request.

        Requests are drawn as workers come to need them. A file that hangs or kills its worker is an error like any
        other.
        """
        if self._pool is None:
            yield from ((tag, decode(request)) for tag, request in requests)
            return
        waiting: deque[tuple[T, DecodeRequest, ProcessFuture]] = deque()
        held = 0.0
        for tag, request in requests:
            future = self._pool.schedule(decode, args=[request], timeout=_timeout_s(request))
            waiting.append((tag, request, future))
            held += _share(request)
            while held > 2 * self.n_workers:
                tag, request, future = waiting.popleft()
                held -= _share(request)
                yield tag, _result(request, future)
        for tag, request, future in waiting:
            yield tag, _result(request, future)


def _share(request: DecodeRequest) -> float:
    """How much of the room for results one may take: videos are large, and a batch of small files is needed ahead."""
    if request.modality == "video":
        return 1.0
    return min(1.0, max(SMALL_FILE, request.size_bytes / LARGE_FILE_BYTES))


def _timeout_s(request: DecodeRequest) -> float:
    """Every augmented view is work of its own."""
    return request.limits.timeout_s * (1 + len(request.augment))


def _one_thread() -> None:
    """Workers take one core each: libraries that take all of them fight the forward pass, and each other.

    On 2 cores the face detector took nine times as long with its default threads. Torch reads its variable when it is
    imported, which workers do only for faces.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    # A forward pass waits for the slowest of its threads, so decoding gives way to it; where decoding is the limit, the
    # cores are free anyway.
    os.nice(_NICENESS)
    cv2.setNumThreads(1)


def _result(request: DecodeRequest, future: ProcessFuture) -> Decoded:
    try:
        return future.result()
    except FutureTimeoutError:
        timeout_s = _timeout_s(request)
        return Decoded(error=MediaError(f"decoding took more than {timeout_s:.0f} s. Look at the file, or cut it."))
    except BrokenProcessPool as broken:
        raise MmdfError(
            "The decode workers cannot be kept alive, perhaps for lack of memory. What was committed is safe: "
            "run the same command again, with fewer --workers."
        ) from broken
    except ProcessExpired as expired:
        return Decoded(
            error=MediaError(f"the decoder crashed on it (exit code {expired.exitcode}). Re-encode the file.")
        )
