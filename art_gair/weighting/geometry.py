"""GAIRAT's weights: the fewer looks a sample survives, the more it counts (Zhang et al., ICLR 2021, Eq. 6 and 5).

Each scheme maps kappa, 0..K, to a raw weight by its formula; `normalise` then gives the batch mean 1. All arithmetic is
in float64 on logarithms, so that no lam and no kappa can give 0/0 and equal kappas get equal weights.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Lam = float | Callable[[int], float]


class UniformWeighting:
    """Weight 1 for every sample: plain adversarial training."""

    def __call__(
        self,
        *,
        kappa: Tensor,
        max_iter: int,
        logits: Tensor | None = None,
        labels: Tensor | None = None,
        epoch: int = 0,
    ) -> Tensor:
        """Return ones, float32 (n,)."""
        return torch.ones_like(kappa, dtype=torch.float32)


class DiscreteWeighting:
    """w = 1 - kappa / (K + 1); has no lam."""

    def __call__(
        self,
        *,
        kappa: Tensor,
        max_iter: int,
        logits: Tensor | None = None,
        labels: Tensor | None = None,
        epoch: int = 0,
    ) -> Tensor:
        """Weigh a batch; see `TanhWeighting.__call__`."""
        return normalise(torch.log1p(-kappa.double() / (max_iter + 1)))


class TanhWeighting:
    """w = (1 + tanh(lam + 5 (1 - 2 kappa / K))) / 2, the paper's scheme.

    :param lam: how far all samples count: +inf gives exactly 1 for each, plain adversarial training; the smaller, the
        more the samples with a small kappa dominate, down to the limit exp(-20 kappa / K) at -inf. A number, or a
        schedule, a function of the epoch (0, 1, ...).
    :raises TypeError, ValueError: if lam, or what the schedule returns, is no number or NaN.
    """

    slope = 2.0
    """(1 + tanh z) / 2 = sigmoid(2 z)."""

    def __init__(self, lam: Lam = -1.0) -> None:
        self.lam = lam
        self.lam_at(0)

    def lam_at(self, epoch: int) -> float:
        """Return lam in an epoch, counted from 0."""
        lam: Any = self.lam(epoch) if callable(self.lam) else self.lam
        if isinstance(lam, bool) or not isinstance(lam, numbers.Real):
            raise TypeError(f"lam is {lam!r} in epoch {epoch}; expected a number or a function of the epoch to one.")
        if math.isnan(lam):
            raise ValueError(f"lam is NaN in epoch {epoch}; expected a number or infinity.")
        return float(lam)

    def __call__(
        self,
        *,
        kappa: Tensor,
        max_iter: int,
        logits: Tensor | None = None,
        labels: Tensor | None = None,
        epoch: int = 0,
    ) -> Tensor:
        """Weigh a batch.

        :param kappa: int64 (n,), 0..max_iter.
        :param max_iter: K of the attack that counted kappa, at least 1.
        :param logits: not used by schemes on kappa.
        :param labels: not used by schemes on kappa.
        :param epoch: where a schedule of lam stands.
        :return: float32 (n,), >= 0, mean 1, never increasing with kappa.
        """
        # Beyond +-50 the sigmoid is 1, or a pure exponential, to the last bit of a double: infinities become finite.
        lam = min(max(self.lam_at(epoch), -50.0), 50.0)
        return normalise(F.logsigmoid(self.slope * (lam + 5.0 * (1.0 - 2.0 * kappa.double() / max_iter))))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(lam={self.lam!r})"


class SigmoidWeighting(TanhWeighting):
    """w = sigmoid(lam + 5 (1 - 2 kappa / K)): falls half as steeply as tanh; lam as for `TanhWeighting`."""

    slope = 1.0


def normalise(log_weights: Tensor) -> Tensor:
    """Turn logarithms of weights, (n,), into float32 weights of mean 1.

    The largest is made 1 before the mean is taken, so the mean is at least 1/n and the division always holds.
    """
    weights = torch.exp(log_weights - log_weights.max())
    return (weights / weights.mean()).to(torch.float32)
