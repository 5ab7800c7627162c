"""A view follows its model, whatever changes in it; where it cannot, the model runs unchanged and the log says so."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from art_gair import GeometryAwarePGD
from art_gair.engine import FastClassifier, FoldedModule, compare
from art_gair.engine.classifier import TensorClassifier
from art_gair.engine.compare import PROBE, Comparison
from art_gair.engine.record import RECHECK_EVERY, TRACES
from art_gair.engine.view import ModelItself, View
from tests.engine.zoo import CLASSES, SHAPE, ZOO, BufferNorm, ListedOffsets, Prototypes
from tests.models import classifier_of

N = 8


def classifiers(model: nn.Module) -> tuple[FastClassifier, TensorClassifier]:
    estimator = classifier_of(model, SHAPE, CLASSES)
    return FastClassifier(estimator), TensorClassifier(estimator)


def batch(seed: int = 0) -> Tensor:
    return torch.rand(N, *SHAPE, generator=torch.Generator().manual_seed(seed))


def logits(classifier: TensorClassifier, x: Tensor) -> Tensor:
    with classifier.attacked(x) as logits_of, torch.no_grad():
        return logits_of(x)


def stand_in_for(classifier: FastClassifier, x: Tensor) -> type:
    logits(classifier, x)
    return stand_in(classifier)


def stand_in(classifier: FastClassifier) -> type:
    assert classifier.view is not None
    return type(classifier.view.stand_in)


CHANGES: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "a buffer, in place": (BufferNorm, lambda m: m.running_mean.add_(1)),
    "a buffer, renewed": (BufferNorm, lambda m: setattr(m, "running_mean", torch.rand(4))),
    "prototypes": (lambda: Prototypes(True), lambda m: m.prototypes.normal_()),
    "a plain tensor, in place": (lambda: Prototypes(False), lambda m: m.prototypes.normal_()),
    "a plain tensor, renewed": (lambda: Prototypes(False), lambda m: setattr(m, "prototypes", torch.randn(CLASSES, 7))),
    "a tensor in a list": (lambda: ListedOffsets(True), lambda m: m.offsets[0].add_(1)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_tensors_are_followed_batch_by_batch(name: str, caplog: pytest.LogCaptureFixture) -> None:
    build, change = CHANGES[name]
    fast, plain = classifiers(build())
    for _ in range(4):
        torch.testing.assert_close(logits(fast, batch()), logits(plain, batch()))
        change(fast.module)
    assert "stale" not in caplog.text
    assert (stand_in(fast) is FoldedModule) == (name != "a tensor in a list")


def model_at_a_kink(x: Tensor) -> nn.Sequential:
    """A unit's input is zero but for rounding on the first sample, and folded it is zero with the other sign."""
    for seed in range(100):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(SHAPE), 8), nn.BatchNorm1d(8), nn.ReLU())
        model = model.append(nn.Linear(8, CLASSES)).eval()
        norm: Any = model[2]
        norm.running_mean.normal_()
        with torch.no_grad():
            norm.bias[0] -= model[:3](x)[0, 0]
            folded = FoldedModule(model[:3], x)
            if bool(((folded.module(x)[0] > 0) != (model[:3](x)[0] > 0)).any()):
                return model
    raise AssertionError("rounding turned no sign.")


