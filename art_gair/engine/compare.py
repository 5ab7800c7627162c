"""A view held against the model: its logits and input gradients on a few samples are the model's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from art_gair import generators
from art_gair.engine.classifier import TensorClassifier
from art_gair.engine.fold import FoldedModule
from art_gair.engine.form import PLAIN, Form
from art_gair.engine.state import assign
from art_gair.engine.view import ModelItself

PROBE = 4
"""Samples that a view is held against the model with."""

LOGITS_TOLERANCE = 1e-4
"""Largest difference of a logit, relative to the largest logit."""

GRADIENT_TOLERANCE = 1e-2
"""Length of the gradient's difference, relative to the gradient's. A mistake is as long as the gradient itself; a
single unit whose input lies within rounding of a kink is this much at most."""

TINY = 1e-30

Answer = tuple[Tensor, Tensor]
"""Logits of a probe and the input gradient of a sum over them."""


@dataclass(frozen=True)
class Comparison:
    """The model's answers on a probe, and what others answer on it. Nothing here leaves a trace in the model."""

    classifier: TensorClassifier

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Put the model's buffers and all generators back on leaving."""
        buffers = [(b, b.detach().clone()) for b in self.classifier.module.buffers()]
        with generators.restored(self.classifier.device):
            try:
                yield
            finally:
                assign([buffer for buffer, _ in buffers], [value for _, value in buffers])

    def answer(self, module: Any, form: Form, probe: Tensor) -> Answer:
        """Logits, and the input gradient of a sum over them that tells the classes apart; the same noise each time."""
        classifier = self.classifier
        generators.seed(classifier.device, 0)
        with torch.enable_grad():
            x = probe.detach().clone().requires_grad_(True)
            logits = classifier.logits_by(module, form, x)
            total = (logits * torch.linspace(-1.0, 1.0, classifier.nb_classes, device=classifier.device)).sum()
            (gradient,) = torch.autograd.grad(total, x)
        return logits.detach(), gradient

    def expected(self, probe: Tensor) -> Answer:
        """Return the model's own answer."""
        return self.answer(self.classifier.module, PLAIN, probe)

    def objection(
        self, stand_in: FoldedModule | ModelItself, form: Form, probe: Tensor, expected: Answer
    ) -> str | None:
        """Say what speaks against a view, or None; it is held against the model in float32, and left in its form."""
        exact, (expected_logits, expected_gradient) = replace(form, dtype=torch.float32), expected
        try:
            stand_in.run_as(exact)
            logits, gradient = self.answer(stand_in.module, exact, probe)
            stand_in.run_as(form)
            finite = torch.isfinite(self.answer(stand_in.module, form, probe)[0]).all()
        except Exception as error:
            return f"in {form} it fails: {first_line(error)}"
        logits_off = distance(logits, expected_logits)
        gradient_off = (gradient - expected_gradient).norm() / expected_gradient.norm().clamp(min=TINY)
        if logits_off <= LOGITS_TOLERANCE and gradient_off <= GRADIENT_TOLERANCE and finite:
            return None
        return f"in {form} logits differ by {logits_off:.1g} and gradients by {gradient_off:.1g} of their size"


def distance(values: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return float((values - expected).abs().max() / expected.abs().max().clamp(min=TINY))


def first_line(error: Exception) -> str:
    """Name an error by its type and the first line of its message."""
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
