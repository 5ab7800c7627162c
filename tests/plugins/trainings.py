"""A small training that saves itself, each part of which a test can change."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import StepLR

from art_gair import (
    AWP,
    EMA,
    AdversarialTrainerGAIRAT,
    GeometryAwarePGD,
    TanhWeighting,
)
from art_gair.plugins import Plugin
from art_gair.plugins.base import Run
from art_gair.plugins.checkpoint import SUFFIX, Checkpoint
from tests.models import assert_same_state, classifier_of, digits, state_of

SGD, STEP = partial(torch.optim.SGD, lr=0.05, momentum=0.9), partial(StepLR, step_size=2)

STEPS = 3
"""Steps of an epoch."""


def darken(x: Tensor) -> Tensor:
    return x * 0.9


@dataclass
class Setup:
    """A training, each part of which a test can change."""

    hidden: int = 16
    activation: type[nn.Module] = nn.Tanh
    frozen: bool = False
    optimizer: Callable[..., torch.optim.Optimizer] = SGD
    scheduler: Callable[..., Any] = STEP
    attack: Any = None
    weighting: Any = None
    objective: Any = None
    burn_in: float = 1
    precision: str = "fp32"
    gamma: float = 0.01
    decay: float = 0.9
    n: int = 32 * STEPS
    edit: Callable[[Any, Any], Any] = lambda x, y: None
    fit: Any = None

    def train(self, folder: Path | None, *plugins: Plugin, **changes: Any) -> AdversarialTrainerGAIRAT:
        """Train for two epochs, saving in the folder if one is given."""
        trainer = self.make(folder, *plugins, checkpoint=changes.pop("checkpoint", {}))
        return self.run(trainer, **changes)

    def make(self, folder: Path | None, *plugins: Plugin, checkpoint: Any = None) -> AdversarialTrainerGAIRAT:
        torch.manual_seed(0)
        hidden = self.hidden
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), self.activation(), nn.Linear(hidden, 10))
        model[3].bias.requires_grad_(not self.frozen)
        classifier = classifier_of(model, (1, 8, 8), optimizer=self.optimizer(model.parameters()))
        settings = {"eps": 0.2, "eps_step": 0.1, "max_iter": 2, **(self.attack or {})}
        saving = [] if folder is None else [Checkpoint(folder, **(checkpoint or {}))]
        return AdversarialTrainerGAIRAT(
            classifier,
            GeometryAwarePGD(classifier, **settings),
            TanhWeighting(-1.0) if self.weighting is None else self.weighting,
            objective=self.objective,
            burn_in=self.burn_in,
            precision=self.precision,
            plugins=[*saving, AWP(self.gamma), EMA(self.decay), *plugins],
        )

    def run(self, trainer: AdversarialTrainerGAIRAT, **changes: Any) -> AdversarialTrainerGAIRAT:
        x, y = digits(self.n)
        self.edit(x, y)
        scheduler = self.scheduler(trainer.classifier.optimizer)
        settings = {"batch_size": 32, "nb_epochs": 2, "seed": 1, "augment": darken, "verbose": False}
        trainer.fit(x, y, scheduler=scheduler, **settings | (self.fit or {}) | changes)
        return trainer


class Act(Plugin):
    """Acts at the beginning of an epoch, or after the update of a step of it."""

    affects_training = False

    def __init__(self, epoch: int, action: Callable[[], object], after_step: int | None = None) -> None:
        self.epoch, self.action, self.step = epoch, action, after_step

    def begin_epoch(self, epoch: int) -> None:
        self.now, self.taken = epoch, 0
        if epoch == self.epoch and self.step is None:
            self.action()

    def after_step(self) -> None:
        self.taken += 1
        if (self.now, self.taken) == (self.epoch, self.step):
            self.action()


class Fail(Plugin):
    """Ends the training with an error between two steps."""

    affects_training = False

    def __init__(self, epoch: int, batch: int) -> None:
        self.place = epoch, batch

    def between_steps(self, run: Run) -> None:
        if (run.epoch, run.batch) == self.place:
            raise InterruptedError


class Clock(Plugin):
    """A clock by which each step takes 20 seconds."""

    affects_training = False
    now = 0.0

    def after_step(self) -> None:
        self.now += 20.0


def saves(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob(f"*{SUFFIX}"))


def newest(folder: Path) -> Path:
    return folder / f"{saves(folder)[-1]}{SUFFIX}"


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the warnings about saving and resuming."""
    records = [r for r in caplog.records if r.levelno >= logging.WARNING]
    return [r.getMessage() for r in records if r.name.rpartition(".")[2] in ("checkpoint", "resume", "lock")]


def assert_same_training(trainer: AdversarialTrainerGAIRAT, other: AdversarialTrainerGAIRAT) -> None:
    assert_same_state(trainer.classifier.model, state_of(other.classifier.model))
    histories = [[{**record, "seconds": 0.0} for record in t.history] for t in (trainer, other)]
    assert histories[0] == histories[1]
