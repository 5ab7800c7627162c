"""What "fp32", "bf16" and "auto" mean on a device, and float32 without TF32."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.backends import cudnn

PRECISIONS = ("fp32", "bf16", "auto")


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the type that convolutions and matrix products are computed in: torch.float32 or torch.bfloat16.

    :param precision: "fp32"; "bf16", wherever it is asked for; or "auto": bf16 where the device has instructions for
        it, else fp32.
    :raises ValueError: for any other word.
    """
    if not isinstance(precision, str) or precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; expected one of {', '.join(map(repr, PRECISIONS))}.")
    bf16 = precision == "bf16" or (precision == "auto" and computes_bf16(device))
    return torch.bfloat16 if bf16 else torch.float32


def precision_on(precision: str, device: torch.device) -> str:
    """Return what a precision is on a device: "fp32" or "bf16"."""
    return "bf16" if compute_dtype(precision, device) == torch.bfloat16 else "fp32"


def computes_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16; without them it is computed, slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):  # an older torch cannot tell
        return False
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


LEGACY: dict[str, tuple[Callable[[], Any], Callable[[Any], None], Any]] = {
    "convolutions": (lambda: cudnn.allow_tf32, lambda value: setattr(cudnn, "allow_tf32", value), False),
    "matrix products": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"),
}
"""Switches that every torch has: how to read and set them, and their exact value."""

OPERATIONS = [(backend, kind) for backend in ("cuda", "mkldnn") for kind in ("conv", "rnn", "matmul")]
"""Switches of the fp32_precision API, which came with torch 2.9 and speaks of the same arithmetic."""

EXACT = ("ieee", "none")
"""Their exact values; "none" leaves the choice to the switches above, whose own value is then exact."""


@contextmanager
def without_autocast(device: torch.device) -> Iterator[None]:
    """Compute as if no `torch.autocast` of the caller's were open; one that is opened inside works as anywhere.

    But for rounding: a weight that a model uses several times in bfloat16 is then cast, and has its gradients
    added, each time. Until the outermost context of all is left, torch keeps weights as they were first cast, and a
    model would not see its training. So the cache is off where one is open, be it of another device or a disabled
    one, and cleared at the end. `torch.autocast(enabled=False)` would be such a context itself.
    """
    enabled, cached = torch.is_autocast_enabled(device.type), torch.is_autocast_cache_enabled()
    within = _autocasts_open()
    torch.set_autocast_enabled(device.type, False)
    torch.set_autocast_cache_enabled(cached and not within)
    try:
        yield
    finally:
        torch.set_autocast_enabled(device.type, enabled)
        torch.set_autocast_cache_enabled(cached)
        if within:
            torch.clear_autocast_cache()


def _autocasts_open() -> bool:
    torch.autocast_increment_nesting()  # torch tells the number when it changes
    return bool(torch.autocast_decrement_nesting() > 0)


def find_inexact(device: torch.device) -> dict[str, str]:
    """Return by name the switches that let a device compute float32 in TF32 or bfloat16, where they do."""
    on_gpu = device.type == "cuda"
    if hasattr(torch.backends, "fp32_precision"):
        backend = "cuda" if on_gpu else "mkldnn"
        values = {kind: _get((backend, kind)) for of, kind in OPERATIONS if of == backend}
        return {f"float32 {kind}": value for kind, value in values.items() if value not in EXACT}
    older = {name: (_read(name), LEGACY[name][2]) for name in (LEGACY if on_gpu else ["matrix products"])}
    return {f"float32 {name}": str(value) for name, (value, exact) in older.items() if value not in (exact, None)}


@contextmanager
def exact_float32() -> Iterator[None]:
    """Compute float32 in float32: no TF32, no bfloat16. Every switch is put back on leaving.

    A switch that torch refuses to read, since the other API has set it, is left alone: its meaning is then held by the
    other API.
    """
    readable = {name: value for name in LEGACY if (value := _read(name)) is not None}
    operations = {op: _get(op) for op in OPERATIONS} if hasattr(torch.backends, "fp32_precision") else {}
    with _quiet():
        for name in readable:
            LEGACY[name][1](LEGACY[name][2])
        for op in operations:
            if _get(op) not in EXACT:
                _set(op, "ieee")
    try:
        yield
    finally:
        with _quiet():
            for name, value in readable.items():
                LEGACY[name][1](value)
            for op, value in operations.items():
                _put_back(op, value)


def _read(name: str) -> Any:
    with _quiet():
        try:
            return LEGACY[name][0]()
        except RuntimeError:  # set by the other API
            return None


def _get(op: tuple[str, str]) -> str:
    return str(torch._C._get_fp32_precision_getter(*op))


def _set(op: tuple[str, str], value: str) -> None:
    torch._C._set_fp32_precision_setter(*op, value)


def _put_back(op: tuple[str, str], value: str) -> None:
    """Inherit the value where that gives it, so that a later change of what it is inherited from still counts."""
    _set(op, "none")
    if _get(op) != value:
        _set(op, value)


@contextmanager
def _quiet() -> Iterator[None]:
    """Some versions of torch warn of the older switches, which all versions have."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def without_cudnn() -> Iterator[None]:
    """Turn cuDNN off; torch.backends.cudnn.flags would set its other switches too, TF32 among them."""
    enabled = cudnn.enabled
    cudnn.enabled = False
    try:
        yield
    finally:
        cudnn.enabled = enabled
