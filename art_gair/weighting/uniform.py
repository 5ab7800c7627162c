"""No weighting."""

from __future__ import annotations

import torch
from torch import Tensor

from art_gair.weighting.base import InstanceWeighting


class UniformWeighting(InstanceWeighting):
    """Weight 1 for every sample: the base method itself."""

    needs_logits = False

    def _raw(
        self, kappa: Tensor | None, max_iter: int, logits: Tensor | None, labels: Tensor | None, epoch: int
    ) -> Tensor:
        given = next((t for t in (labels, kappa, logits) if t is not None), None)
        if given is None:
            raise ValueError("UniformWeighting needs kappa, labels or logits, to know the number of samples.")
        return torch.zeros(len(given), dtype=torch.float64, device=given.device)

    def __repr__(self) -> str:
        return "UniformWeighting()"
