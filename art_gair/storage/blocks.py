"""Tensors, arrays and bytes as blocks: tensors of one dimension, each with the form to make the value from again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.parameter import is_lazy

NUMERIC = "biufc"
"""Kinds of numpy type that are saved: bool, int, unsigned, float and complex."""


def to_block(value: Tensor | NDArray[Any] | bytes) -> tuple[dict[str, Any], Tensor] | None:
    """Return the value's form and its block, which shares its memory where it can; None if it cannot be saved."""
    if isinstance(value, bytes):
        return {"bytes": None}, torch.frombuffer(bytearray(value), dtype=torch.uint8) if value else _EMPTY
    if isinstance(value, Tensor):
        return _tensor_block(value) if _is_dense(value) else None
    if type(value) not in (np.ndarray, np.memmap) or value.dtype.kind not in NUMERIC:
        return None
    content = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
    block = torch.from_numpy(content if content.flags.writeable else content.copy())
    return {"array": value.dtype.str, "shape": list(value.shape)}, block


def from_block(form: dict[str, Any], block: Tensor) -> Any:
    """Return the value of this form; tensors and arrays use the block's memory.

    :param block: on the host.
    :raises Exception: of several types, if the form and the block do not belong together.
    """
    if "bytes" in form:
        return block.numpy().tobytes()
    if "array" in form:
        return block.numpy().view(form["array"]).reshape(form["shape"])
    shape, stride = form["tensor"], form["stride"]
    if block.ndim != 1 or not _fills(shape, stride, block.numel()):
        raise ValueError(f"no tensor of {tuple(block.shape)} values has the form {form}")
    return block.as_strided(shape, stride).detach()


_EMPTY = torch.empty(0, dtype=torch.uint8)


def _tensor_block(value: Tensor) -> tuple[dict[str, Any], Tensor]:
    """Keep the order of the values in memory, such as channels_last: sums over them depend on it in their last bits."""
    plain = value.detach().as_subclass(Tensor).resolve_conj().resolve_neg()
    kept = plain if _fills(plain.shape, plain.stride(), plain.numel()) else plain.contiguous()
    block = kept.as_strided((kept.numel(),), (1,))
    if block.untyped_storage().nbytes() != block.nbytes:  # the rest of a larger storage would be saved with it
        block = block.clone()
    return {"tensor": list(kept.shape), "stride": list(kept.stride())}, block


def _is_dense(t: Tensor) -> bool:
    """Whether the tensor is values in memory: not sparse, nested, quantized, lazy, without data or made of others."""
    if is_lazy(t) or type(t).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        return False
    return t.layout is torch.strided and not (t.is_quantized or t.is_nested or t.is_meta)


def _fills(shape: Sequence[int], stride: Sequence[int], numel: int) -> bool:
    """Whether such a tensor has and spans `numel` values of memory: a slice spans more, an expanded tensor fewer."""
    spanned = 1 + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
    return math.prod(shape) == numel and (numel == 0 or spanned == numel)
