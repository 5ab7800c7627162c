"""What an epoch records: sums kept on the device during it, read once at its end."""

from __future__ import annotations

import time
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor

from art_gair.objectives.base import Terms


class EpochRecord(TypedDict):
    """One epoch of `trainer.history`: plain Python numbers, ready for JSON or a data frame."""

    epoch: int  #: counted from 0
    burn_in: bool  #: True while all weights are 1
    loss: float  #: mean of the weighted loss over the epoch's samples, what was minimised
    unweighted_loss: float  #: mean of the same loss with weight 1 for each sample
    train_robust_accuracy: float  #: 0..1, on the training attack's examples, by the update's forward in train mode;
    #: a sample of label -1 counts as right where the model keeps its own clean prediction
    clean_accuracy: float | None  #: 0..1, on validation_data; None without
    robust_accuracy: float | None  #: 0..1, on validation_data: right clean and under each validation_attack, or, where
    #: none is given, under the training attack; None without validation_data. Read it with care
    kappa_histogram: list[int]  #: number of samples with kappa = 0, 1, ..., max_iter; empty under another attack
    effective_sample_size: float  #: (sum w)^2 / sum w^2 of a batch, mean over the batches
    lr: float  #: of the optimizer's first parameter group
    lam: float | None  #: the weighting's; None in the burn-in and for a weighting without
    seconds: float  #: wall time of the epoch, validation included


class Accuracies(NamedTuple):
    """What validation measures, each 0..1."""

    clean: float
    robust: float


class EpochMeter:
    """Sums over the steps of one epoch; nothing here makes a step wait for the device."""

    def __init__(self, max_iter: int, device: torch.device) -> None:
        self.began = time.perf_counter()
        self.histogram: Tensor | None = None
        self.max_iter, self.device = max_iter, device
        self.sums = torch.zeros(4, dtype=torch.float64, device=device)
        self.samples = 0
        self.batches = 0

    @torch.no_grad()
    def update(self, weights: Tensor, terms: Terms, total: Tensor, labels: Tensor, kappa: Tensor | None) -> None:
        """Add one step's batch."""
        n = len(labels)
        unweighted = terms.weighted if terms.plain is None else terms.weighted + terms.plain
        correct = (terms.logits.argmax(dim=1) == labels).sum()
        effective = weights.sum() ** 2 / weights.dot(weights)
        self.sums += torch.stack([total * n, unweighted.sum(), correct.to(total.dtype), effective.to(total.dtype)])
        if kappa is not None:
            if self.histogram is None:  # counted at once: small tensors kept until the end fragment the memory
                self.histogram = torch.zeros(self.max_iter + 1, dtype=torch.int64, device=self.device)
            self.histogram.scatter_add_(0, kappa, torch.ones_like(kappa))
        self.samples += n
        self.batches += 1

    def record(
        self, epoch: int, burn_in: bool, lr: float, lam: float | None, accuracies: Accuracies | None
    ) -> EpochRecord:
        """Read the sums, the epoch's one wait for the device."""
        weighted, plain, correct, effective = self.sums.tolist()
        return EpochRecord(
            epoch=epoch,
            burn_in=burn_in,
            loss=weighted / self.samples,
            unweighted_loss=plain / self.samples,
            train_robust_accuracy=correct / self.samples,
            clean_accuracy=None if accuracies is None else accuracies.clean,
            robust_accuracy=None if accuracies is None else accuracies.robust,
            kappa_histogram=[] if self.histogram is None else self.histogram.tolist(),
            effective_sample_size=effective / self.batches,
            lr=lr,
            lam=lam,
            seconds=time.perf_counter() - self.began,
        )
