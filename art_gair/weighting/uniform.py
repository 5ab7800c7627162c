"""No weighting."""

from __future__ import annotations

import torch
from torch import Tensor

from art_gair.weighting.base import FLOATS, INTEGERS, InstanceWeighting, require_tensor


class UniformWeighting(InstanceWeighting):
    """Weight 1 for every sample: the base method itself."""

    needs_logits = False

    def _raw(
        self, kappa: Tensor | None, max_iter: int, logits: Tensor | None, labels: Tensor | None, epoch: int
    ) -> Tensor:
        batch = {"labels": (labels, 1), "kappa": (kappa, 1), "logits": (logits, 2)}
        for name, (given, ndim) in batch.items():
            if given is not None:
                require_tensor(given, name, FLOATS if name == "logits" else INTEGERS, ndim=ndim)
                return torch.zeros(len(given), dtype=torch.float64, device=given.device)
        raise ValueError("UniformWeighting needs kappa, labels or logits, to know the number of samples.")

    def __repr__(self) -> str:
        return "UniformWeighting()"
