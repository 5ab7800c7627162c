"""Whether tensors are finite: on the device without waiting for it, or at once where waiting costs nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def all_finite(tensors: Sequence[Tensor]) -> Tensor:
    """Whether every entry is finite, a bool on the device.

    By the largest absolute value of each tensor, which cannot overflow and is NaN where an entry is. One multi-tensor
    operation for each type.
    """
    verdicts = [torch.isfinite(torch.stack(norms)).all() for norms in _norms(tensors, torch.inf)]
    return verdicts[0] if len(verdicts) == 1 else torch.stack(verdicts).all()


def are_finite(tensors: Sequence[Tensor]) -> bool:
    """Whether every entry is finite; waits for the device.

    A finite sum of Euclidean norms has finite entries, and on a CPU it is 10 to 20 times as fast as the largest
    absolute value; only where it is not finite are the entries looked at.
    """
    quick = all(math.isfinite(torch.stack(norms).sum().item()) for norms in _norms(tensors, 2.0))
    return quick or bool(all_finite(tensors))


def _norms(tensors: Sequence[Tensor], order: float) -> list[list[Tensor]]:
    """Return the norms of the tensors that can be infinite, type by type."""
    types: dict[torch.dtype, list[Tensor]] = {}
    for t in tensors:
        if (t.is_floating_point() or t.is_complex()) and t.numel() > 0:
            types.setdefault(t.dtype, []).append(t)
    return [list(torch._foreach_norm(of_type, order)) for of_type in types.values()]
