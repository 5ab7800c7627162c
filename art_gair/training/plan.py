"""What a training is made of, and the step as it stands in one of its epochs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from art_gair.attacks.base import InnerAttack, check_perturbed
from art_gair.engine.classifier import TensorClassifier
from art_gair.objectives.base import Objective
from art_gair.objectives.per_sample import PerSampleLoss
from art_gair.plugins.base import Plugin
from art_gair.training.augment import Augment
from art_gair.training.guard import FiniteGuard
from art_gair.training.replicas import Replicas
from art_gair.training.step import TrainingStep
from art_gair.training.streams import Streams
from art_gair.training.train_mode import TrainMode
from art_gair.training.weights import TryingOut
from art_gair.weighting.base import Weighting
from art_gair.weighting.uniform import UniformWeighting


@dataclass
class TrainingPlan:
    """The parts of a training, checked, and which of its epochs belong to the burn-in."""

    classifier: TensorClassifier
    attack: InnerAttack
    second_attack: InnerAttack | None
    objective: Objective
    loss: PerSampleLoss
    weighting: Weighting
    optimizer: torch.optim.Optimizer
    plugins: Sequence[Plugin]
    train_mode: TrainMode
    burn_in: list[bool]
    augment: Augment | None
    max_skipped: int
    environment: dict[str, str]
    """Settings that may differ when the training is resumed."""
    streams: Streams
    replicas: Replicas | None
    """The model on several processes."""

    def __post_init__(self) -> None:
        self.group = self.streams.group
        self.guard = FiniteGuard(self.classifier, self.optimizer, self.max_skipped, self.group)

    def stateful(self) -> dict[str, Any]:
        """Return the parts beside model, optimizer and plugins that have a state of their own, by name."""
        transform = None if self.augment is None else self.augment.transform
        parts = {"attack": self.attack, "weighting": self.weighting, "objective": self.objective, "augment": transform}
        parts["loss"] = self.loss
        methods = ("state_dict", "load_state_dict")
        return {name: part for name, part in parts.items() if all(hasattr(part, method) for method in methods)}

    def make_step(self, epoch: int, taken: int = 0, skipped: int = 0) -> TrainingStep:
        """Return the step of an epoch, counted from 0, of which some steps may be taken already, or skipped."""
        self.classifier.begin_epoch()
        self.guard.begin_epoch(taken, skipped)
        second = self.second_attack
        return TrainingStep(
            classifier=self.classifier,
            attack=check_perturbed(self.attack, self.attack.on_batches(self.classifier, epoch)),
            second_attack=None if second is None else second.on_batches(self.classifier, epoch),
            max_iter=self.attack.max_iter,
            objective=self.objective,
            loss=self.loss,
            weighting=self._weighting(epoch),
            optimizer=self.optimizer,
            plugins=self.plugins,
            guard=self.guard,
            train_mode=self.train_mode,
            epoch=epoch,
            in_burn_in=self.burn_in[epoch],
            augment=self.augment,
            streams=self.streams,
            replicas=self.replicas,
        )

    def _weighting(self, epoch: int) -> Weighting:
        if not self.burn_in[epoch]:
            return self.weighting
        if epoch == 0 and not all(self.burn_in):
            return TryingOut(self.weighting, self.burn_in.index(False))
        return UniformWeighting()
