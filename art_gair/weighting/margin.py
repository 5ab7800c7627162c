"""Weights by the margin of x_adv, p_y - max_{j != y} p_j: 1 safe, 0 on the boundary, -1 lost."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from art_gair.checks import require_number
from art_gair.logits import margin
from art_gair.weighting.base import LogitsWeighting


@dataclass
class MarginWeighting(LogitsWeighting):
    """MAIL: w = sigmoid(-slope (margin + bias)), normalised to mean 1 (Wang et al., NeurIPS 2021, arXiv 2106.07904).

    The paper writes sigmoid(-slope (margin - bias')), so its bias' is -bias here.

    :param slope: how sharply weights rise as the margin falls, > 0; 10 in MAIL-AT, 2 in MAIL-TRADES.
    :param bias: the raw weight is one half at a margin of -bias; 0.5 in MAIL-AT, 0 in MAIL-TRADES.
    :raises TypeError, ValueError: if a parameter is no finite number, or slope is not positive.
    """

    slope: float = 10.0
    bias: float = 0.5

    def __post_init__(self) -> None:
        self.slope = require_number(self.slope, "slope", above=0.0)
        self.bias = require_number(self.bias, "bias")

    def log_weights(self, log_p: Tensor, labels: Tensor) -> Tensor:
        """Return log sigmoid(-slope (margin + bias)): falls as the margin rises."""
        return F.logsigmoid(-self.slope * (margin(log_p.exp(), labels) + self.bias))


@dataclass
class WMMRWeighting(LogitsWeighting):
    """WMMR: w = exp(-alpha margin), normalised to mean 1.

    Weighted minimax risk (Zeng et al., AAAI 2021).

    :param alpha: how sharply weights rise as the margin falls, >= 0; 0 is uniform.
    :raises TypeError, ValueError: if alpha is no finite number or negative.
    """

    alpha: float = 2.0

    def __post_init__(self) -> None:
        self.alpha = require_number(self.alpha, "alpha", at_least=0.0)

    def log_weights(self, log_p: Tensor, labels: Tensor) -> Tensor:
        """Return -alpha margin."""
        return -self.alpha * margin(log_p.exp(), labels)
