"""Schedulers that a training cannot step once an epoch are refused before it begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    OneCycleLR,
    PolynomialLR,
    SequentialLR,
    StepLR,
)

from tests.models import assert_same_state, classifier_of, digits, mlp, state_of, trainer_of

Make = Callable[[torch.optim.Optimizer], Any]
EPOCHS = 3


def classifier() -> Any:
    return classifier_of(mlp((1, 8, 8), 10), (1, 8, 8))


def rates_by_hand(make: Make) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.05, momentum=0.9)
    scheduler, rates = make(optimizer), []
    for _ in range(EPOCHS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    "make",
    [
        lambda o: StepLR(o, 1, 0.5),
        lambda o: LambdaLR(o, lambda epoch: [1.0, 0.5, 0.2, 0.1][epoch]),
        lambda o: MultiplicativeLR(o, lambda epoch: 0.5),
        lambda o: CosineAnnealingLR(o, EPOCHS),
        lambda o: CosineAnnealingWarmRestarts(o, 2),
        lambda o: PolynomialLR(o, EPOCHS),
        lambda o: SequentialLR(o, [LinearLR(o, 0.1, total_iters=1), ExponentialLR(o, 0.5)], [1]),
        lambda o: ChainedScheduler([ConstantLR(o, 0.5, 1), ExponentialLR(o, 0.5)]),
    ],
)
def test_the_rates_are_those_of_the_scheduler_alone(make: Make) -> None:
    """The trial before the training leaves no trace in the scheduler."""
    trainer = trainer_of(classifier())
    trainer.fit(*digits(16), nb_epochs=EPOCHS, scheduler=make(trainer.classifier.optimizer))
    assert [r["lr"] for r in trainer.history] == pytest.approx(rates_by_hand(make))


PER_BATCH: dict[str, Make] = {
    "OneCycleLR": lambda o: OneCycleLR(o, 0.1, total_steps=100),
    "OneCycleLR as long as the training": lambda o: OneCycleLR(o, 0.1, total_steps=EPOCHS),
    "CyclicLR": lambda o: CyclicLR(o, 0.01, 0.1),
    "CyclicLR in SequentialLR": lambda o: SequentialLR(o, [LinearLR(o), CyclicLR(o, 0.01, 0.1)], [2]),
    "OneCycleLR in ChainedScheduler": lambda o: ChainedScheduler([ExponentialLR(o, 0.9), OneCycleLR(o, 0.1, 100)]),
}


@pytest.mark.parametrize("name", PER_BATCH)
def test_a_scheduler_made_for_batches_is_refused(name: str) -> None:
    refused(PER_BATCH[name], f"scheduler {name.split()[0]} is made to be stepped after each batch")


@pytest.mark.parametrize(("length", "epoch"), [(2, 1), (3, 2)])
def test_a_list_of_rates_that_is_too_short_is_refused_before_the_training(length: int, epoch: int) -> None:
    """Torch asks for one more rate than there are epochs, for the one that would come next."""
    rates = [1.0] * length
    message = f"scheduler fails after epoch {epoch} of {EPOCHS}: IndexError: list index out of range"
    refused(lambda o: LambdaLR(o, lambda e: rates[e]), message)


def refused(make: Make, message: str) -> None:
    trainer = trainer_of(classifier())
    before = state_of(trainer.classifier.model)
    with pytest.raises(ValueError, match=message):
        trainer.fit(*digits(16), nb_epochs=EPOCHS, scheduler=make(trainer.classifier.optimizer))
    assert_same_state(trainer.classifier.model, before)


def test_a_scheduler_that_cannot_be_copied_is_used_all_the_same() -> None:
    class Own(ExponentialLR):
        def __deepcopy__(self, memo: Any) -> Any:
            raise TypeError("holds an open file")

    trainer = trainer_of(classifier())
    trainer.fit(*digits(16), nb_epochs=2, scheduler=Own(trainer.classifier.optimizer, 0.5))
    assert [r["lr"] for r in trainer.history] == pytest.approx([0.05, 0.025])
