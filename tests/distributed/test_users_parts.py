"""Parts of a user's own on several processes: none may part the processes, or give another result without a word."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from art_gair import AWP, AdversarialTrainerGAIRAT, Checkpoint, GeometryAwarePGD, evaluate_robustness
from art_gair.plugins import Plugin
from art_gair.weighting import KappaWeighting
from tests.distributed.cases import CASES, SETTINGS, classifier_for
from tests.distributed.launch import Failed, each, launch
from tests.distributed.test_generators import Sharded
from tests.models import classifier_of, digits
from tests.training.test_resume import Leaves

pytestmark = pytest.mark.xdist_group(__name__)


def train(*plugins: Plugin, weighting: Any = None, optimizer: Any = None, **settings: Any) -> dict[str, Tensor]:
    classifier = classifier_for("AT")
    if optimizer is not None:
        classifier._optimizer = optimizer(classifier.model.parameters())
    parts = CASES["AT"](classifier)
    parts["weighting"] = parts["weighting"] if weighting is None else weighting
    trainer = AdversarialTrainerGAIRAT(classifier, burn_in=0, plugins=list(plugins), **parts)
    arguments: dict[str, Any] = {"batch_size": 16, "nb_epochs": 2, "seed": 3, "verbose": False}
    trainer.fit(*digits(50), **{**arguments, **settings})
    state: dict[str, Tensor] = classifier.model.state_dict()
    return state


def assert_alike(found: list[Any]) -> None:
    for state in found:
        assert not isinstance(state, Failed), state
        assert all(torch.equal(value, found[0][name]) for name, value in state.items())


class Noise(Plugin):
    """Adds noise to the gradients."""

    def start(self, classifier: Any, optimizer: torch.optim.Optimizer) -> None:
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def after_backward(self) -> None:
        for p in self.parameters:
            assert p.grad is not None
            p.grad.add_(torch.randn_like(p.grad))


class Langevin(torch.optim.SGD):
    """An optimizer that draws."""

    def step(self, closure: Any = None) -> Any:
        super().step(closure)
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    p.add_(0.01 * torch.randn_like(p))


def with_noise() -> Any:
    return train(Noise())


def with_a_drawing_optimizer() -> Any:
    return train(optimizer=lambda p: Langevin(p, lr=0.05))


def random_weights(*, labels: Tensor, **batch: Any) -> Tensor:
    weights = torch.rand(len(labels))
    return weights / weights.mean()


def with_random_weights() -> Any:
    return train(weighting=random_weights)


def test_what_parts_draw_is_alike_on_each_process() -> None:
    for found in zip(*launch(2, each, with_noise, with_a_drawing_optimizer, with_random_weights), strict=True):
        assert_alike([*found])


class Parting(Plugin):
    """Changes the model on one process alone."""

    def start(self, classifier: Any, optimizer: torch.optim.Optimizer) -> None:
        self.module = classifier.module

    @torch.no_grad()
    def after_step(self) -> None:
        next(self.module.parameters()).add_(float(os.environ["RANK"]))


def with_parting_models() -> Any:
    return train(Parting())


def with_another_optimizer_state() -> Any:
    classifier = classifier_for("AT")
    if os.environ["RANK"] == "0":
        classifier.fit(*digits(32), nb_epochs=1, verbose=False)
        classifier.model.load_state_dict(classifier_for("AT").model.state_dict())
    trainer = AdversarialTrainerGAIRAT(classifier, burn_in=0, **CASES["AT"](classifier))
    trainer.fit(*digits(32), batch_size=16, nb_epochs=1, verbose=False)


@pytest.mark.parametrize(
    ("case", "text"),
    [
        (with_parting_models, "the model's parameters differ between the 2 processes at the end of epoch 0"),
        (with_another_optimizer_state, "optimizer's state"),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_models_that_part_are_noticed(case: Any, text: str) -> None:
    for found in launch(2, case):
        assert isinstance(found, Failed), found
        assert (found.kind, text in found.message) == ("ValueError", True), found


class AboveTheMean(KappaWeighting):
    """Looks at the whole batch."""

    def log_weights(self, kappa: Tensor, max_iter: int, epoch: int) -> Tensor:
        return (kappa - kappa.mean()).sign()


def above_the_mean() -> Any:
    return train(weighting=AboveTheMean())


def test_a_scheme_of_the_user_s_that_looks_at_the_batch_sees_all_of_it() -> None:
    expected = above_the_mean()
    for found in launch(2, above_the_mean):
        assert not isinstance(found, Failed), found
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-10, err_msg=name)


class LooksAtTheLoss(Plugin):
    """Notes the loss of the whole batch."""

    def __init__(self) -> None:
        self.values: list[float] = []

    @contextmanager
    def around_loss(self, loss: Any) -> Iterator[None]:
        self.values.append(loss().item())
        yield


def losses() -> Any:
    plugin = LooksAtTheLoss()
    train(plugin)
    return plugin.values


def test_the_loss_that_a_plugin_takes_is_that_of_the_whole_batch() -> None:
    expected = losses()
    for found in launch(2, losses):
        assert found == pytest.approx(expected, rel=1e-10)


class LendsAnother(Plugin):
    """Only watches, but lends validation another model."""

    affects_training = False

    def start(self, classifier: Any, optimizer: torch.optim.Optimizer) -> None:
        self.module = classifier.module

    @contextmanager
    def around_validation(self) -> Iterator[None]:
        before = [p.detach().clone() for p in self.module.parameters()]
        try:
            with torch.no_grad():
                for p in self.module.parameters():
                    p.zero_()
            yield
        finally:
            with torch.no_grad():
                for p, value in zip(self.module.parameters(), before, strict=True):
                    p.copy_(value)


def validated_by_another() -> Any:
    classifier = classifier_for("AT")
    trainer = AdversarialTrainerGAIRAT(classifier, burn_in=0, plugins=[LendsAnother()], **CASES["AT"](classifier))
    x, y = digits(80)
    trainer.fit(x[:50], y[:50], (x[50:], y[50:]), batch_size=16, nb_epochs=2, seed=3, verbose=False)
    return [record["clean_accuracy"] for record in trainer.history]


def test_a_plugin_that_lends_validation_a_model_lends_it_to_each_process() -> None:
    expected = validated_by_another()
    assert launch(2, validated_by_another) == [expected, expected]


class NaNBuffer(nn.Module):
    """A buffer becomes NaN on one process, in one step; the logits stay finite."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        self.seen: Tensor
        self.register_buffer("seen", torch.zeros(()))
        self.steps = 0

    def forward(self, x: Tensor) -> Tensor:
        self.steps += self.training
        bad = self.training and self.steps == 2 and os.environ["RANK"] == "1"
        self.seen.fill_(torch.nan if bad else 0.0)
        out: Tensor = self.layers(x)
        return out


