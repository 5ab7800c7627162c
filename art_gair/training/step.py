"""One step of geometry-aware instance-reweighted adversarial training (Zhang et al., ICLR 2021, Alg. 2)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor

from art_gair.attacks.base import Perturb
from art_gair.distributed.share import Share
from art_gair.engine.classifier import TensorClassifier
from art_gair.engine.precision import without_autocast
from art_gair.objectives.base import Batch, Objective
from art_gair.objectives.per_sample import PerSampleLoss
from art_gair.plugins.base import Plugin
from art_gair.training import data
from art_gair.training.augment import Augment
from art_gair.training.effective_batch import EffectiveBatch, Part
from art_gair.training.guard import FiniteGuard
from art_gair.training.history import EpochMeter
from art_gair.training.replicas import Replicas
from art_gair.training.streams import GLOBAL, Streams
from art_gair.training.train_mode import TrainMode
from art_gair.weighting.base import Weighting


@dataclass
class TrainingStep:
    """Attack, weigh, descend: the parts a step is made of, as they stand in one epoch."""

    classifier: TensorClassifier
    attack: Perturb
    second_attack: Perturb | None
    max_iter: int
    objective: Objective
    loss: PerSampleLoss
    weighting: Weighting
    optimizer: torch.optim.Optimizer
    plugins: Sequence[Plugin]
    guard: FiniteGuard
    train_mode: TrainMode
    epoch: int
    in_burn_in: bool
    augment: Augment | None = None
    streams: Streams = GLOBAL
    replicas: Replicas | None = None

    def __call__(self, batches: Sequence[data.Batch], meter: EpochMeter) -> None:
        """Take one step on a batch, or on several whose gradients are added up, that lie on the device.

        :param batches: inputs, float32 (n, *input_shape); classes, int64 (n,), -1 for unlabelled samples, where the
            objective can use them; whether there are any: the host knows, and need not ask the device; and on several
            processes which rows of the batch they are.
        :param meter: takes the batch's sums.
        """
        self.streams.seed_own(self.epoch, self.guard.taken)
        attacked = [self._attack(*batch) for batch in batches]
        parts = [part for part, _ in attacked]
        loss = EffectiveBatch(
            *(self.classifier, self.objective, self.loss, self.weighting, self.max_iter, self.epoch, parts),
            *(self.streams.group, self.replicas),
        )
        with self.guard.keeping():
            self._take_gradient(loss)
            if self.replicas is not None:
                self.replicas.share_statistics(len(loss.targets) / loss.n)
            self.streams.seed_alike(self.epoch, self.guard.taken)
            for plugin in self.plugins:
                plugin.after_backward()
            seen, gradients = [loss.terms.logits, loss.terms.weighted], [g for part in parts for g in part.gradients]
            total = self.streams.group.sum(loss.total)
            taken = self.guard.step(total, loss.weights, seen, gradients, loss.checked)
        if not taken:
            meter.skipped += 1
            return
        for plugin in self.plugins:
            plugin.after_step()

        passes = sum(passes for _, passes in attacked)
        meter.update(loss.weights, loss.terms, loss.total, loss.targets, loss.kappa, passes=passes, n=loss.n)
        meter.look(parts, loss.terms.logits)

    def _take_gradient(self, loss: EffectiveBatch) -> None:
        """Run the update's passes; if the form of the model made them fail, run them once more in another form.

        They are not run again where the first run may have left something behind: in other parts of the batch, on other
        processes, or by a user's plugin around the loss.
        """
        try:
            self._backward(loss)
        except RuntimeError as error:
            alone = len(loss.split) == 1 and self.streams.group.size == 1
            own = any(not type(plugin).around_loss.__module__.startswith("art_gair.") for plugin in self.plugins)
            if own or not alone or not self.classifier.updates_otherwise(error):
                raise
            self.guard.put_back_buffers()
            self._backward(loss)

    def _backward(self, loss: EffectiveBatch) -> None:
        self.train_mode()
        self._zero_grad()
        with ExitStack() as around:
            around.enter_context(without_autocast(self.classifier.device))  # a generator of batches may hold one open
            for plugin in self.plugins:
                around.enter_context(plugin.around_loss(loss))
            for part in loss.update_parts():
                part.backward()

    def __post_init__(self) -> None:
        updated = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        self.not_updated = [p for p in self.classifier.module.parameters() if id(p) not in updated]

    def _attack(
        self, x: Tensor, labels: Tensor, unlabelled: bool = False, share: Share | None = None
    ) -> tuple[Part, float]:
        """Augment and attack a part of the batch; return it, and the attack's passes over this process's samples."""
        before = self.classifier.passes
        self.classifier.take_gradient()  # what others have left
        x = x if self.classifier.box is None else self.classifier.box.clip(x)
        if self.augment is not None:
            x = self.augment(x)
        targets = self._targets(x, labels) if unlabelled else labels
        with self.streams.drawing(share):
            x_adv, kappa = self.attack(x, targets)
            gradients = self.classifier.take_gradient()
            x_second = None if self.second_attack is None else self.second_attack(x, targets)[0]
            gradients += self.classifier.take_gradient()
        own = 1.0 if share is None else share.counts[share.rank] / share.rows
        passes = own * (self.classifier.passes - before)
        return Part(Batch(x, x_adv, labels, x_second), targets, kappa, gradients, share), passes

    def _zero_grad(self) -> None:
        """Drop all gradients, those of parameters that the optimizer does not update as well."""
        self.optimizer.zero_grad()
        for parameter in self.not_updated:
            parameter.grad = None

    def _targets(self, x: Tensor, labels: Tensor) -> Tensor:
        """Put the model's own prediction in the place of a missing label: what the attack moves away from."""
        with self.classifier.attacked(x) as logits_of, torch.no_grad():
            return torch.where(labels < 0, logits_of(x).argmax(dim=1), labels)
