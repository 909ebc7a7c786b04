import pytest
import torch

from mmdf.cache.errors import UsageError
from mmdf.extract import device
from mmdf.extract.device import choose_compute


def test_auto_gives_a_reason() -> None:
    compute = choose_compute()
    assert compute.device.type in compute.reason
    assert str(compute.dtype).removeprefix("torch.") in compute.reason


@pytest.mark.parametrize(("has_bfloat16", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_cpu_precision_follows_the_hardware(monkeypatch: pytest.MonkeyPatch, has_bfloat16: bool, dtype) -> None:
    monkeypatch.setattr(device, "_cpu_has_bfloat16", lambda: has_bfloat16)
    assert choose_compute("cpu").dtype == dtype


def test_cuda_takes_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device._best_dtype(torch.device("cuda"))[0] == "float16"


def test_what_was_asked_for_is_used() -> None:
    compute = choose_compute("cpu", "bfloat16")
    assert (compute.device.type, compute.dtype) == ("cpu", torch.bfloat16)
    assert "asked for" in compute.reason


def test_unknown_dtype_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'float16'"):
        choose_compute("cpu", "flaot16")


@pytest.mark.parametrize("name", ["cuda:77", "tpu"])
def test_a_device_that_is_not_here(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be used here"):
        choose_compute(name)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_pinned_copies_arrive_whole() -> None:
    import numpy as np

    from mmdf.extract.views import to_device

    array = np.random.default_rng(0).integers(0, 256, (64, 224, 224, 3), dtype=np.uint8)
    assert np.array_equal(to_device(array, torch.device("cuda")).cpu().numpy(), array)
