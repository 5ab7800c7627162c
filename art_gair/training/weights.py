"""The weights of a batch, held against what a training asks of them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from art_gair import generators
from art_gair.distributed.group import Group
from art_gair.distributed.share import Share
from art_gair.weighting.base import Weighting, normalised_by, sees_parts
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


def weigh_together(weighting: Weighting, group: Group, shares: Sequence[Share], **batch: Any) -> tuple[Tensor, Tensor]:
    """Return the weights of this process's own samples, normalised over those of all processes, and what to check.

    The package's schemes exchange three numbers. Any other scheme sees the whole batch, in the order of one process:
    kappa, labels and logits are gathered.

    :param shares: of the parts of the batch, of which `batch` holds all computed rows, one part after the other.
    :return: weights (n_own,), and those that can be held against their mean of 1: of the whole batch, or empty.
    """
    own = own_rows(shares, batch["labels"])
    if sees_parts(weighting):
        with normalised_by(lambda log_weights: normalise_together(log_weights, own, group)):
            weights = weigh(weighting, **batch)[own]
        return weights, weights[:0]
    per_sample = {name: value for name, value in batch.items() if isinstance(value, Tensor)}
    whole = {name: gather_own(value, group, shares) for name, value in per_sample.items()}
    weights = weigh(weighting, **{**batch, **whole})
    weights = group.sum(weights if group.rank == 0 else torch.zeros_like(weights))  # it may have drawn them
    return cut_own(weights, group, shares), weights


def normalise_together(log_weights: Tensor, own: Tensor, group: Group) -> Tensor:
    """Turn logarithms of weights, float64, into float32 weights whose mean over all processes' own rows is 1.

    As `art_gair.weighting.base.normalise`, with one exchange of three numbers.
    """
    log_weights = log_weights.double().clamp(-1e300, 1e300)
    mine = log_weights[own]
    largest = mine.max() if len(mine) else log_weights.new_tensor(-torch.inf)
    total = torch.exp(mine - largest).sum()
    numbers = torch.stack([largest, total, torch.full_like(total, len(mine))])
    every = group.gather_rows(numbers[None], [1] * group.size)
    most = every[:, 0].max()
    mean = (every[:, 1] * torch.exp(every[:, 0] - most)).sum() / every[:, 2].sum()
    return (torch.exp(log_weights - most) / mean).to(torch.float32)


def own_rows(shares: Sequence[Share], like: Tensor) -> Tensor:
    """Return the places of a process's own rows among those it computes, int64 on the device of `like`."""
    places, before = [], 0
    for share in shares:
        places.append(torch.arange(before + share.own.start, before + share.own.stop))
        before += share.rows
    return torch.cat(places).to(like.device, non_blocking=True)


def gather_own(rows: Tensor, group: Group, shares: Sequence[Share]) -> Tensor:
    """Return the own rows of all processes, part by part, in the order that one process has them in."""
    parts = rows.split([share.rows for share in shares])
    every = [group.gather_rows(p[share.own], share.counts) for p, share in zip(parts, shares, strict=True)]
    return torch.cat(every)


def cut_own(whole: Tensor, group: Group, shares: Sequence[Share]) -> Tensor:
    """Return a process's own rows of what belongs to the whole batch."""
    parts = whole.split([share.n for share in shares])
    starts = [sum(share.counts[: group.rank]) for share in shares]
    counts = [share.counts[group.rank] for share in shares]
    return torch.cat([p[a : a + n] for p, a, n in zip(parts, starts, counts, strict=True)])


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

    @property
    def sees_parts(self) -> bool:
        """Whether it can weigh a part of a batch: once it has tried the weighting, on a whole one."""
        return self.tried

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
