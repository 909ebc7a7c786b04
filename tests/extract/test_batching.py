import numpy as np
import pytest
import torch

from mmdf.extract.batching import Batcher


def double_sum(inputs: torch.Tensor) -> torch.Tensor:
    return torch.stack([inputs.flatten(1).sum(1), 2 * inputs.flatten(1).sum(1)], 1)


def key(number: int) -> bytes:
    return bytes([number]) * 16


def test_items_come_back_whole_and_in_order() -> None:
    sizes: list[int] = []

    def forward(inputs: torch.Tensor) -> torch.Tensor:
        sizes.append(len(inputs))
        return double_sum(inputs)

    batcher = Batcher(forward, batch_rows=4)
    rows = {n: torch.randn(n, 3, generator=torch.Generator().manual_seed(n)) for n in (1, 2, 3, 5)}
    for n, inputs in rows.items():
        batcher.add(key(n), inputs)
    found = batcher.take()
    assert sizes == [4, 4, 3]
    for n, inputs in rows.items():
        assert np.allclose(found[key(n)], double_sum(inputs).numpy())
    assert batcher.take() == {}


def test_only_equal_shapes_share_a_batch() -> None:
    shapes: list[tuple] = []

    def forward(inputs: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(inputs.shape))
        return double_sum(inputs)

    batcher = Batcher(forward, batch_rows=8)
    for number, length in enumerate((5, 7, 5, 7, 7)):
        batcher.add(key(number), torch.ones(1, length))
    found = batcher.take()
    assert sorted(shapes) == [(2, 5), (3, 7)]
    assert [found[key(n)][0, 0] for n in range(5)] == [5, 7, 5, 7, 7]


def test_out_of_memory_halves_and_remembers(caplog: pytest.LogCaptureFixture) -> None:
    tried: list[int] = []

    def forward(inputs: torch.Tensor) -> torch.Tensor:
        tried.append(len(inputs))
        if len(inputs) > 3:
            raise torch.OutOfMemoryError("no more")
        return double_sum(inputs)

    batcher = Batcher(forward, batch_rows=8)
    inputs = torch.arange(20.0).reshape(20, 1)
    batcher.add(key(0), inputs)
    assert np.array_equal(batcher.take()[key(0)], double_sum(inputs).numpy())
    assert batcher.batch_rows == 2
    assert tried[0] == 8
    assert max(tried[3:]) <= 4
    assert "going on with" in caplog.text


def test_one_row_that_does_not_fit_is_an_error() -> None:
    def forward(inputs: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("no more")

    with pytest.raises(torch.OutOfMemoryError):
        Batcher(forward, 4).add(key(0), torch.ones(4, 1))
