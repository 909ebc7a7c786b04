"""Rows of many items through one forward pass. Out of memory halves the batch and runs the same rows again.

Only rows of equal shape share a batch, and nothing is ever padded, so an item's embedding does not depend on what it
was batched with.
"""

import logging
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import torch

_LOG = logging.getLogger(__name__)


class Batcher:
    """Collects rows and runs them in batches of `batch_rows`.

    Parameters
    ----------
    forward
        (n, ...) to (n, dim), or (n, k, dim) where a row gives k steps.
    """

    def __init__(self, forward: Callable[[torch.Tensor], torch.Tensor], batch_rows: int) -> None:
        self.batch_rows = batch_rows
        self._forward = forward
        self._waiting: dict[tuple, list[tuple[bytes, int, torch.Tensor]]] = defaultdict(list)
        self._done: dict[bytes, dict[int, torch.Tensor]] = defaultdict(dict)

    def add(self, key: bytes, inputs: torch.Tensor) -> None:
        """Queue the rows (n, ...) of one item; runs every batch that is full."""
        shape = tuple(inputs.shape[1:])
        waiting = self._waiting[shape]
        waiting.extend((key, position, row) for position, row in enumerate(inputs))
        while len(waiting) >= self.batch_rows:
            self._run(waiting[: self.batch_rows])
            del waiting[: self.batch_rows]

    def take(self) -> dict[bytes, np.ndarray]:
        """Run what is left and hand out all embeddings, key to (steps, dim) float32. One wait for the device."""
        for waiting in self._waiting.values():
            while waiting:
                self._run(waiting[: self.batch_rows])
                del waiting[: self.batch_rows]
        self._waiting.clear()
        keys = list(self._done)
        if not keys:
            return {}
        rows = [torch.stack([self._done[key][p] for p in range(len(self._done[key]))]) for key in keys]
        # A row may give several steps, of a number that depends on its length.
        rows = [r.flatten(0, -2) for r in rows]
        lengths = [len(r) for r in rows]
        values = torch.cat(rows).float().cpu().numpy()
        self._done.clear()
        return dict(zip(keys, np.split(values, np.cumsum(lengths)[:-1]), strict=True))

    def _run(self, batch: list[tuple[bytes, int, torch.Tensor]]) -> None:
        outputs = self._halving(torch.stack([row for _, _, row in batch]))
        for (key, position, _), output in zip(batch, outputs, strict=True):
            self._done[key][position] = output

    def _halving(self, inputs: torch.Tensor) -> torch.Tensor:
        try:
            return self._forward(inputs)
        except torch.OutOfMemoryError:
            if len(inputs) == 1:
                raise
        # Outside of the except block: there the exception still holds the memory that is to be freed.
        if inputs.device.type == "cuda":
            torch.cuda.empty_cache()
        half = len(inputs) // 2
        self.batch_rows = min(self.batch_rows, max(1, half))
        _LOG.warning("out of memory with %d rows; going on with %d", len(inputs), self.batch_rows)
        return torch.cat([self._halving(inputs[:half]), self._halving(inputs[half:])])