@pytest.mark.parametrize(
    "x",
    [batch(), batch()[:1], batch()[:1].repeat(N, 1, 1, 1), 1e-3 * batch()],
    ids=["eight", "one", "the same", "faint"],
)
def test_a_unit_within_rounding_of_a_kink_does_not_turn_the_fast_path_off(
    x: Tensor, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen in trainings of an hour, once in thirty: its gradient was 2 % off, at weights where nothing was wrong."""
    model = model_at_a_kink(x)
    fast, plain = classifiers(model)
    torch.testing.assert_close(logits(fast, x), logits(plain, x))
    assert stand_in(fast) is FoldedModule
    assert caplog.text == ""
    monkeypatch.setattr(compare, "NUDGES", 0)
    other, _ = classifiers(model)
    logits(other, x)
    assert "gradients by" in caplog.text  # the samples themselves do lie at the kink


class StraightThrough(nn.Module):
    """Keeps inputs off their bounds, with their gradient, which a copy that does not detach the shift has not."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.detaches = ZOO["grouped"][0](), True

    def forward(self, x: Tensor) -> Tensor:
        shift = x.clamp(1e-3, 1 - 1e-3) - x
        shift = shift.detach() if self.detaches else shift
        inner = x + shift
        out: Tensor = self.body(torch.log(inner / (1 - inner)))
        return out


class RoundedRoots(nn.Module):
    """Adds what has no gradient; in a copy that does not detach it that is 0 times infinity where an input is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.detaches = ZOO["grouped"][0](), True

    def forward(self, x: Tensor) -> Tensor:
        levels = torch.round(4 * torch.sqrt(x)) / 4
        levels = levels.detach() if self.detaches else levels
        out: Tensor = self.body(x + levels)
        return out


@pytest.mark.parametrize(("build", "bound"), [(StraightThrough, 1.0), (RoundedRoots, 0.0)])
def test_a_gradient_that_is_wrong_at_the_bounds_alone_is_told_from_a_kink(
    build: Callable[[], Any], bound: float
) -> None:
    """A pixel lies there that none of the other samples has there, so that a mixture of samples has none."""
    fast, _ = classifiers(build())
    x = 0.1 + 0.8 * batch()
    for i, image in enumerate(x):
        image.view(-1)[i :: 2 * N] = bound
    wrong: Any = copy.deepcopy(fast.module)
    wrong.detaches = False
    comparison = Comparison(fast)
    with comparison.traceless(), fast.evaluating():
        expected = comparison.expected(x[:PROBE])
        assert comparison.objection(View.unfolded(fast.module), x[:PROBE], expected) is None
        assert "gradients by" in str(comparison.objection(View.unfolded(wrong.eval()), x[:PROBE], expected))


class Halved(torch.autograd.Function):
    """The identity, with half of its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient / 2


class Switched(nn.Module):
    """Its gradient, and nothing else, changes with an attribute of a class, which is not watched."""

    halves = False

    def __init__(self) -> None:
        super().__init__()
        self.body = ZOO["grouped"][0]()

    def forward(self, x: Tensor) -> Tensor:
        x = Halved.apply(x) if type(self).halves else x  # type: ignore[no-untyped-call]
        out: Tensor = self.body(x)
        return out


def test_a_gradient_that_is_wrong_everywhere_is_told_from_a_kink(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast, _ = classifiers(Switched())
    logits(fast, batch())
    assert stand_in(fast) is FoldedModule
    monkeypatch.setattr(Switched, "halves", True)
    fast.begin_epoch()
    logits(fast, batch())
    assert stand_in(fast) is ModelItself
    assert "gradients by 1 of their size" in caplog.text


class TwoScales(nn.Module):
    """A column of up to a million beside a flag, whose threshold is not watched."""

    threshold = 0.5

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 3)
        with torch.no_grad():
            self.linear.weight.copy_(torch.tensor([[1e-6, 0.0], [0.0, 1e-4], [1e-6, 1e-4]]))

    def forward(self, x: Tensor) -> Tensor:
        above = torch.relu(x[:, 1:] - type(self).threshold)
        out: Tensor = self.linear(torch.cat([x[:, :1], above], dim=1))
        return out


def test_a_gradient_elsewhere_is_no_kink_where_columns_differ_in_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nudges by the largest value would take the flag past the threshold."""
    estimator = classifier_of(TwoScales(), (2,), 3, clip_values=(0.0, 1e6))
    x = torch.tensor([[1e6, 0.9], [8e5, 0.8], [6e5, 0.7], [4e5, 0.6]])
    fast = FastClassifier(estimator)
    assert stand_in_for(fast, x) is FoldedModule
    monkeypatch.setattr(TwoScales, "threshold", 2.0)
    fast.begin_epoch()
    assert stand_in_for(fast, x) is ModelItself


class Annealed(nn.Module):
    """Logits over a temperature, which the attribute of this name holds in one form or another."""

    def __init__(self, temperature: Any) -> None:
        super().__init__()
        self.body, self.temperature = ZOO["grouped"][0](), temperature

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x) / self.value()
        return out

    def value(self) -> float:
        held = self.temperature
        return float(held if isinstance(held, float) else held["now"] if isinstance(held, dict) else held[0])

    def anneal(self) -> None:
        if isinstance(self.temperature, float):
            self.temperature *= 1.5
        else:
            self.temperature["now" if isinstance(self.temperature, dict) else 0] *= 1.5


@pytest.mark.parametrize("temperature", [1.0, [1.0], {"now": 1.0}, np.ones(1)], ids=["float", "list", "dict", "array"])
def test_an_attribute_annealed_each_step_is_never_stale(temperature: Any, caplog: pytest.LogCaptureFixture) -> None:
    """It is traced anew a few times, then the model runs unchanged."""
    model = Annealed(temperature)
    fast, plain = classifiers(model)
    for step in range(TRACES + 3):
        torch.testing.assert_close(logits(fast, batch(step)), logits(plain, batch(step)))
        assert stand_in(fast) is (FoldedModule if step <= TRACES else ModelItself)
        model.anneal()
    assert len(caplog.records) == 1
    assert "its attributes change every few batches" in caplog.text
    assert "stale" not in caplog.text


def test_an_attribute_annealed_now_and_then_keeps_the_fast_path(caplog: pytest.LogCaptureFixture) -> None:
    model = Annealed(1.0)
    fast, plain = classifiers(model)
    for _ in range(TRACES + 3):
        for step in range(RECHECK_EVERY):
            torch.testing.assert_close(logits(fast, batch(step)), logits(plain, batch(step)))
        model.anneal()
    assert stand_in(fast) is FoldedModule
    assert not caplog.records


def test_a_counter_beside_the_forward_keeps_the_fast_path() -> None:
    model: Any = ZOO["grouped"][0]()
    fast, _ = classifiers(model)
    views = set()
    for step in range(TRACES + 3):
        model.step = step
        logits(fast, batch())
        views.add(id(fast.view))
    assert stand_in(fast) is FoldedModule
    assert len(views) == 1


def test_an_activation_that_is_replaced_is_seen_at_once() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, CLASSES))
    fast, plain = classifiers(model)
    before = logits(fast, batch())
    model[2] = nn.Tanh()
    torch.testing.assert_close(logits(fast, batch()), logits(plain, batch()))
    assert not torch.allclose(logits(fast, batch()), before)
    assert stand_in(fast) is FoldedModule


hidden = {"temperature": 1.0}


class ReadsAGlobal(nn.Module):
    """Divides by a global variable."""

    def __init__(self) -> None:
        super().__init__()
        self.body = ZOO["grouped"][0]()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x) / hidden["temperature"]
        return out


class ReadsAFile(ReadsAGlobal):
    """Divides by a number in a file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x) / float(self.path.read_text())
        return out


