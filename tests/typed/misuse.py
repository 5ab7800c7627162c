"""Mistakes that a type checker must find. Nothing here is run.

Each line says which error mypy must report. Strict mypy, in `make quality`, fails where an error is not reported, since
the comment is then unused.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from art_gair import (
    AWP,
    TRADES,
    AdversarialTrainerGAIRAT,
    EarlyStopping,
    RobustnessReport,
    TanhWeighting,
    evaluate_robustness,
    recipes,
)
from art_gair.plugins import Plugin
from art_gair.weighting import KappaWeighting


def no_weighting(kappa: Tensor) -> Tensor:
    return kappa


class NoScheme(KappaWeighting):
    def log_weights(self, kappa: Tensor, max_iter: int) -> Tensor:  # type: ignore[override]
        return kappa


class NoPlugin(Plugin):
    def begin_epoch(self, epoch: str) -> None:  # type: ignore[override]
        raise NotImplementedError


def mistakes(classifier: Any, x: Any, y: Any) -> None:
    TanhWeighting(lam="-1")  # type: ignore[arg-type]
    TRADES(beta="six")  # type: ignore[arg-type]
    TRADES(gamma=6.0)  # type: ignore[call-arg]
    AWP([0.005])  # type: ignore[arg-type]
    EarlyStopping(patience="long")  # type: ignore[arg-type]
    NoScheme()(kappa=[0, 1], max_iter=10)  # type: ignore[arg-type]
    TanhWeighting()(torch.zeros(2), 10)  # type: ignore[call-arg]
    AdversarialTrainerGAIRAT(classifier, weighting=no_weighting)  # type: ignore[arg-type]
    AdversarialTrainerGAIRAT(classifier, weighting="Tanh")  # type: ignore[arg-type]
    AdversarialTrainerGAIRAT(classifier, objective=TanhWeighting())  # type: ignore[arg-type]
    AdversarialTrainerGAIRAT(classifier, plugins=[TRADES()])  # type: ignore[list-item]
    trainer = AdversarialTrainerGAIRAT(classifier, burn_in=0.3)
    trainer.fit(x, y, nb_epochs="20")  # type: ignore[arg-type]
    trainer.fit(x, y, seed="0")  # type: ignore[arg-type]
    loss: str = trainer.history[0]["loss"]  # type: ignore[assignment]
    unknown = trainer.history[0]["losses"]  # type: ignore[typeddict-item]
    recipes.trades(classifier, epsilon=0.1)  # type: ignore[call-arg]
    recipes.trades(classifier, max_iter="ten")  # type: ignore[arg-type]
    report: RobustnessReport = evaluate_robustness(classifier, x, y, eps=[0.1])  # type: ignore[assignment]
    evaluate_robustness(classifier, x, y, eps=0.1, preset=3)  # type: ignore[call-overload]
    worst: str = report.worst_case  # type: ignore[assignment]
    print(loss, unknown, worst)  # noqa: T201
