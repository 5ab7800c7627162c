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
from art_gair.engine.form import PLAIN, Form
from art_gair.engine.precision import exact_float32
from art_gair.engine.trial import leaving_no_trace
from art_gair.engine.view import View

PROBE = 4
"""Samples that a view is held against the model with."""

LOGITS_TOLERANCE = 1e-4
"""Largest difference of a logit, relative to the largest logit."""

OWN_ERRORS = 4.0
"""How many times as far as the model's own logits those of a view may lie from float32's in a shorter precision."""

SHORT_TOLERANCE = 2e-2
"""What they may lie apart beyond that, relative to the largest logit."""

ROUNDED_AWAY = 0.25
"""Share of what lies between a sample's logits that a short precision may move without a word."""

GRADIENT_TOLERANCE = 1e-2
"""Length of the gradient's difference, relative to the gradient's. A mistake is as long as the gradient itself."""

NUDGES = 8
"""How often samples are nudged by each of ROUNDING where only gradients differ. Units that lie within rounding of a
kink, such as a ReLU's, turn the gradient by some percent. Then the model's own gradient turns as much when its input
moves by little more than rounding, while a mistake stays one."""

ROUNDING = 2.0**-18, 2.0**-15, 2.0**-12
"""How far each value is nudged, relative to itself; the more, the larger a layer's biases are beside the inputs."""

REPEATS = 3
"""Further runs of a model, before it is traced, that show whether it answers the same each time."""

TINY = 1e-30

Answer = tuple[Tensor, Tensor]
"""Logits of a probe and the input gradient of a sum over them."""


class NoAnswerError(Exception):
    """The model cannot be held against: it fails on the probe, or answers differently each time."""


@dataclass(frozen=True)
class Comparison:
    """The model's answers on a probe, and what others answer on it.

    :param classifier: whose model to ask.
    """

    classifier: TensorClassifier

    @contextmanager
    def traceless(self) -> Iterator[None]:
        """Compute in exact float32, whatever TF32 is set to, and leave no trace."""
        with leaving_no_trace(self.classifier.module, self.classifier.device), exact_float32():
            yield

    def expected(self, probe: Tensor, repeats: int = 0) -> Answer:
        """Return the model's answer.

        :param repeats: how often the model is run again.
        :raises NoAnswerError: if it fails on so few samples, or has other logits when it is run again.
        """
        module = self.classifier.module
        try:
            logits, gradient = self.answer(module, PLAIN, probe)
            again = [self.logits(module, PLAIN, probe) for _ in range(repeats)]
        except Exception as error:
            raise NoAnswerError(f"it cannot be run on {len(probe)} samples alone: {first_line(error)}") from error
        if any(not distance(other, logits) <= LOGITS_TOLERANCE for other in again):
            raise NoAnswerError("its logits on the same samples differ from run to run")
        return logits, gradient

    def logits(self, module: Any, form: Form, probe: Tensor) -> Tensor:
        """Logits alone; the same noise each time."""
        generators.seed(self.classifier.device, 0)
        with torch.no_grad():
            return self.classifier.logits_by(module, form, probe)

    def answer(self, module: Any, form: Form, probe: Tensor) -> Answer:
        """Logits, and the input gradient of a sum over them that tells the classes apart; the same noise each time."""
        classifier = self.classifier
        generators.seed(classifier.device, 0)
        with torch.enable_grad():
            x = probe.detach().clone().requires_grad_(True)
            logits = classifier.logits_by(module, form, x)
            by_class = torch.linspace(-1.0, 1.0, 2 * classifier.nb_classes, device=classifier.device)[::2]  # none is 0
            total = (logits * by_class).sum()
            (gradient,) = torch.autograd.grad(total, x)
        return logits.detach(), gradient

    def rounded_away(self, probe: Tensor, expected: Answer, dtype: torch.dtype) -> float:
        """How far a precision moves the model's logits, relative to how far those of a sample lie apart; 0 if it fails.

        What all logits of a sample share tells nothing, and may be large beside what does.
        """
        try:
            short = self.logits(self.classifier.module, Form(dtype=dtype), probe)
        except Exception:
            return 0.0
        return distance(*(logits - logits.mean(dim=1, keepdim=True) for logits in (short, expected[0])))

    def objection(self, view: View, probe: Tensor, expected: Answer) -> str | None:
        """Say what speaks against a view, or None; it is held against the model in float32, and left in its form.

        In a shorter precision its logits may be as far off as the model's own are in it, and somewhat more.
        """
        exact = replace(view.form, dtype=torch.float32)
        try:
            view.stand_in.run_as(exact)
            logits, gradient = self.answer(view.stand_in.module, exact, probe)
            short = None
            if view.form != exact:
                view.stand_in.run_as(view.form)
                own = self.logits(self.classifier.module, Form(dtype=view.form.dtype), probe)
                short = self.logits(view.stand_in.module, view.form, probe)
        except Exception as error:
            return f"in {view.form} it fails: {first_line(error)}"
        logits_off = distance(logits, expected[0])
        gradient_off = gradients_differ(gradient, expected[1], expected[1])
        agrees = logits_off <= LOGITS_TOLERANCE
        if not (agrees and (gradient_off <= GRADIENT_TOLERANCE or self._is_of_a_kink(gradient, probe, expected[1]))):
            return f"in {view.form} logits differ by {logits_off:.1g} and gradients by {gradient_off:.1g} of their size"
        if short is not None:
            off, own_off = distance(short, expected[0]), distance(own, expected[0])
            if not off <= OWN_ERRORS * own_off + SHORT_TOLERANCE:
                return f"in {view.form} logits differ by {off:.1g} of their size, the model's own by {own_off:.1g}"
        return None

    def _is_of_a_kink(self, gradient: Tensor, probe: Tensor, expected: Tensor) -> bool:
        """Whether the model has this gradient within rounding of the probe, each sample for itself."""
        if not gradient[with_gradient(expected)].isfinite().all():
            return False
        chance = torch.Generator().manual_seed(0)
        nearest = expected.clone()
        try:
            for rounding in ROUNDING * NUDGES:
                noise = torch.randn(probe.shape, generator=chance).to(probe) * rounding
                nudged = probe * (1.0 + noise)
                if self.classifier.box is not None:
                    nudged = self.classifier.box.clip(nudged)
                other = self.answer(self.classifier.module, PLAIN, nudged)[1]
                closer = (gradient - other).flatten(1).norm(dim=1) < (gradient - nearest).flatten(1).norm(dim=1)
                nearest[closer] = other[closer]
        except Exception:  # a model may take its own data alone; the view is refused then
            return False
        return gradients_differ(gradient, nearest, expected) <= GRADIENT_TOLERANCE


def gradients_differ(gradient: Tensor, other: Tensor, expected: Tensor) -> float:
    """Length of the difference of two gradients, relative to the expected one, by the samples that have one."""
    rows = with_gradient(expected)
    return float((gradient[rows] - other[rows]).norm() / expected[rows].norm().clamp(min=TINY))


def distance(values: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return float((values - expected).abs().max() / expected.abs().max().clamp(min=TINY))


def with_gradient(gradient: Tensor) -> Tensor:
    """Return the samples whose gradient is finite, bool (n,): by these a view is judged.

    If no sample has a finite gradient, return all samples: their NaN refuses the view.
    """
    finite = gradient.flatten(1).isfinite().all(dim=1)
    return finite if finite.any() else ~finite


def first_line(error: Exception) -> str:
    """Name an error by its type and the first line of its message."""
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
