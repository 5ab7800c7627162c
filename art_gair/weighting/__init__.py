"""Instance weights: one file a family; a scheme is a callable of the signature that `Weighting` spells out."""

from __future__ import annotations

from typing import Protocol

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
