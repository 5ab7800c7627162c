"""Distributionally robust weights: the worst distribution within a KL ball around the batch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from art_gair.checks import require_number
from art_gair.logits import label_score
from art_gair.weighting.base import LogitsWeighting


@dataclass
class KLDROWeighting(LogitsWeighting):
    """KL-DRO: w = exp(CE(f(x_adv), y) / temperature), normalised to mean 1 (Hu & Hong, 2013).

    :param temperature: > 0; small: the worst samples only, large: uniform.
    :raises TypeError, ValueError: if temperature is no finite number or not positive.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        self.temperature = require_number(self.temperature, "temperature", above=0.0)

    def log_weights(self, log_p: Tensor, labels: Tensor) -> Tensor:
        """Return CE / temperature: rises with the loss."""
        return -label_score(log_p, labels) / self.temperature
