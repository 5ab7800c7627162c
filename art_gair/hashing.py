"""Hashes of tensors and code, by which results and checkpoints are told to belong to the same data and model."""

from __future__ import annotations

import hashlib
import types
from typing import Any

import torch
from torch import Tensor

CHUNK = 1 << 20
"""Values that are hashed at once."""

SAMPLE = 1 << 24
"""Values of which `hash_rows` looks at all."""


def hash_tensor(tensor: Tensor) -> str:
    """Return the SHA-256 of a tensor's type, shape and values; it is gone through in parts."""
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    rows = tensor.detach().reshape(1) if tensor.ndim == 0 else tensor.detach()
    size = max(1, CHUNK // max(1, rows[0].numel())) if len(rows) else 1
    for part in rows.split(size):
        digest.update(part.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def hash_rows(tensor: Tensor) -> str:
    """Return the shape, and a hash of the values or, of more than SAMPLE values, of evenly spaced rows."""
    every = max(1, tensor.numel() // SAMPLE)
    return f"{tuple(tensor.shape)} {hash_tensor(tensor[::every])}"


def hash_code(code: types.CodeType) -> str:
    """Return a hash of what code does: no line numbers, file names or addresses, which differ between processes."""
    constants = [_describe_constant(constant) for constant in code.co_consts]
    return hashlib.sha256(repr((code.co_code, constants, code.co_names)).encode()).hexdigest()[:16]


def _describe_constant(constant: Any) -> str:
    if isinstance(constant, types.CodeType):
        return hash_code(constant)
    return repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant)
