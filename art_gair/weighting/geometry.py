"""GAIRAT's weights: the fewer looks a sample survives, the more it counts (Zhang et al., ICLR 2021, Eq. 6).

Eq. 5 normalises over the data set, Alg. 2 over the batch, as here. In float64 and on logarithms, so that no lam and no
kappa can give 0/0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from art_gair.checks import is_real, require_int, to_float
from art_gair.schedules import value_at
from art_gair.weighting.base import KappaWeighting

Lam = float | Callable[[int], float]


class DiscreteWeighting(KappaWeighting):
    """w = 1 - kappa / (K + 1), normalised to mean 1; has no lam.

    >>> DiscreteWeighting()(kappa=torch.tensor([0, 1, 2]), max_iter=3)  # as 1 : 3/4 : 1/2
    tensor([1.3333, 1.0000, 0.6667])
    """

    def log_weights(self, kappa: Tensor, max_iter: int, epoch: int) -> Tensor:
        """Return log(1 - kappa / (K + 1))."""
        return torch.log1p(-kappa / (max_iter + 1))

    def __repr__(self) -> str:
        return "DiscreteWeighting()"


class TanhWeighting(KappaWeighting):
    """w = (1 + tanh(lam + 5 (1 - 2 kappa / K))) / 2, normalised to mean 1: the paper's scheme.

    :param lam: how far all samples count: +inf gives exactly 1 for each, plain adversarial training; the smaller, the
        more the samples with a small kappa dominate, down to the limit exp(-20 kappa / K) at -inf. A number, or a
        schedule, a function of the epoch (0, 1, ...) and of nothing else, as it is called more than once for each.
    :raises TypeError, ValueError: if lam, or what the schedule returns, is no number or NaN.

    >>> TanhWeighting(-1.0)(kappa=torch.tensor([0, 5, 6]), max_iter=10)  # fooled at once, half-way, later
    tensor([2.6380, 0.3146, 0.0475])
    >>> TanhWeighting(math.inf)(kappa=torch.tensor([0, 5, 10]), max_iter=10)
    tensor([1., 1., 1.])
    """

    steepness = 2.0
    """(1 + tanh z) / 2 = sigmoid(2 z)."""

    def __init__(self, lam: Lam = -1.0) -> None:
        self.lam = lam
        self.lam_at(0)

    def lam_at(self, epoch: int) -> float:
        """Return lam in an epoch, counted from 0."""
        require_int(epoch, "epoch", at_least=0)
        lam: Any = value_at(self.lam, "lam", epoch)
        if not is_real(lam):
            raise TypeError(f"lam is {lam!r} in epoch {epoch}; expected a number or a function of the epoch to one.")
        number = to_float(lam, "lam")
        if math.isnan(number):
            raise ValueError(f"lam is NaN in epoch {epoch}; expected a number or infinity.")
        return number

    def log_weights(self, kappa: Tensor, max_iter: int, epoch: int) -> Tensor:
        """Return log sigmoid(2 (lam + 5 (1 - 2 kappa / K)))."""
        # Beyond +-50 the sigmoid is 1, or a pure exponential, to the last bit of a double: infinities become finite.
        lam = min(max(self.lam_at(epoch), -50.0), 50.0)
        return F.logsigmoid(self.steepness * (lam + 5.0 * (1.0 - 2.0 * kappa / max_iter)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(lam={self.lam!r})"


class SigmoidWeighting(TanhWeighting):
    """w = sigmoid(lam + 5 (1 - 2 kappa / K)), normalised to mean 1: half as steep as tanh; lam as there."""

    steepness = 1.0
