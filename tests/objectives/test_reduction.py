"""A loss of `reduction="sum"` sums all of an objective: a training is that of the mean at a rate n times as high."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn

from art_gair import MART, TRADES, AdversarialTrainerGAIRAT, ARoW, GeometryAwarePGD
from art_gair.objectives import AT, CompositeKL, Objective
from art_gair.plugins import Plugin
from art_gair.plugins.base import BatchLoss
from tests.models import assert_same_state, classifier_of, digits, mlp, state_of

BATCH = 32


def trained(objective: Objective, reduction: str, lr: float, accumulate: int, plugins: list[Any]) -> Any:
    torch.manual_seed(0)
    loss = nn.CrossEntropyLoss(reduction=reduction)
    classifier = classifier_of(mlp((1, 8, 8), 10), (1, 8, 8), loss=loss, lr=lr)
    attack = GeometryAwarePGD(classifier, eps=0.2, eps_step=0.1, max_iter=3, **objective.attack)
    trainer = AdversarialTrainerGAIRAT(classifier, attack, objective=objective, burn_in=0, plugins=plugins)
    trainer.fit(*digits(4 * BATCH), batch_size=BATCH, nb_epochs=2, accumulate=accumulate, seed=1, verbose=False)
    return trainer


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("objective", [AT(), TRADES(), MART(), ARoW(), CompositeKL()], ids=lambda o: type(o).__name__)
def test_a_summed_loss_sums_all_of_the_objective(objective: Objective, accumulate: int) -> None:
    """To a batch's size, a power of two, times the rate nothing is lost in rounding."""
    n = BATCH * accumulate
    mean = trained(objective, "mean", 0.5, accumulate, [])
    summed = trained(objective, "sum", 0.5 / n, accumulate, [])
    assert_same_state(summed.classifier.model, state_of(mean.classifier.model))
    for name in ("loss", "unweighted_loss", "kappa_histogram"):
        assert [record[name] for record in summed.history] == [record[name] for record in mean.history]


def test_a_plugin_that_sees_the_loss_sees_the_sum() -> None:
    seen: dict[str, float] = {}

    class Looks(Plugin):
        @contextmanager
        def around_loss(self, loss: BatchLoss) -> Iterator[None]:
            seen.setdefault(reduction, loss().item())
            yield

    for reduction in ("mean", "sum"):
        trained(TRADES(), reduction, 0.01, 2, [Looks()])
    assert seen["sum"] == pytest.approx(2 * BATCH * seen["mean"])
