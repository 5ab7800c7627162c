"""PGD that takes a few steps for every sample, and the others for those that a rule selects."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from art_gair.attacks.pgd import PGD, select_samples
from art_gair.attacks.rows import Samples, never_alone
from art_gair.engine.classifier import Model
from art_gair.logits import probability_margins
from art_gair.whole_batch import place_of

ROUNDING = 1e-6
"""A share of at most this is 0 but for the rounding of the budget that it was made from."""


class Selection(Protocol):
    """Says which samples take all steps."""

    def __call__(self, margins: Tensor) -> Tensor:
        """Return their rows, int64 (m,), by the margins of all samples' probabilities, (n,), -1..1."""
        ...


@dataclass(frozen=True)
class Between:
    """Selects the samples whose margin lies within two bounds. How many these are the host must ask the device."""

    lost: float
    safe: float

    def __call__(self, margins: Tensor) -> Tensor:
        """Return their rows."""
        return ((margins >= self.lost) & (margins <= self.safe)).nonzero()[:, 0]


@dataclass(frozen=True)
class Nearest:
    """Selects a share of the batch: the samples whose margins lie nearest to a value. The host asks no device.

    The share is rounded to whole samples, and to one at least.

    Of a batch that several processes share it selects from the whole; the host then waits for the device.
    """

    middle: float
    share: float

    def __call__(self, margins: Tensor) -> Tensor:
        """Return their rows."""
        place = place_of(margins)
        if place is None:
            return self._nearest(margins)
        selected = self._nearest(place.gather(margins)) - place.first
        return selected[(selected >= 0) & (selected < place.rows)]

    def _nearest(self, margins: Tensor) -> Tensor:
        count = max(math.floor(self.share * len(margins) + 0.5), int(self.share > ROUNDING))
        return (margins - self.middle).abs().topk(count, largest=False, sorted=False).indices.sort().values


@dataclass(frozen=True)
class SelectivePGD(PGD):
    """GA-PGD whose samples all take the first steps, and only those that are selected the rest.

    The margins at the last of the first looks decide, so the choice costs no pass of its own. A sample that stops while
    it is classified rightly is taken for one that would never be fooled: its kappa is K.

    :param selection: which samples go on.
    :param first_steps: steps of all samples, 1..max_iter - 1.
    :param compact: whether samples that stop leave the computation; else they are carried along.
    """

    selection: Selection
    first_steps: int
    compact: bool = True

    def _run(self, model: Model, samples: Samples) -> tuple[Tensor, Tensor]:
        """One start, the first steps for all samples, the others for those that are selected."""
        x_adv, kappa, logits = self._steps(model, samples, self._begin(samples), self.first_steps)
        rows = self.selection(probability_margins(logits, samples.labels))
        goes_on = torch.zeros_like(samples.labels, dtype=torch.bool).index_fill(0, rows, True)
        right = logits.argmax(dim=1) == samples.labels
        kappa = torch.where(right & ~goes_on, self.max_iter, kappa)
        if len(rows) == 0:
            return x_adv, kappa
        going, start = (samples.take(rows), x_adv[rows]) if self.compact else (samples, x_adv)
        model = never_alone(model) if len(samples.labels) > 1 else model
        further, looks, _ = self._steps(model, going, start, self.max_iter - self.first_steps)
        if self.compact:
            return x_adv.index_copy(0, rows, further), kappa.index_add(0, rows, looks)
        return select_samples(goes_on, further, x_adv), torch.where(goes_on, kappa + looks, kappa)

    def _steps(self, model: Model, samples: Samples, x_adv: Tensor, steps: int) -> tuple[Tensor, Tensor, Tensor]:
        """Take steps of Algorithm 1: return the iterate, the looks survived, and the logits of the last look."""
        survived = torch.zeros_like(samples.labels)
        for _ in range(steps):
            logits, step = self._look(model, samples, x_adv)
            survived = survived + (logits.argmax(dim=1) == samples.labels)
            x_adv = self._move(samples, x_adv, step)
        return x_adv, survived, logits
