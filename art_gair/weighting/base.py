"""What a weighting is, and the normalisation that all of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import torch
from torch import Tensor


class Weighting(Protocol):
    """What the training step asks of a scheme; any callable of this signature works."""

    def __call__(self, *, kappa: Tensor, max_iter: int, logits: Tensor, labels: Tensor, epoch: int) -> Tensor:
        """Weigh a batch.

        :param kappa: looks survived, int64 (n,), 0..max_iter.
        :param max_iter: K of the attack.
        :param logits: f(x_adv) of the update's forward, detached, (n, nb_classes).
        :param labels: classes, int64 (n,).
        :param epoch: epoch of the training, counted from 0.
        :return: weights (n,), >= 0, mean 1.
        """
        ...


class KappaWeighting(ABC):
    """A scheme on kappa alone: it gives the logarithm of its raw weights, the rest is done here."""

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

        :param kappa: looks survived, int64 (n,), 0..max_iter.
        :param max_iter: K of the attack that counted kappa, at least 1.
        :param logits: not used.
        :param labels: not used.
        :param epoch: epoch of the training, counted from 0, for schemes with a schedule.
        :return: float32 (n,), >= 0, mean 1.
        """
        return normalise(self.log_weights(kappa.double(), max_iter, epoch))

    @abstractmethod
    def log_weights(self, kappa: Tensor, max_iter: int, epoch: int) -> Tensor:
        """Map kappa, float64 (n,), to the logarithm of the raw weights, float64 (n,), never +inf."""


def normalise(log_weights: Tensor) -> Tensor:
    """Turn logarithms of weights, float64 (n,), into float32 weights of mean 1.

    The largest is made 1 before the mean is taken, so the mean is at least 1/n and there is no 0/0; equal logarithms
    give equal weights, and all equal ones exactly 1.
    """
    weights = torch.exp(log_weights - log_weights.max())
    return (weights / weights.mean()).to(torch.float32)
