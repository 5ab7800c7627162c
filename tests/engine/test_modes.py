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


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode], ids=lambda mode: mode.__name__)
def test_a_part_without_gradients_is_not_traced(mode: Any, caplog: pytest.LogCaptureFixture) -> None:
    if mode is torch.inference_mode:
        with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
            chosen(mode)  # nor can the model itself be attacked
        return
    assert isinstance(chosen(mode), ModelItself)
    assert "switches gradients or autocast off or on" in caplog.text


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
