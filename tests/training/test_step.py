"""A step never asks the device for a value, so on a GPU the host runs ahead of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from art_gair import AWP, EMA, BoundaryPGD, FriendlyPGD, GeometryAwarePGD, TanhWeighting
from art_gair.attacks.base import Perturb
from art_gair.engine import FastClassifier
from art_gair.engine.classifier import TensorClassifier
from art_gair.objectives import AT, Objective
from art_gair.objectives.per_sample import per_sample
from art_gair.plugins import ClipGradients, Plugin
from art_gair.training.data import Batch
from art_gair.training.guard import FiniteGuard
from art_gair.training.history import EpochMeter
from art_gair.training.step import TrainingStep
from art_gair.training.train_mode import TrainMode
from tests.models import Blur, digits, digits_classifier
from tests.objectives.test_objectives import OBJECTIVES
from tests.weighting.test_on_logits import SCHEMES

WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique2", "bincount")
"""Operations whose result the host must have before it can go on: item(), bool(), indices from a mask, and so on."""


class NoWaits(TorchDispatchMode):
    """Raises where an operation would make the host wait for a device."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert name not in WAITS, f"{func} waits for the device"
        return func(*args, **(kwargs or {}))


def make_step(
    weighting: Any,
    objective: Objective,
    attack: Callable[..., GeometryAwarePGD] = GeometryAwarePGD,
    *,
    classifier: Any = None,
    view_of: Callable[[Any], TensorClassifier] = TensorClassifier,
    **settings: Any,
) -> tuple[TrainingStep, EpochMeter]:
    """Return a step on the digits model, or another, with every plugin, and a meter."""
    if classifier is None:
        classifier = digits_classifier(preprocessing_defences=Blur(), preprocessing=(0.5, 0.25))
    view = view_of(classifier)
    art_attack = attack(classifier, max_iter=3, **settings)
    second: Perturb | None = None
    if objective.second_attack is not None:
        second = art_attack.with_loss(objective.second_attack).on_batches(view, 0)
    plugins: list[Plugin] = [AWP(0.01), ClipGradients(1.0), EMA(0.9)]
    for plugin in plugins:
        plugin.start(view, classifier.optimizer)
        plugin.begin_epoch(0)
    guard = FiniteGuard(view, classifier.optimizer)
    guard.interval = guard.READ_EVERY  # as on a GPU
    step = TrainingStep(
        classifier=view,
        attack=art_attack.on_batches(view, 0),
        second_attack=second,
        max_iter=3,
        objective=objective,
        loss=per_sample(
            torch.nn.CrossEntropyLoss(weight=torch.linspace(1, 2, 10, device=view.device)), 10, view.device
        ),
        weighting=weighting,
        optimizer=classifier.optimizer,
        plugins=plugins,
        guard=guard,
        train_mode=TrainMode(view.module),
        epoch=0,
        in_burn_in=False,
    )
    return step, EpochMeter(3, view.device)


def assert_runs_ahead(step: TrainingStep, meter: EpochMeter) -> None:
    """Hold the second step: in the first one the optimizer adds its state, and a view is chosen."""
    x, y = (torch.from_numpy(a) for a in digits(12))
    step([Batch(x, y)], meter)
    with NoWaits():
        step([Batch(x, y)], meter)
        step([Batch(x[:8], y[:8]), Batch(x[8:], y[8:])], meter)  # as with `accumulate`
    step.guard.require_finite(0, 0.1, now=True)


def test_the_detector_sees_a_wait() -> None:
    flag = torch.tensor(True)
    with pytest.raises(AssertionError, match="waits for the device"), NoWaits():
        bool(flag)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_no_objective_waits(objective: Objective) -> None:
    assert_runs_ahead(*make_step(TanhWeighting(0.0), objective))


@pytest.mark.parametrize("weighting", SCHEMES, ids=repr)
def test_no_weighting_waits(weighting: Any) -> None:
    assert_runs_ahead(*make_step(weighting, AT()))


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_no_fast_view_waits_once_it_is_chosen(objective: Objective) -> None:
    assert_runs_ahead(*make_step(TanhWeighting(0.0), objective, view_of=FastClassifier))


class FriendlyOnGPU(FriendlyPGD):
    """As on a GPU: stopped samples stay in the computation, since asking which they are would wait."""

    compact_on = ()


BUDGETED = partial(BoundaryPGD, first_steps=1, budget=0.7)


@pytest.mark.parametrize("attack", [GeometryAwarePGD, FriendlyOnGPU, BUDGETED], ids=["PGD", "friendly", "budget"])
@pytest.mark.parametrize("norm", ["inf", 2, 1])
@pytest.mark.parametrize("settings", [{"num_random_init": 3}, {"loss": "kl", "num_random_init": 0}], ids=repr)
def test_no_attack_waits(attack: Any, norm: Any, settings: dict[str, Any]) -> None:
    assert_runs_ahead(*make_step(TanhWeighting(0.0), AT(), attack, norm=norm, **settings))


def test_boundary_pgd_with_bounds_waits() -> None:
    """Which samples lie within the bounds the host must ask; a budget is what spares the wait."""
    with pytest.raises(AssertionError, match="waits for the device"):
        assert_runs_ahead(*make_step(TanhWeighting(0.0), AT(), partial(BoundaryPGD, first_steps=1)))