@pytest.mark.parametrize("source", ["global", "file"])
def test_what_no_attribute_shows_is_caught_and_reported(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "temperature"
    path.write_text("1.0")
    fast, plain = classifiers(ReadsAGlobal() if source == "global" else ReadsAFile(path))
    logits(fast, batch())
    monkeypatch.setitem(hidden, "temperature", 2.0)
    path.write_text("2.0")
    stale = 1
    while stand_in(fast) is FoldedModule:
        same = torch.allclose(logits(fast, batch()), logits(plain, batch()))
        stale += not same
    assert same
    assert stale == RECHECK_EVERY
    assert len(caplog.records) == 1
    assert f"Up to {RECHECK_EVERY} batches since the last comparison were attacked on a stale copy" in caplog.text
    fast.begin_epoch()
    monkeypatch.setitem(hidden, "temperature", 3.0)
    path.write_text("3.0")
    torch.testing.assert_close(logits(fast, batch()), logits(plain, batch()))


def test_the_last_batches_of_an_epoch_are_checked_too(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fast, _ = classifiers(ReadsAGlobal())
    logits(fast, batch())
    fast.end_epoch()
    assert not caplog.records
    logits(fast, batch())
    monkeypatch.setitem(hidden, "temperature", 2.0)
    logits(fast, batch())
    fast.end_epoch()
    assert "Up to 2 batches since" in caplog.text
    assert stand_in(fast) is ModelItself


generator = np.random.default_rng(0)


class Ensemble(nn.Module):
    """Draws its member from a generator of NumPy that is no attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.members = nn.ModuleList(nn.Sequential(nn.Flatten(), nn.Linear(192, CLASSES)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.members[int(generator.integers(3))](x)
        return out


def test_an_ensemble_that_draws_its_member_is_not_traced(caplog: pytest.LogCaptureFixture) -> None:
    fast, _ = classifiers(Ensemble())
    answers = [logits(fast, batch()) for _ in range(30)]
    assert stand_in(fast) is ModelItself
    assert len({float(a[0, 0]) for a in answers}) == 3
    assert "its logits on the same samples differ from run to run. Your model runs unchanged." in caplog.text


class Writes(nn.Module):
    """Writes a buffer of its own in every mode."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(192, CLASSES)
        self.register_buffer("mean", torch.zeros(192))

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        self.mean.lerp_(x.detach().mean(dim=0), 0.1)
        out: Tensor = self.head(x - self.mean)
        return out


def test_a_forward_that_writes_its_buffers_writes_them_under_attack() -> None:
    fast, _ = classifiers(Writes())
    logits(fast, batch())
    assert stand_in(fast) is ModelItself
    torch.testing.assert_close(fast.module.mean, 0.1 * batch().flatten(1).mean(dim=0))


def test_a_buffer_that_is_resized_at_each_forward_costs_nothing_but_speed() -> None:
    fast, plain = classifiers(ZOO["lazy cache"][0]())
    for n in (8, 3, 5):
        torch.testing.assert_close(logits(fast, batch()[:n]), logits(plain, batch()[:n]))
        assert fast.module.get_buffer("last").shape == (n,)


def test_a_comparison_leaves_attributes_and_buffers_as_they_were() -> None:
    model: Any = ZOO["lazy cache"][0]()
    model.runs = 3
    fast, _ = classifiers(model)
    with fast.attacked(batch()):
        pass
    assert model.mask is None
    assert torch.equal(model.last, torch.zeros(1))


def test_a_nested_attack_holds_the_view_for_both() -> None:
    fast, plain = classifiers(ZOO["grouped"][0]())
    with fast.attacked(batch()) as outer:
        for _ in range(RECHECK_EVERY + 1):
            logits(fast, batch())
        torch.testing.assert_close(outer(batch()), logits(plain, batch()), rtol=1e-4, atol=1e-5)
    assert fast.users == 0


def test_a_long_attack_is_checked_on_its_way(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """`generate` enters the view anew for each batch."""
    model = ReadsAGlobal()
    forward = FoldedModule.refresh
    runs = []

    def moving(self: FoldedModule) -> None:
        runs.append(self)
        hidden["temperature"] = 1.0 if len(runs) < 10 else 2.0
        forward(self)

    monkeypatch.setattr(FoldedModule, "refresh", moving)
    monkeypatch.setitem(hidden, "temperature", 1.0)
    x = batch().numpy().repeat(4, axis=0)
    attack = GeometryAwarePGD(classifier_of(model, SHAPE, CLASSES), max_iter=1, batch_size=1)
    with caplog.at_level(logging.WARNING):
        attack.generate(x)
    assert "stale copy" in caplog.text
