"""What a weighting is, and what all of the package's share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import torch
from torch import Tensor

from art_gair.checks import require_int


class Weighting(Protocol):
    """What the training step asks of a scheme; any callable of this signature works."""

    def __call__(self, *, kappa: Tensor, max_iter: int, logits: Tensor, labels: Tensor, epoch: int) -> Tensor:
        """Weigh a batch.

        :param kappa: looks survived, int64 (n,), 0..max_iter; None under an attack that does not count it.
        :param max_iter: K of the attack.
        :param logits: f(x_adv) of the update's forward, detached, (n, nb_classes).
        :param labels: classes, int64 (n,).
        :param epoch: epoch of the training, counted from 0.
        :return: weights (n,), >= 0, mean 1.
        """
        ...


class InstanceWeighting(ABC):
    """Base of the package's schemes: it normalises the raw weights whose logarithms a scheme gives."""

    needs_kappa = False
    needs_logits = True
    """Whether the weights depend on the logits; without them gradients are accumulated in one forward pass a part."""

    def lam_at(self, epoch: int) -> float | None:
        """Return lam in an epoch, for a scheme that has one."""
        return None

    def __call__(
        self,
        *,
        kappa: Tensor | None = None,
        max_iter: int = 0,
        logits: Tensor | None = None,
        labels: Tensor | None = None,
        epoch: int = 0,
    ) -> Tensor:
        """Weigh a batch; a scheme on kappa needs no logits and labels, a scheme on logits no kappa.

        :param kappa: looks survived, int64 (n,), 0..max_iter.
        :param max_iter: K of the attack that counted kappa, at least 1.
        :param logits: f(x_adv), (n, nb_classes).
        :param labels: classes, int64 (n,).
        :param epoch: epoch of the training, counted from 0, for schemes with a schedule.
        :return: float32 (n,), >= 0, mean 1.
        :raises ValueError: if what the scheme needs is not given.
        """
        with torch.no_grad():
            return normalise(self._raw(kappa, max_iter, logits, labels, epoch))

    @abstractmethod
    def _raw(
        self, kappa: Tensor | None, max_iter: int, logits: Tensor | None, labels: Tensor | None, epoch: int
    ) -> Tensor:
        """Return the logarithms of the raw weights, float64 (n,)."""


class KappaWeighting(InstanceWeighting):
    """A scheme on kappa alone."""

    needs_kappa = True
    needs_logits = False

    @abstractmethod
    def log_weights(self, kappa: Tensor, max_iter: int, epoch: int) -> Tensor:
        """Map kappa, float64 (n,), to the logarithms of the raw weights, float64 (n,)."""

    def _raw(
        self, kappa: Tensor | None, max_iter: int, logits: Tensor | None, labels: Tensor | None, epoch: int
    ) -> Tensor:
        if kappa is None:
            raise ValueError(f"{type(self).__name__} weighs by kappa, which is None; the attack must count it.")
        require_int(max_iter, "max_iter", at_least=1)
        return self.log_weights(kappa.double(), max_iter, epoch)


class LogitsWeighting(InstanceWeighting):
    """A scheme on the logits of the adversarial examples."""

    @abstractmethod
    def log_weights(self, log_p: Tensor, labels: Tensor) -> Tensor:
        """Map log-probabilities of x_adv, float64 (n, nb_classes), to logarithms of the raw weights, float64 (n,)."""

    def _raw(
        self, kappa: Tensor | None, max_iter: int, logits: Tensor | None, labels: Tensor | None, epoch: int
    ) -> Tensor:
        if logits is None or labels is None:
            raise ValueError(f"{type(self).__name__} weighs by logits and labels; both must be given.")
        return self.log_weights(logits.double().log_softmax(dim=1), labels)


def normalise(log_weights: Tensor) -> Tensor:
    """Turn logarithms of weights, float64 (n,), into float32 weights of mean 1.

    The largest is made 1 before the mean is taken, so the mean is at least 1/n and there is no 0/0; equal logarithms
    give equal weights, and all equal ones exactly 1.

    :raises ValueError: for an empty batch.
    """
    if log_weights.numel() == 0:
        raise ValueError("the batch to weigh is empty; expected at least one sample.")
    log_weights = log_weights.clamp(-1e300, 1e300)  # infinities compare, and differ by 0 from each other
    weights = torch.exp(log_weights - log_weights.max())
    return (weights / weights.mean()).to(torch.float32)
