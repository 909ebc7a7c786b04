"""Which device and precision, and why. The reason is kept beside the choice and printed once."""

from dataclasses import dataclass

import torch

from mmdf.cache.errors import UsageError
from mmdf.cache.registry import did_you_mean

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Compute:
    """A device, a precision for backbones, and the reason for each in words."""

    device: torch.device
    dtype: torch.dtype
    reason: str


def choose_compute(device: str = "auto", dtype: str = "auto") -> Compute:
    """Resolve `--device` and `--dtype`. `auto` never fails.

    Raises
    ------
    UsageError
        If what was asked for is not there.
    """
    name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    try:
        chosen = torch.device(name)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"The device '{device}' cannot be used here ({error}). Try --device auto.") from error
    if dtype not in (*DTYPES, "auto"):
        raise UsageError(f"Unknown dtype '{dtype}'.{did_you_mean(dtype, DTYPES)} Known: auto, {', '.join(DTYPES)}.")
    why_device = "asked for" if device != "auto" else "the only one here" if name == "cpu" else "a GPU is here"
    if dtype != "auto":
        return Compute(chosen, DTYPES[dtype], f"{name} ({why_device}), {dtype} (asked for)")
    best, why = _best_dtype(chosen)
    return Compute(chosen, DTYPES[best], f"{name} ({why_device}), {best} ({why})")


def _best_dtype(device: torch.device) -> tuple[str, str]:
    if device.type == "cuda":
        return "float16", "half precision is what GPUs are fast at"
    if device.type == "cpu" and _cpu_has_bfloat16():
        return "bfloat16", "this CPU multiplies it in hardware"
    if device.type == "cpu":
        return "float32", "this CPU has no fast half precision"
    return "float32", "the safe choice on this device"


def _cpu_has_bfloat16() -> bool:
    # Private in torch 2.9, so that a torch without them simply means float32.
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in checks)
