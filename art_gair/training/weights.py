"""The weights of a batch, held against what a training asks of them."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from art_gair import generators
from art_gair.weighting.base import Weighting
from art_gair.weighting.uniform import UniformWeighting

MEAN_TOLERANCE = 1e-3
"""How far from 1 the mean of a batch's weights may lie."""

UNSOUND = "weights that are negative, not finite or not of mean 1"


def weigh(weighting: Weighting, **batch: Any) -> Tensor:
    """Return the weights of a batch, detached.

    :param batch: what a weighting is called with.
    :raises TypeError: if it cannot be called so.
    :raises ValueError: if it returns no floats, one for each sample.
    """
    try:
        weights: Any = weighting(**batch)
    except TypeError as error:
        raise TypeError(f"weighting {weighting!r} fails: {error}") from error
    expected = tuple(batch["labels"].shape)
    if not isinstance(weights, Tensor) or tuple(weights.shape) != expected or not weights.is_floating_point():
        tensor = isinstance(weights, Tensor)
        returned = f"shape {tuple(weights.shape)}, {weights.dtype}" if tensor else f"a {type(weights).__name__}"
        raise ValueError(f"weighting returned {returned}; expected floats of shape {expected}.")
    return weights.detach()


def are_sound(weights: Tensor) -> Tensor:
    """Whether weights are >= 0 and of mean 1, a bool on their device."""
    return (weights.min() >= 0) & ((weights.mean() - 1).abs() < MEAN_TOLERANCE)


def look_sound(weights: Tensor) -> bool:
    """As `are_sound`, in fewer operations; waits for the device."""
    return weights.min().item() >= 0 and abs(weights.mean().item() - 1) < MEAN_TOLERANCE


class TryingOut:
    """Weights of 1 for the first epoch of a burn-in; on its first batch the weighting that follows is tried.

    So a weighting that cannot work is refused before the burn-in and not after it. A copy is tried, where it can be
    copied, and the random generators are put back.

    :param weighting: the one that follows.
    :param epoch: the first epoch that it will weigh.
    """

    def __init__(self, weighting: Weighting, epoch: int) -> None:
        self.weighting, self.epoch = weighting, epoch
        self.uniform, self.tried = UniformWeighting(), False

    def __call__(self, *, kappa: Tensor, max_iter: int, logits: Tensor, labels: Tensor, epoch: int) -> Tensor:
        """Return weights of 1; see `Weighting`.

        :raises ValueError: on the first batch, for weights that a training cannot use.
        """
        if not self.tried and bool(torch.isfinite(logits).all()):
            self.tried = True
            with generators.restored(logits.device):
                batch = {"kappa": kappa, "max_iter": max_iter, "logits": logits, "labels": labels}
                weights = weigh(_copied(self.weighting), **batch, epoch=self.epoch)
            if not look_sound(weights):
                raise ValueError(f"weighting returned {UNSOUND}, tried on the first batch for epoch {self.epoch}.")
        return self.uniform(labels=labels, epoch=epoch)


def _copied(weighting: Weighting) -> Weighting:
    try:
        return copy.deepcopy(weighting)
    except Exception:
        return weighting
