"""Models with more than weights: BatchNorm, dropout, frozen parts, parameters that a step does not use."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_gair import AdversarialTrainerGAIRAT, GeometryAwarePGD, UniformWeighting
from tests.distributed.cases import SETTINGS
from tests.distributed.launch import Failed, launch
from tests.models import classifier_of, conv_net, digits, state_of

pytestmark = pytest.mark.xdist_group(__name__)


def train(model: nn.Module, n: int = 51, **settings: Any) -> Any:
    classifier = classifier_of(model, (1, 8, 8))
    attack = GeometryAwarePGD(classifier, **SETTINGS)
    trainer = AdversarialTrainerGAIRAT(classifier, attack, UniformWeighting(), burn_in=0)
    arguments: dict[str, Any] = {"batch_size": 16, "nb_epochs": 2, "seed": 3, "verbose": False}
    trainer.fit(*digits(n), **{**arguments, **settings})
    return state_of(model)


def made(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers)


def with_batchnorm() -> Any:
    """A last batch of 3 on 2 processes: one of them computes its neighbour's sample too."""
    torch.manual_seed(0)
    return train(conv_net())


def test_batchnorm_and_dropout_leave_one_model() -> None:
    """Statistics are averaged after each step, and each process drops units of its own."""
    torch.manual_seed(0)
    begun = state_of(conv_net())
    first, second = launch(2, with_batchnorm)
    assert not isinstance(first, Failed), first
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    assert not torch.equal(first["1.running_mean"], begun["1.running_mean"])
    again, _ = launch(2, with_batchnorm)
    assert all(torch.equal(value, again[name]) for name, value in first.items())


def with_frozen_batchnorm() -> Any:
    torch.manual_seed(0)
    model = made(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    model.train()
    model[1].eval()
    return train(model)


def test_frozen_batchnorm_trains_as_on_one_process() -> None:
    expected = with_frozen_batchnorm()
    for found in launch(2, with_frozen_batchnorm):
        assert not isinstance(found, Failed), found
        for name, value in expected.items():
            assert torch.allclose(found[name], value, rtol=0, atol=1e-6), name


class Branching(nn.Module):
    """Uses one of two heads, now this one, now that; the third never."""

    def __init__(self) -> None:
        super().__init__()
        self.flat, self.heads = nn.Flatten(), nn.ModuleList(nn.Linear(64, 10) for _ in range(3))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
        out: Tensor = self.heads[self.calls % 2](self.flat(x))
        return out


def branching() -> Any:
    torch.manual_seed(0)
    return train(Branching(), n=48)


def test_parameters_that_a_step_does_not_use() -> None:
    expected = branching()
    for found in launch(2, branching):
        assert not isinstance(found, Failed), found
        for name, value in expected.items():
            assert torch.allclose(found[name], value, rtol=0, atol=1e-6), name


class Counting(nn.Module):
    """Keeps a buffer of what it has seen, which is another on each process."""

    def __init__(self) -> None:
        super().__init__()
        self.flat, self.last = nn.Flatten(), nn.Linear(64, 10)
        self.seen: Tensor
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen = self.seen + x.sum()
        out: Tensor = self.last(self.flat(x))
        return out


def counting() -> Any:
    torch.manual_seed(0)
    return train(Counting(), n=48)


def test_other_buffers_are_those_of_process_0() -> None:
    first, second = launch(2, counting)
    assert not isinstance(first, Failed), first
    assert torch.equal(first["seen"], second["seen"])


def diverging() -> Any:
    """The second step's logits are NaN on one process."""
    torch.manual_seed(0)
    model = made(nn.Flatten(), nn.Linear(64, 10))
    steps = 0

    def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
        nonlocal steps
        steps += module.training
        return output * torch.nan if os.environ["RANK"] == "1" and module.training and steps == 2 else None

    model.register_forward_hook(hook)
    try:
        train(model)
    except FloatingPointError as error:
        return str(error), state_of(model)
    return None


def test_a_step_that_is_not_finite_on_one_process_is_undone_on_all() -> None:
    first, second = launch(2, diverging)
    for message, state in (first, second):
        assert "became non-finite in epoch 0, batch 1" in message
        assert all(torch.isfinite(value).all() for value in state.values())
        assert all(torch.equal(value, first[1][name]) for name, value in state.items())