def nan_buffer() -> Any:
    torch.manual_seed(0)
    classifier = classifier_of(NaNBuffer(), (1, 8, 8))
    attack = GeometryAwarePGD(classifier, **SETTINGS)
    trainer = AdversarialTrainerGAIRAT(classifier, attack, burn_in=0)
    trainer.fit(*digits(48), batch_size=16, nb_epochs=1, seed=3, non_finite="skip", verbose=False)
    return classifier.model.state_dict(), trainer.history[0]["skipped_batches"]


def test_a_buffer_that_is_not_finite_on_one_process_skips_the_step_on_all() -> None:
    found = launch(2, nan_buffer)
    assert all(not isinstance(f, Failed) and f[1] == 1 for f in found), found
    assert_alike([state for state, _ in found])


def with_own_orders(folder: str, leave_after: int, resume: bool) -> Any:
    """Each process shuffles its shard by a generator of its own."""
    rank = int(os.environ["RANK"])
    x, y = digits(48)
    shard = TensorDataset(torch.from_numpy(x[rank::2]), torch.from_numpy(y[rank::2]))
    loader = DataLoader(shard, 8, shuffle=True, generator=torch.Generator().manual_seed(100 + rank))
    classifier = classifier_for("AT")
    plugins = [Checkpoint(folder, every_batches=1), Leaves(leave_after)]
    trainer = AdversarialTrainerGAIRAT(classifier, burn_in=0, plugins=plugins, **CASES["AT"](classifier))
    trainer.fit_generator(loader, nb_epochs=3, seed=3, sharded=True, resume=resume, verbose=False)
    return classifier.model.state_dict()


