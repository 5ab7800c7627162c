"""Tensors, arrays and bytes as blocks: runs of bytes, each with its form, from which the value is made again."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.parameter import is_lazy

Block = Tensor | NDArray[Any] | bytes
"""A tensor of one dimension on any device, an array of uint8, or bytes."""

NUMERIC = "biufc"
"""Kinds of numpy type that are saved: bool, int, unsigned, float and complex."""


def to_block(value: Tensor | NDArray[Any] | bytes) -> tuple[dict[str, Any], Block] | None:
    """Return the value's form and its block, which shares its memory where it can; None if it cannot be saved."""
    if isinstance(value, bytes):
        return {"bytes": None}, value
    if isinstance(value, Tensor):
        return _tensor_block(value) if _is_dense(value) else None
    if type(value) not in (np.ndarray, np.memmap) or value.dtype.kind not in NUMERIC:
        return None
    form = {"array": value.dtype.str, "shape": list(value.shape)}
    return form, np.ascontiguousarray(value).reshape(-1).view(np.uint8)


def block_bytes(block: Block) -> memoryview:
    """Return the bytes of a block, copied to the host if they are not there; what is written to them, it holds.

    Not by `Tensor.numpy`, which for ever forbids a tensor, here one of the model's, to be resized.
    """
    if not isinstance(block, Tensor):
        return memoryview(block)  # type: ignore[arg-type]  # numpy declares the protocol from Python 3.12 on
    host = block.cpu()
    memory = (ctypes.c_ubyte * host.nbytes).from_address(host.data_ptr())
    memory.owner = host  # type: ignore[attr-defined]  # which keeps it alive
    return memoryview(memory)


def from_block(form: dict[str, Any], block: Tensor) -> Any:
    """Return the value of this form; tensors and arrays use the block's memory.

    :param block: its bytes, a uint8 tensor on the host.
    :raises Exception: of several types, if the form and the block do not belong together.
    """
    if "bytes" in form:
        return block.numpy().tobytes()
    if "array" in form:
        return block.numpy().view(form["array"]).reshape(form["shape"])
    dtype, shape, stride = getattr(torch, form["tensor"].removeprefix("torch.")), form["shape"], form["stride"]
    if not isinstance(dtype, torch.dtype) or not _fills(shape, stride, block.numel() // dtype.itemsize):
        raise ValueError(f"no tensor has the form {form}")
    return block.view(dtype).as_strided(shape, stride).detach()


def _tensor_block(value: Tensor) -> tuple[dict[str, Any], Tensor]:
    """Keep the order of the values in memory, such as channels_last: sums over them depend on it in their last bits."""
    plain = value.detach().as_subclass(Tensor).resolve_conj().resolve_neg()
    kept = plain if _fills(plain.shape, plain.stride(), plain.numel()) else plain.contiguous()
    form = {"tensor": str(kept.dtype), "shape": list(kept.shape), "stride": list(kept.stride())}
    return form, kept.as_strided((kept.numel(),), (1,))


def _is_dense(t: Tensor) -> bool:
    """Whether the tensor is values in memory: not sparse, nested, quantized, lazy, without data or made of others."""
    if is_lazy(t) or type(t).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        return False
    return t.layout is torch.strided and not (t.is_quantized or t.is_nested or t.is_meta)


def _fills(shape: Sequence[int], stride: Sequence[int], numel: int) -> bool:
    """Whether such a tensor has and spans `numel` values of memory: a slice spans more, an expanded tensor fewer."""
    spanned = 1 + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
    return math.prod(shape) == numel and (numel == 0 or spanned == numel)
