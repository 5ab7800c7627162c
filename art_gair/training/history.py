"""What an epoch records: sums kept on the device during it, read once at its end."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple, TypedDict

import torch
from torch import Tensor

from art_gair.distributed.group import ALONE, Group
from art_gair.logits import seem_probabilities
from art_gair.objectives.base import Terms
from art_gair.training.effective_batch import Part

WEIGHT_EDGES = (0.0625, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Bounds between the bins of `weight_histogram`; the first bin begins at 0, the last one has no end."""

EXAMPLES = 16
"""Samples of an epoch's first batch that are kept to be looked at."""


class EpochRecord(TypedDict):
    """One epoch of `trainer.history`: plain Python numbers, ready for JSON or a data frame."""

    epoch: int  #: counted from 0
    burn_in: bool  #: True while all weights are 1
    loss: float  #: mean of the weighted loss over the epoch's samples, what was minimised; a mean also where the
    #: classifier's loss is of reduction="sum"
    unweighted_loss: float  #: mean of the same loss with weight 1 for each sample
    train_robust_accuracy: float  #: 0..1, on the training attack's examples, by the update's forward in train mode;
    #: a sample of label -1 counts as right where the model keeps its own clean prediction
    clean_accuracy: float | None  #: 0..1, on validation_data; None without, or in an epoch that is not validated
    robust_accuracy: float | None  #: 0..1, on validation_data: right clean and under each validation_attack, or, where
    #: none is given, under the training attack; None without validation_data. Read it with care
    kappa_histogram: list[int]  #: number of samples with kappa = 0, 1, ..., max_iter; empty under another attack
    attack_passes: float | None  #: forward and backward passes of the attack, mean a sample; None where a training
    #: attack does not report its gradients
    effective_sample_size: float  #: (sum w)^2 / sum w^2 of a batch, mean over the batches
    weight_histogram: list[int]  #: number of samples with a weight up to each of WEIGHT_EDGES, and above the last
    skipped_batches: int  #: steps that were not finite and were undone; 0 unless `non_finite` is "skip"
    validated_model: str | None  #: whose the two accuracies are: "raw" or "ema"; None without validation
    lr: float  #: of the optimizer's first parameter group
    lam: float | None  #: the weighting's; None in the burn-in and for a weighting without
    seconds: float  #: wall time of the epoch, validation included


class Accuracies(NamedTuple):
    """What validation measures, each 0..1, and of which model."""

    clean: float
    robust: float
    model: str = "raw"


class Examples(NamedTuple):
    """Some samples of an epoch's first batch, on the device."""

    x: Tensor  #: (m, *input_shape)
    x_adv: Tensor  #: the same shape
    labels: Tensor  #: int64 (m,)
    kappa: Tensor | None  #: int64 (m,)


class WatchedRecord(dict[str, Any]):
    """The record that plugins get: an EpochRecord, with `examples` of the epoch beside it."""

    examples: Examples | None = None

    @classmethod
    def of(cls, record: EpochRecord, examples: Examples | None) -> WatchedRecord:
        """Return a copy of the record with the examples."""
        watched = cls(record)
        watched.examples = examples
        return watched


