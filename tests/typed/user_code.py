"""What users write, fully typed: strict mypy passes over it in `make quality`, and the tests run it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from numpy.typing import NDArray
from torch import Tensor

from art_gair import (
    AWP,
    EMA,
    TRADES,
    AdversarialTrainerGAIRAT,
    Checkpoint,
    EarlyStopping,
    GeometryAwarePGD,
    RobustnessReport,
    TanhWeighting,
    evaluate_robustness,
    recipes,
)
from art_gair.engine.classifier import TensorClassifier
from art_gair.objectives import Batch, Objective, Terms
from art_gair.objectives.per_sample import PerSampleLoss
from art_gair.plugins import Plugin
from art_gair.schedules import Piecewise
from art_gair.weighting import KappaWeighting, Weighting


def double_the_fooled(*, kappa: Tensor, max_iter: int, logits: Tensor, labels: Tensor, epoch: int) -> Tensor:
    """A function is a weighting."""
    weights = torch.where(logits.argmax(dim=1) != labels, 2.0, 1.0)
    return weights / weights.mean()


@dataclass
class Power(KappaWeighting):
    """A class is one."""

    power: float = 1.0

    def log_weights(self, kappa: Tensor, max_iter: int, epoch: int) -> Tensor:
        return -self.power * torch.log1p(kappa)


@dataclass(frozen=True)
class Natural(Objective):
    """An objective of one's own."""

    def __call__(self, classifier: TensorClassifier, loss: PerSampleLoss, batch: Batch) -> Terms:
        logits = classifier.training_logits(batch.x_adv, batch.labels)
        return Terms(logits, weighted=loss(logits, batch.labels))


class Losses(Plugin):
    """A plugin of one's own."""

    affects_training = False

    def __init__(self) -> None:
        self.losses: list[float] = []

    def end_epoch(self, record: Mapping[str, Any]) -> None:
        self.losses.append(record["loss"])


def train(x: NDArray[np.float32], y: NDArray[np.int64], classifier: PyTorchClassifier, folder: Path) -> list[float]:
    """Trainings that a type checker accepts; returns the losses that the plugin saw."""
    attack = GeometryAwarePGD(classifier, norm=2, eps=0.4, eps_step=0.2, max_iter=2)
    schemes: list[Weighting] = [double_the_fooled, Power(2.0), TanhWeighting(lambda epoch: 3.0 - epoch)]
    schemes.append(TanhWeighting(Piecewise((3.0, -1.0), (1,))))
    watch = Losses()
    for weighting in schemes:
        plugins: list[Plugin] = [AWP(0.005), EMA(0.99), watch]
        trainer = AdversarialTrainerGAIRAT(classifier, attack, weighting, objective=TRADES(6.0), plugins=plugins)
        trainer.fit(x, y, (x, y), nb_epochs=2, validation_attack=[attack], keep_best=True, verbose=False)
        best: int | None = trainer.best_epoch
        assert best is not None
    last = recipes.trades(classifier, eps=0.1, plugins=[Checkpoint(folder), EarlyStopping(5)])
    last.fit(x, y, (x, y), nb_epochs=1, resume=True, verbose=False)
    AdversarialTrainerGAIRAT(classifier, objective=Natural(), burn_in=1).fit(x, y, nb_epochs=1, verbose=False)
    return watch.losses


def evaluate(x: NDArray[np.float32], y: NDArray[np.int64], classifier: PyTorchClassifier) -> float:
    """One radius gives one report, several give a list."""
    report: RobustnessReport = evaluate_robustness(classifier, x, y, eps=0.1, verbose=False)
    reports: list[RobustnessReport] = evaluate_robustness(classifier, x, y, eps=[0.1, 0.2], verbose=False)
    table: str = report.table()
    assert table
    return min(one.worst_case for one in reports)
