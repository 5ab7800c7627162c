"""Weights by how undecided the model is on x_adv."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from art_gair.weighting.base import LogitsWeighting


@dataclass
class EntropyWeighting(LogitsWeighting):
    """EWAT: w = entropy of f(x_adv), normalised to mean 1; labels play no part.

    Kim et al., Entropy Weighted Adversarial Training, ICML 2021 workshop on adversarial machine learning.
    """

    def log_weights(self, log_p: Tensor, labels: Tensor) -> Tensor:
        """Return log H(p), H bounded away from 0 so that a batch of certainties is uniform."""
        entropy = -(log_p.exp() * log_p).nan_to_num(0.0).sum(dim=1)
        return entropy.clamp(min=1e-300).log()
