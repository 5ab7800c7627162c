"""Values put into a model's tensors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


@torch.no_grad()
def assign(targets: Sequence[Tensor], values: Iterable[Tensor]) -> None:
    """Copy values into tensors, in place and bit for bit."""
    for target, value in zip(targets, values, strict=True):
        target.copy_(value)
