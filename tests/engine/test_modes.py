"""Modes that a forward switches by itself: gradients, autocast. A trace would forget them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_gair.engine import FastClassifier, FoldedModule
from art_gair.engine.compare import Comparison
from art_gair.engine.form import Form
from art_gair.engine.view import ModelItself, View
from tests.models import classifier_of


class Gated(nn.Module):
    """A classifier whose gate is a constant to gradients, or computed in float32 whatever the rest is in."""

    def __init__(self, mode: Callable[[], Any]) -> None:
        super().__init__()
        self.mode, self.gate, self.first, self.last = mode, nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        with self.mode():
            gate = torch.sigmoid(3 * self.gate(x.float()))
        out: Tensor = self.last(torch.tanh(self.first(x)) * gate)
        return out


def in_float32() -> Any:
    return torch.autocast("cpu", enabled=False)


def chosen(mode: Callable[[], Any], precision: str = "fp32") -> Any:
    torch.manual_seed(0)
    fast = FastClassifier(classifier_of(Gated(mode), (6,), 3), precision=precision)
    x = torch.rand(12, 6)
    with fast.attacked(x) as logits_of:
        z = x.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(logits_of(z)[:, 0].sum(), z)
    if precision == "fp32":
        (expected,) = torch.autograd.grad(fast.logits(z)[:, 0].sum(), z)
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)
    assert fast.view is not None
    return fast.view.stand_in


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_part_without_gradients_has_none_in_the_trace(precision: str, caplog: pytest.LogCaptureFixture) -> None:
    assert isinstance(chosen(torch.no_grad, precision), FoldedModule)
    assert caplog.text == ""


def test_neither_the_model_nor_a_trace_can_do_with_inference_mode() -> None:
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
        chosen(torch.inference_mode)


class NoGradients(nn.Module):
    """Does without gradients what has none, and what a trace must leave without."""

    places: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(6, 3)
        self.register_buffer("places", torch.linspace(0, 1, 12))

    @torch.no_grad()
    def place(self, n: int) -> Tensor:
        return self.places[:n] * 2

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            n = x.shape[1]
            low, high = torch.aminmax(x, dim=1, keepdim=True)
            first, second = x.chunk(2, dim=1)
            mask = (first > second).float()
        scaled = (x - low) / (high - low + 1.0)
        out: Tensor = self.last(scaled * (1.0 + mask.repeat(1, 2)) + self.place(n))
        return out


class InPlace(NoGradients):
    """Changes a tensor where gradients do not see it."""

    def forward(self, x: Tensor) -> Tensor:
        h = 2 * x
        with torch.no_grad():
            h.clamp_(0.3, 0.5)
        out: Tensor = self.last(h)
        return out


class InPlaceModule(NoGradients):
    """Does so by a module, which does nothing where nothing passes its bounds."""

    def __init__(self) -> None:
        super().__init__()
        self.limit = nn.Hardtanh(-9.0, 9.0, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        h = 2 * x
        with torch.no_grad():
            self.limit(h)
        out: Tensor = self.last(h)
        return out


class InPlaceFunction(NoGradients):
    """Does so by a function that is told to."""

    def forward(self, x: Tensor) -> Tensor:
        h = 2 * x
        with torch.no_grad():
            nn.functional.relu(h, True)
        out: Tensor = self.last(h)
        return out


class UnderscoredName(NoGradients):
    """Has a submodule whose name ends as those of operations in place do."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_ = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            gate = self.gate_(x)
        out: Tensor = self.last(x * gate)
        return out


KINDS = [
    (NoGradients, FoldedModule),
    (InPlace, ModelItself),
    (InPlaceModule, ModelItself),
    (InPlaceFunction, ModelItself),
    (UnderscoredName, FoldedModule),
]


@pytest.mark.parametrize(("model", "kind"), KINDS)
def test_gradients_are_those_of_a_model_that_has_none_in_places(model: type[nn.Module], kind: type) -> None:
    torch.manual_seed(0)
    fast = FastClassifier(classifier_of(model(), (6,), 3))
    x = torch.rand(12, 6)
    found = []
    for _ in range(2):
        with fast.attacked(x) as logits_of:
            assert isinstance(fast.view.stand_in, kind)  # type: ignore[union-attr]
            for run in (logits_of, fast.logits):
                z = x.clone().requires_grad_(True)
                (gradient,) = torch.autograd.grad(run(z)[:, 0].sum(), z)
                found.append(gradient)
    for gradient in found:
        torch.testing.assert_close(gradient, found[0])


class OfConstants(nn.Module):
    """Multiplies constants that it makes anew."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        grid = torch.linspace(0, 1, 6)[:, None] @ torch.linspace(1, 2, 6)[None]
        out: Tensor = self.last(x @ grid)
        return out


def test_constants_are_traced_in_float32() -> None:
    torch.manual_seed(0)
    fast = FastClassifier(classifier_of(OfConstants(), (6,), 3), precision="bf16")
    with fast.attacked(torch.rand(8, 6)):
        assert isinstance(fast.view.stand_in, FoldedModule)  # type: ignore[union-attr]


def test_a_part_that_leaves_autocast_is_traced_where_there_is_none() -> None:
    assert isinstance(chosen(in_float32), FoldedModule)
    assert isinstance(chosen(in_float32, "bf16"), ModelItself)
    assert isinstance(chosen(torch.enable_grad, "bf16"), FoldedModule)


class Wrong:
    """Stands in for a model, with the values of another one in bfloat16."""

    def __init__(self, source: nn.Module, module: nn.Module) -> None:
        self.source, self.module, self.own, self.wrong = source, source, source, module

    def run_as(self, form: Form) -> None:
        self.module = self.wrong if form.dtype == torch.bfloat16 else self.own


def objection(module: nn.Module, wrong: nn.Module, form: Form) -> str | None:
    classifier = FastClassifier(classifier_of(module.eval(), (6,), 3))
    comparison, probe = Comparison(classifier), torch.rand(4, 6, generator=torch.Generator().manual_seed(0))
    stand_in: Any = Wrong(module, wrong)
    view = replace(View.unfolded(module, form), stand_in=stand_in)
    with comparison.traceless():
        return comparison.objection(view, probe, comparison.expected(probe))


def test_in_bfloat16_a_view_may_be_off_as_far_as_the_model_is() -> None:
    torch.manual_seed(0)
    model = Gated(torch.enable_grad)
    assert objection(model, model, Form(dtype=torch.bfloat16)) is None
    found = objection(model, Gated(torch.enable_grad), Form(dtype=torch.bfloat16))
    assert found is not None
    assert "the model's own by" in found


class Detached(nn.Module):
    """Takes one class's logit from a model without its gradient."""

    def __init__(self, model: nn.Module, label: int) -> None:
        super().__init__()
        self.model, self.label = model, label

    def forward(self, x: Tensor) -> Tensor:
        logits = self.model(x)
        here = torch.arange(3) == self.label
        return torch.where(here, logits.detach(), logits)


@pytest.mark.parametrize("label", range(3))
def test_the_gradient_of_each_class_is_looked_at(label: int) -> None:
    torch.manual_seed(0)
    model = Gated(torch.enable_grad)
    classifier = FastClassifier(classifier_of(model.eval(), (6,), 3))
    comparison, probe = Comparison(classifier), torch.rand(4, 6)
    stand_in: Any = Wrong(model, model)
    stand_in.own = Detached(model, label)
    found = comparison.objection(replace(View.unfolded(model), stand_in=stand_in), probe, comparison.expected(probe))
    assert found is not None
    assert "gradients by" in found
