"""Hashes of tensors, by which results and checkpoints are told to belong to the same data."""

from __future__ import annotations

import hashlib

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
