"""One step of geometry-aware instance-reweighted adversarial training (Zhang et al., ICLR 2021, Alg. 2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from art_gair.classifier import TensorClassifier
from art_gair.objectives.at import AT
from art_gair.objectives.per_sample import PerSampleLoss
from art_gair.training.guard import FiniteGuard
from art_gair.training.history import EpochMeter
from art_gair.weighting.base import Weighting


@dataclass
class TrainingStep:
    """Attack, weigh, descend: the parts a step is made of."""

    classifier: TensorClassifier
    attack: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    max_iter: int
    objective: AT
    loss: PerSampleLoss
    optimizer: torch.optim.Optimizer
    guard: FiniteGuard

    def __call__(self, x: Tensor, labels: Tensor, weighting: Weighting, epoch: int, meter: EpochMeter) -> None:
        """Take one step on a batch that lies on the device.

        :param x: inputs, float32 (n, *input_shape).
        :param labels: classes, int64 (n,).
        :param weighting: this epoch's scheme.
        :param epoch: counted from 0.
        :param meter: takes the batch's sums.
        """
        x_adv, kappa = self.attack(x, labels)

        self.guard.keep()
        self.classifier.module.train()
        self.optimizer.zero_grad()
        logits, losses = self.objective(self.classifier, self.loss, x, x_adv, labels)
        weights = weighting(kappa=kappa, max_iter=self.max_iter, logits=logits.detach(), labels=labels, epoch=epoch)
        loss = (weights * losses).mean()
        loss.backward()
        self.guard.step(self.optimizer, loss)

        meter.update(weights, losses, logits, labels, kappa)