class EpochMeter:
    """Sums over the steps of one epoch; nothing here makes a step wait for the device.

    :param group: the processes whose samples are summed.
    """

    def __init__(self, max_iter: int, device: torch.device, group: Group = ALONE) -> None:
        self.group = group
        self.began = time.perf_counter()
        self.histogram: Tensor | None = None
        self.max_iter, self.device = max_iter, device
        self.lr = 0.0  # at the beginning of the epoch
        self.skipped = 0
        self.passes: float | Tensor = 0.0
        self.sums = torch.zeros(4, dtype=torch.float64, device=device)
        self.edges = torch.tensor(WEIGHT_EDGES, device=device)
        self.weight_histogram = torch.zeros(len(WEIGHT_EDGES) + 1, dtype=torch.int64, device=device)
        self.moved = torch.zeros((), dtype=torch.bool, device=device)
        self.examples: Examples | None = None
        self.distances: Tensor | None = None
        self.probabilities: Tensor | None = None
        self.samples = 0
        self.batches = 0

    @torch.no_grad()
    def update(
        self,
        weights: Tensor,
        terms: Terms,
        total: Tensor,
        labels: Tensor,
        kappa: Tensor | None,
        *,
        passes: float = 0.0,
        n: int | None = None,
    ) -> None:
        """Add one step's batch: this process's samples of it, which are summed with those of the others at once.

        :param passes: of the attack over these samples.
        :param n: samples of the whole batch; None: these are all.
        """
        n = len(labels) if n is None else n
        unweighted = terms.weighted if terms.plain is None else terms.weighted + terms.plain
        correct = (terms.logits.argmax(dim=1) == labels).sum()
        sums = torch.stack([total * n, unweighted.sum(), weights.sum(), weights.dot(weights)]).double()
        counts = [sums.new_full((1,), passes), correct[None], self._count_bins(weights)]
        if kappa is not None:
            counts.append(kappa.new_zeros(self.max_iter + 1).scatter_add_(0, kappa, torch.ones_like(kappa)))
        self._add(self.group.sum(torch.cat([sums, *(count.double() for count in counts)])), kappa is not None)
        self.samples += n
        self.batches += 1

    def _count_bins(self, weights: Tensor) -> Tensor:
        bins = torch.bucketize(weights.float(), self.edges)
        return torch.zeros_like(self.weight_histogram).scatter_add_(0, bins, torch.ones_like(bins))

    def _add(self, summed: Tensor, counted: bool) -> None:
        """Add what all processes together have measured."""
        loss, plain, weight, squares, passes, correct = summed[:6]
        self.sums += torch.stack([loss, plain, correct, weight**2 / squares])
        self.passes = self.passes + passes
        bins = len(self.weight_histogram)
        self.weight_histogram += summed[6 : 6 + bins].long()
        if counted:
            if self.histogram is None:  # counted at once: small tensors kept until the end fragment the memory
                self.histogram = torch.zeros(self.max_iter + 1, dtype=torch.int64, device=self.device)
            self.histogram += summed[6 + bins :].long()

    @torch.no_grad()
    def look(self, parts: Sequence[Part], logits: Tensor) -> None:
        """Note whether and how far the attack moves samples, and what logits look like; keep a few examples.

        :param logits: of the adversarial examples, (n, nb_classes).
        """
        first = parts[0]
        if self.examples is None:
            kappa = None if first.kappa is None else first.kappa[:EXAMPLES].clone()
            x, x_adv, labels = (t[:EXAMPLES].clone() for t in (first.batch.x, first.batch.x_adv, first.targets))
            self.examples = Examples(x, x_adv, labels, kappa)
            self.distances = _distances(first.batch.x, first.batch.x_adv)
        if self.batches % 16 == 1:
            self.moved |= (first.batch.x_adv != first.batch.x).any()
            seems = seem_probabilities(logits)
            self.probabilities = seems if self.probabilities is None else self.probabilities & seems

    def running(self) -> tuple[float, float]:
        """Return mean loss and robust training accuracy so far; waits for the device."""
        weighted, _, correct, _ = self.sums.tolist()
        n = max(1, self.samples)
        return weighted / n, correct / n

    def state(self) -> dict[str, Any]:
        """Return what `load` needs to go on with the epoch."""
        names = (
            "max_iter",
            "histogram",
            "sums",
            "weight_histogram",
            "moved",
            "distances",
            "probabilities",
            "samples",
            "batches",
            "skipped",
            "passes",
            "lr",
        )
        return {**{name: getattr(self, name) for name in names}, "seconds": time.perf_counter() - self.began}

    def load(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        for name, value in state.items():
            setattr(self, name, value.to(self.device) if isinstance(value, Tensor) else value)
        self.passes = state.get("passes", math.nan)  # not counted by earlier versions
        self.began = time.perf_counter() - state["seconds"]

    def record(self, epoch: int, burn_in: bool, lam: float | None, accuracies: Accuracies | None) -> EpochRecord:
        """Read the sums, the epoch's one wait for the device."""
        weighted, plain, correct, effective = self.sums.tolist()
        passes = float(self.passes)
        return EpochRecord(
            epoch=epoch,
            burn_in=burn_in,
            loss=weighted / self.samples,
            unweighted_loss=plain / self.samples,
            train_robust_accuracy=correct / self.samples,
            clean_accuracy=None if accuracies is None else accuracies.clean,
            robust_accuracy=None if accuracies is None else accuracies.robust,
            kappa_histogram=[] if self.histogram is None else self.histogram.tolist(),
            attack_passes=None if math.isnan(passes) or passes == 0 else passes / self.samples,
            effective_sample_size=effective / self.batches,
            weight_histogram=self.weight_histogram.tolist(),
            skipped_batches=self.skipped,
            validated_model=None if accuracies is None else accuracies.model,
            lr=self.lr,
            lam=lam,
            seconds=time.perf_counter() - self.began,
        )


def _distances(x: Tensor, x_adv: Tensor) -> Tensor:
    """Return how far adversarial examples lie from their samples, and these from each other: Euclidean means, (2,)."""
    others = x.roll(len(x) // 2, dims=0)  # a sample's neighbour may be the sample once more
    moved, between = ((other - x).flatten(1).norm(dim=1).mean() for other in (x_adv, others))
    return torch.stack([moved, between])
