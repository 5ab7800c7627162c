"""Weights by the probabilistic margin of x_adv, PM = max_{j != y} p_j - p_y: -1 safe, 0 on the boundary, +1 lost."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from art_gair.checks import require_number
from art_gair.logits import best_other, label_score
from art_gair.weighting.base import LogitsWeighting


def probabilistic_margin(log_p: Tensor, labels: Tensor) -> Tensor:
    """PM from log-probabilities (n, nb_classes): -> (n,), -1..1."""
    p = log_p.exp()
    return best_other(p, labels)[0] - label_score(p, labels)


@dataclass
class MarginWeighting(LogitsWeighting):
    """MAIL: w = sigmoid(slope (PM - bias)), normalised to mean 1 (Wang et al., NeurIPS 2021, arXiv 2106.07904).

    The paper writes sigmoid(-slope (PM' - bias')) with PM' = p_y - max_{j != y} p_j, so its bias' is -bias here.

    :param slope: how sharply weights rise with PM, > 0; 10 in MAIL-AT, 2 in MAIL-TRADES.
    :param bias: the PM at which the raw weight is one half; 0.5 in MAIL-AT, 0 in MAIL-TRADES.
    :raises TypeError, ValueError: if a parameter is no finite number, or slope is not positive.
    """

    slope: float = 10.0
    bias: float = 0.5

    def __post_init__(self) -> None:
        require_number(self.slope, "slope", above=0.0)
        require_number(self.bias, "bias")

    def log_weights(self, log_p: Tensor, labels: Tensor) -> Tensor:
        """Return log sigmoid(slope (PM - bias)): rises with PM."""
        return F.logsigmoid(self.slope * (probabilistic_margin(log_p, labels) - self.bias))


@dataclass
class WMMRWeighting(LogitsWeighting):
    """WMMR: w = exp(-alpha (p_y - max_{j != y} p_j)) = exp(alpha PM), normalised to mean 1.

    Weighted minimax risk (Zeng et al., AAAI 2021).

    :param alpha: how sharply weights rise with PM, >= 0; 0 is uniform.
    :raises TypeError, ValueError: if alpha is no finite number or negative.
    """

    alpha: float = 2.0

    def __post_init__(self) -> None:
        require_number(self.alpha, "alpha", at_least=0.0)

    def log_weights(self, log_p: Tensor, labels: Tensor) -> Tensor:
        """Return alpha PM."""
        return self.alpha * probabilistic_margin(log_p, labels)
