"""Schedulers are stepped after each epoch or each step; one that would fail is refused before the training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from art.data_generators import NumpyDataGenerator, PyTorchDataGenerator
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
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)
from torch.utils.data import DataLoader, TensorDataset

from art_gair.plugins import Plugin
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


# Schedulers stepped after each of the optimizer's steps

STEPS = 4  # an epoch: 64 samples in batches of 16
ALL = EPOCHS * STEPS

PER_BATCH: dict[str, tuple[Make, str | None]] = {
    "OneCycleLR": (lambda o: OneCycleLR(o, 0.1, total_steps=ALL + 1), None),
    "CyclicLR": (lambda o: CyclicLR(o, 0.01, 0.1, step_size_up=3), None),
    "OneCycleLR in ChainedScheduler": (
        lambda o: ChainedScheduler([ExponentialLR(o, 0.9), OneCycleLR(o, 0.1, ALL + 1)]),
        None,
    ),
    "a warm-up by SequentialLR": (
        lambda o: SequentialLR(o, [LinearLR(o, 0.1, total_iters=5), CosineAnnealingLR(o, ALL - 5)], [5]),
        "batch",
    ),
    "StepLR": (lambda o: StepLR(o, 3, 0.5), "batch"),
}


class Rates(Plugin):
    """Notes the learning rate and momentum of each step."""

    def start(self, classifier: Any, optimizer: torch.optim.Optimizer) -> None:
        self.group, self.seen = optimizer.param_groups[0], list[tuple[float, float]]()

    def after_backward(self) -> None:
        self.seen.append((self.group["lr"], self.group["momentum"]))


def rates_of_a_training(make: Make, when: str | None, **settings: Any) -> list[tuple[float, float]]:
    trainer, rates = trainer_of(classifier()), Rates()
    trainer.plugins = [rates]
    scheduler = make(trainer.classifier.optimizer)
    given = {"batch_size": 16, "nb_epochs": EPOCHS, **settings}
    trainer.fit(*digits(64), scheduler=scheduler, scheduler_step=when, verbose=False, **given)
    return rates.seen


@pytest.mark.parametrize("name", PER_BATCH)
@pytest.mark.parametrize("settings", [{}, {"batch_size": 8, "accumulate": 2}], ids=["", "accumulated"])
def test_such_a_scheduler_is_stepped_after_each_step(name: str, settings: dict[str, int]) -> None:
    make, when = PER_BATCH[name]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.05, momentum=0.9)
    scheduler, expected = make(optimizer), []
    for _ in range(ALL):
        expected.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]))
        optimizer.step()
        scheduler.step()
    np.testing.assert_allclose(rates_of_a_training(make, when, **settings), expected, rtol=1e-12)


def test_any_object_with_step_and_state_dict_is_a_scheduler() -> None:
    class Halves:
        def __init__(self, optimizer: torch.optim.Optimizer) -> None:
            self.group = optimizer.param_groups[0]

        def step(self) -> None:
            self.group["lr"] /= 2

        def state_dict(self) -> dict[str, Any]:
            return {}

    by_epoch = [lr for lr, _ in rates_of_a_training(Halves, None)]
    assert by_epoch == pytest.approx([0.05] * STEPS + [0.025] * STEPS + [0.0125] * STEPS)
    by_batch = [lr for lr, _ in rates_of_a_training(Halves, "batch")]
    assert by_batch == pytest.approx([0.05 / 2**i for i in range(ALL)])


REFUSED: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "once an epoch": (
        lambda o: OneCycleLR(o, 0.1, total_steps=100),
        {"scheduler_step": "epoch"},
        ValueError,
        "scheduler_step is 'epoch', but OneCycleLR is made to be stepped after each batch",
    ),
    "too few steps": (
        lambda o: OneCycleLR(o, 0.1, total_steps=EPOCHS),
        {},
        ValueError,
        "scheduler fails after epoch 1 of 3, step 1 of 2: ValueError: Tried to step",
    ),
    "a plateau of batches": (
        ReduceLROnPlateau,
        {"scheduler_step": "batch"},
        ValueError,
        "scheduler is ReduceLROnPlateau, which watches epochs; scheduler_step must be 'epoch'",
    ),
    "no scheduler": (lambda o: None, {"scheduler_step": "batch"}, ValueError, "but no scheduler is given"),
    "another word": (
        lambda o: StepLR(o, 1),
        {"scheduler_step": "step"},
        ValueError,
        "scheduler_step is 'step'; expected",
    ),
    "no step": (lambda o: 0.1, {}, TypeError, "scheduler is a float; expected one of torch.optim.lr_scheduler"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_stepped_is_refused(name: str) -> None:
    make, settings, error, message = REFUSED[name]
    refused(make, message, error, batch_size=8, **settings)


@pytest.mark.parametrize(("length", "epoch"), [(2, 1), (3, 2)])
def test_a_list_of_rates_that_is_too_short_is_refused_before_the_training(length: int, epoch: int) -> None:
    """Torch asks for one more rate than there are epochs, for the one that would come next."""
    rates = [1.0] * length
    message = f"scheduler fails after epoch {epoch} of {EPOCHS}: IndexError: list index out of range"
    refused(lambda o: LambdaLR(o, lambda e: rates[e]), message)


def test_what_a_function_remembers_is_not_used_up_before_the_training() -> None:
    rates = iter([1.0, 0.5, 0.25, 0.125, 0.0625])
    trainer = trainer_of(classifier())
    base = trainer.classifier.optimizer.param_groups[0]["lr"]
    x, y = digits(32)
    scheduler = LambdaLR(trainer.classifier.optimizer, lambda epoch: next(rates))
    trainer.fit(x, y, nb_epochs=3, scheduler=scheduler, verbose=False)
    assert [record["lr"] for record in trainer.history] == [base, base / 2, base / 4]


def test_functions_that_share_what_they_close_over_share_its_copy() -> None:
    trainer = trainer_of(classifier())
    x, y = digits(32)
    optimizer, shared = trainer.classifier.optimizer, {"epoch": 0}

    def first(epoch: int) -> float:
        shared["epoch"] = epoch + 1
        return 1.0

    optimizer.add_param_group({"params": [torch.zeros(1, requires_grad=True)]})
    scheduler = LambdaLR(optimizer, [first, lambda epoch: 1.0 / shared["epoch"]])
    trainer.fit(x, y, nb_epochs=2, scheduler=scheduler, verbose=False)
    assert shared == {"epoch": 3}


@pytest.mark.parametrize("kind", ["numpy", "pytorch"])
def test_batches_that_are_dropped_are_not_counted(kind: str) -> None:
    """20 samples in batches of 8 that are full: two steps an epoch."""
    trainer = trainer_of(classifier())
    x, y = digits(20)
    if kind == "numpy":
        generator: Any = NumpyDataGenerator(x, y, batch_size=8)
    else:
        data = TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
        generator = PyTorchDataGenerator(DataLoader(data, batch_size=8, drop_last=True), size=20, batch_size=8)
    scheduler = OneCycleLR(trainer.classifier.optimizer, max_lr=0.1, total_steps=2 * 3)
    trainer.fit_generator(generator, nb_epochs=3, scheduler=scheduler, verbose=False)
    assert len(trainer.history) == 3


def refused(make: Make, message: str, error: type[Exception] = ValueError, **settings: Any) -> None:
    trainer = trainer_of(classifier())
    before = state_of(trainer.classifier.model)
    with pytest.raises(error, match=message):
        trainer.fit(*digits(16), nb_epochs=EPOCHS, scheduler=make(trainer.classifier.optimizer), **settings)
    assert_same_state(trainer.classifier.model, before)


def test_a_scheduler_that_cannot_be_copied_is_used_all_the_same() -> None:
    class Own(ExponentialLR):
        def __deepcopy__(self, memo: Any) -> Any:
            raise TypeError("holds an open file")

    trainer = trainer_of(classifier())
    trainer.fit(*digits(16), nb_epochs=2, scheduler=Own(trainer.classifier.optimizer, 0.5))
    assert [r["lr"] for r in trainer.history] == pytest.approx([0.05, 0.025])
