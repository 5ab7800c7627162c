"""Exponential moving average of the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from art_gair.checks import require_number
from art_gair.engine.classifier import TensorClassifier, assign
from art_gair.plugins.base import Plugin


class EMA(Plugin):
    """Keeps an average of weights and buffers, ema = decay * ema + (1 - decay) * now after each step.

    Floating-point buffers such as BatchNorm's statistics are averaged, whole numbers and masks of -inf copied. The
    average starts at the model as `fit` finds it. A training that stops with an error leaves the raw model.

    :param decay: 0..1, below 1; 0 is the raw model, 0.995 to 0.999 is usual.
    :param validate: "ema" or "raw": which model validation looks at.
    :param final: "ema" or "raw": which model the classifier holds after `fit`.
    :raises TypeError, ValueError: if decay is no number in 0..1, or a choice is another word.
    """

    def __init__(self, decay: float = 0.995, *, validate: str = "ema", final: str = "ema") -> None:
        self.decay = require_number(decay, "decay", at_least=0.0, below=1.0)
        for choice, name in ((validate, "validate"), (final, "final")):
            if choice not in ("ema", "raw"):
                raise ValueError(f"{name} is {choice!r}; expected 'ema' or 'raw'.")
        self.validate, self.final = validate, final

    def start(self, classifier: TensorClassifier, optimizer: torch.optim.Optimizer) -> None:
        """Begin the average at the model as it is."""
        self.state = classifier.state
        self.average = [t.clone() for t in self.state()]
        self.averaged = [t.is_floating_point() and bool(torch.isfinite(t).all()) for t in self.average]

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the average towards the model."""
        for average, now, averaged in zip(self.average, self.state(), self.averaged, strict=True):
            if averaged:
                average.lerp_(now, 1.0 - self.decay)
            else:
                average.copy_(now)

    @contextmanager
    def around_validation(self) -> Iterator[None]:
        """Lend the average to the model."""
        if self.validate == "raw":
            yield
            return
        raw = [t.clone() for t in self.state()]
        assign(self.state(), self.average)
        try:
            yield
        finally:
            assign(self.state(), raw)

    def finish(self) -> None:
        """Leave the average in the model, if it was chosen."""
        if self.final == "ema":
            assign(self.state(), self.average)

    def __repr__(self) -> str:
        return f"EMA(decay={self.decay}, validate={self.validate!r}, final={self.final!r})"
