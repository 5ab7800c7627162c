"""Weights that peak on the decision boundary and fall on both sides of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from art_gair.checks import require_number
from art_gair.logits import margin
from art_gair.weighting.base import KappaWeighting, LogitsWeighting


@dataclass
class BoundaryWeighting(LogitsWeighting):
    """w = floor + (1 - floor) exp(-slope |margin|), normalised to mean 1, with the margin of x_adv's probabilities.

    The weights of GAIRAT and MAIL are largest for samples that are lost: misclassified whatever the attack does,
    ambiguous or mislabelled. These fall on both sides of the boundary.

    :param slope: how sharply weights fall with the distance, >= 0; 0 is uniform.
    :param floor: the raw weight far away, 0..1; 1 is uniform.
    :raises TypeError, ValueError: if a parameter is no finite number or out of range.
    """

    slope: float = 5.0
    floor: float = 0.25

    def __post_init__(self) -> None:
        self.slope, self.floor = _checked(self.slope, self.floor)

    def log_weights(self, log_p: Tensor, labels: Tensor) -> Tensor:
        """Return log(floor + (1 - floor) exp(-slope |margin|))."""
        return _log_peak(margin(log_p.exp(), labels).abs(), self.slope, self.floor)


@dataclass
class KappaBoundaryWeighting(KappaWeighting):
    """BoundaryWeighting on kappa: w = floor + (1 - floor) exp(-slope (kappa - 1) / K) for kappa >= 1, floor for 0.

    For an attack that starts at x (`num_random_init=0`): there kappa = 0 says that the sample is misclassified without
    any perturbation, and it gets no extra weight.

    :param slope: how sharply weights fall with kappa, >= 0; 0 is uniform over kappa >= 1.
    :param floor: the raw weight far away and at kappa = 0, 0..1; 1 is uniform.
    :raises TypeError, ValueError: if a parameter is no finite number or out of range.
    """

    slope: float = 5.0
    floor: float = 0.25

    def __post_init__(self) -> None:
        self.slope, self.floor = _checked(self.slope, self.floor)

    def log_weights(self, kappa: Tensor, max_iter: int, epoch: int) -> Tensor:
        """Return log(floor + (1 - floor) exp(-slope (kappa - 1) / K)), at kappa = 0 log(floor)."""
        peak = _log_peak((kappa - 1) / max_iter, self.slope, self.floor)
        return torch.where(kappa > 0, peak, math.log(self.floor) if self.floor > 0 else -math.inf)


def _checked(slope: float, floor: float) -> tuple[float, float]:
    return require_number(slope, "slope", at_least=0.0), require_number(floor, "floor", at_least=0.0, at_most=1.0)


def _log_peak(distance: Tensor, slope: float, floor: float) -> Tensor:
    """Return log(floor + (1 - floor) exp(-slope distance)), finite wherever the weight is not 0."""
    low, high = (torch.full_like(distance, math.log(v) if v > 0 else -math.inf) for v in (floor, 1 - floor))
    return torch.logaddexp(low, high - slope * distance)