@pytest.mark.slow
@pytest.mark.parametrize("steps", [3, 4], ids=["between epochs", "within an epoch"])
def test_each_process_goes_on_with_its_own_order(steps: int, tmp_path: Any) -> None:
    expected = launch(2, with_own_orders, str(tmp_path / "whole"), 1000, False)
    launch(2, with_own_orders, str(tmp_path / "saves"), steps, False)
    found = launch(2, with_own_orders, str(tmp_path / "saves"), 1000, True)
    assert_alike([*expected, *found])


def uneven_batch_sizes() -> Any:
    """One process has single samples, the other one batch of four."""
    classifier = classifier_for("AT")
    attack = GeometryAwarePGD(classifier, norm=2, eps=0.5, eps_step=0.1, max_iter=2)
    trainer = AdversarialTrainerGAIRAT(classifier, attack, burn_in=0)
    size = 1 if os.environ["RANK"] == "0" else 4
    trainer.fit_generator(DataLoader(Sharded(8), size), nb_epochs=1, sharded=True, seed=0, verbose=False)
    return sum(trainer.history[0]["kappa_histogram"])


def test_batches_of_other_sizes_on_each_process() -> None:
    assert launch(2, uneven_batch_sizes) == [8, 8]


class OneOfTwo(nn.Module):
    """Uses one of two layers, drawn anew in each pass: another on each process."""

    def __init__(self) -> None:
        super().__init__()
        deep = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
        self.flat, self.layers = nn.Flatten(), nn.ModuleList([nn.Linear(64, 10), deep])

    def forward(self, x: Tensor) -> Tensor:
        chosen = int(torch.rand(()) < 0.5) if self.training else 0
        out: Tensor = self.layers[chosen](self.flat(x))
        return out


def with_drawn_layers() -> Any:
    torch.manual_seed(0)
    classifier = classifier_of(OneOfTwo(), (1, 8, 8))
    attack = GeometryAwarePGD(classifier, **SETTINGS)
    trainer = AdversarialTrainerGAIRAT(classifier, attack, burn_in=0, plugins=[AWP(0.01)])
    trainer.fit(*digits(48), batch_size=16, nb_epochs=3, seed=3, verbose=False)
    return classifier.model.state_dict()


def test_awp_on_a_model_that_uses_other_layers_on_each_process() -> None:
    assert_alike(launch(2, with_drawn_layers))


def few_samples() -> Any:
    """Fewer samples to validate, and to attack, than processes."""
    classifier = classifier_for("AT", in_double=False)
    trainer = AdversarialTrainerGAIRAT(classifier, burn_in=0, **CASES["AT"](classifier))
    x, y = digits(50)
    trainer.fit(x, y, (x[:2], y[:2]), batch_size=16, nb_epochs=30, seed=3, verbose=False)
    report = evaluate_robustness(classifier, x[:2], y[:2], eps=0.01, verbose=False)
    return [record["robust_accuracy"] for record in trainer.history], report.clean_accuracy, report.worst_case


@pytest.mark.slow
def test_fewer_samples_than_processes() -> None:
    expected = few_samples()
    assert launch(3, few_samples) == [expected] * 3
