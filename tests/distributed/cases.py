"""Trainings that are run on one and on several processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from art_gair import (
    AWP,
    EMA,
    MART,
    TRADES,
    AdversarialTrainerGAIRAT,
    ARoW,
    BoundaryPGD,
    FriendlyPGD,
    GeometryAwarePGD,
    MarginWeighting,
    TanhWeighting,
    UniformWeighting,
)
from art_gair.objectives import CompositeKL
from art_gair.plugins import ClipGradients
from art_gair.weighting import floored
from tests.models import classifier_of, digits

SETTINGS: dict[str, Any] = {"eps": 0.2, "eps_step": 0.05, "max_iter": 4}
KL: dict[str, Any] = {**SETTINGS, "loss": "kl", "num_random_init": 0}


class InDouble(nn.Module):
    """Computes in float64: a sum of another order then flips no sign of a gradient that is all but zero."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner.double()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x.double())
        return out


def own_weights(*, kappa: Tensor, max_iter: int, logits: Tensor, labels: Tensor, epoch: int) -> Tensor:
    """Weigh as a user may: by the place in the order of kappa, which the whole batch decides."""
    ranks = (kappa[:, None] > kappa[None, :]).double().sum(dim=1) + logits.argmax(dim=1).eq(labels)
    weights = 1.0 / (1.0 + ranks)
    return weights / weights.mean()


Case = Callable[[Any], dict[str, Any]]
"""Takes a classifier and returns the arguments of its trainer."""

CASES: dict[str, Case] = {
    "AT": lambda c: {"attack": GeometryAwarePGD(c, **SETTINGS), "weighting": UniformWeighting()},
    "GAIRAT": lambda c: {"attack": GeometryAwarePGD(c, **SETTINGS), "weighting": TanhWeighting(0.0)},
    "TRADES, AWP, EMA": lambda c: {
        "attack": GeometryAwarePGD(c, **KL),
        "objective": TRADES(),
        "weighting": UniformWeighting(),
        "plugins": [AWP(0.01), EMA(0.9)],
    },
    "MART, margins, clipping": lambda c: {
        "attack": GeometryAwarePGD(c, norm=2, eps=0.8, eps_step=0.2, max_iter=4, num_random_init=2),
        "objective": MART(),
        "weighting": floored(MarginWeighting(), 0.2),
        "plugins": [ClipGradients(1.0)],
    },
    "TRADES, summed": lambda c: {"attack": GeometryAwarePGD(c, **KL), "objective": TRADES(), "plugins": [AWP(0.01)]},
    "CompositeKL": lambda c: {"attack": GeometryAwarePGD(c, **KL), "objective": CompositeKL()},
    "ARoW, L1": lambda c: {
        "attack": GeometryAwarePGD(c, norm=1, eps=3.0, eps_step=0.5, max_iter=4, loss="kl", num_random_init=1),
        "objective": ARoW(),
    },
    "FAT": lambda c: {"attack": FriendlyPGD(c, **SETTINGS), "weighting": UniformWeighting()},
    "BoundaryPGD": lambda c: {"attack": BoundaryPGD(c, **SETTINGS), "weighting": UniformWeighting()},
    "BoundaryPGD, a budget": lambda c: {
        "attack": BoundaryPGD(c, **SETTINGS, budget=0.7, num_random_init=2),
        "weighting": UniformWeighting(),
    },
    "own weights": lambda c: {"attack": GeometryAwarePGD(c, **SETTINGS), "weighting": own_weights},
}

ACCUMULATED = {"MART, margins, clipping": 2}
BURN_IN = {"GAIRAT": 1}
SUMMED = {"TRADES, summed"}
"""Cases whose loss is of `reduction="sum"`."""


def classifier_for(case: str, *, in_double: bool = True) -> Any:
    """Return an untrained classifier without BatchNorm; in float32 with a loss of class weights."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    model = InDouble(layers) if in_double else layers
    weight = None if in_double else torch.linspace(1, 2, 10)
    if case in SUMMED:
        return classifier_of(model, (1, 8, 8), loss=nn.CrossEntropyLoss(weight=weight, reduction="sum"), lr=0.005)
    return classifier_of(model, (1, 8, 8), loss=nn.CrossEntropyLoss(weight=weight))


def train(case: str, n: int, *, in_double: bool = True, **settings: Any) -> tuple[dict[str, Tensor], list[Any]]:
    """Train for two epochs; return the state of the model and the history, without its times."""
    classifier = classifier_for(case, in_double=in_double)
    trainer = AdversarialTrainerGAIRAT(classifier, **{"burn_in": BURN_IN.get(case, 0), **CASES[case](classifier)})
    x, y = digits(n + 53)
    arguments: dict[str, Any] = {"batch_size": 16, "nb_epochs": 2, "seed": 3, "verbose": False}
    arguments |= {"accumulate": ACCUMULATED.get(case, 1), "validation_data": (x[n:], y[n:]), "keep_best": False}
    trainer.fit(x[:n], y[:n], **{**arguments, **settings})
    return classifier.model.state_dict(), without_times(trainer)


def without_times(trainer: Any) -> list[Any]:
    """Return a trainer's history without what differs from run to run."""
    return [{key: value for key, value in record.items() if key != "seconds"} for record in trainer.history]


def train_all(cases: list[str], sizes: list[int], **settings: Any) -> dict[tuple[str, int], Any]:
    """Run several trainings, one after the other."""
    return {(case, n): train(case, n, **settings) for case in cases for n in sizes}
