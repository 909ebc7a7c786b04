"""Decode workers: processes that may hang or die without taking the run with them.

Processes, timeouts and restarts are Pebble's. Ours: results come in the order of the requests and at most a few are
held, so that the run is the same whatever the number of workers, and memory stays bounded.
"""

import multiprocessing
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType

from pebble import ProcessExpired, ProcessFuture, ProcessPool

from mmdf.cache.errors import MediaError, MmdfError
from mmdf.extract.media.decode import Decoded, DecodeRequest, decode

# A worker is replaced after so many files: decord leaks slowly (decord#208).
FILES_PER_WORKER = 500


class DecodePool:
    """Decodes files in `n_workers` processes, or in this one if `n_workers` is 0."""

    def __init__(self, n_workers: int) -> None:
        self.n_workers = n_workers
        self._pool: ProcessPool | None = None

    def __enter__(self) -> "DecodePool":
        if self.n_workers:
            # Spawn, since forking a process that runs torch's threads deadlocks sooner or later.
            self._pool = ProcessPool(
                self.n_workers, max_tasks=FILES_PER_WORKER, context=multiprocessing.get_context("spawn")
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.stop()
            self._pool.join()

    def decode(self, requests: Sequence[DecodeRequest]) -> Iterator[Decoded]:
        """Results in the order of `requests`. A file that hangs or kills its worker is an error like any other."""
        if self._pool is None:
            yield from map(decode, requests)
            return
        waiting: deque[tuple[DecodeRequest, ProcessFuture]] = deque()
        for request in requests:
            waiting.append((request, self._pool.schedule(decode, args=[request], timeout=request.limits.timeout_s)))
            if len(waiting) > 2 * self.n_workers:
                yield _result(*waiting.popleft())
        while waiting:
            yield _result(*waiting.popleft())


def _result(request: DecodeRequest, future: ProcessFuture) -> Decoded:
    try:
        return future.result()
    except FutureTimeoutError:
        timeout_s = request.limits.timeout_s
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
