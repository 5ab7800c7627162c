"""Exponential moving average of the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from art_gair.checks import require_number
from art_gair.engine.classifier import TensorClassifier
from art_gair.engine.model_state import State, alike, by_type, copied, copy_all, live_state, put_back
from art_gair.plugins.base import Plugin


class EMA(Plugin):
    """Keeps an average of weights and buffers, ema = decay * ema + (1 - decay) * now after each step.

    Floating-point buffers such as BatchNorm's statistics are averaged, whole numbers and masks of -inf copied. The
    average starts at the model as `fit` finds it; that of a buffer which the model adds or resizes later starts there.
    A training that stops with an error leaves the raw model.

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
        self.module = classifier.module
        self.average: State = {}
        self.averaged: set[str] = set()
        self._begin(live_state(self.module))

    def _begin(self, state: State) -> None:
        """Begin the average of these tensors where they are now."""
        self.average.update(copied(state))
        floating = {n for n, t in state.items() if t is not None and t.is_floating_point() and torch.isfinite(t).all()}
        self.averaged = (self.averaged - state.keys()) | floating

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the average towards the model."""
        live = live_state(self.module)
        new = {name: t for name, t in live.items() if not alike(t, self.average.get(name))}
        names = [name for name, t in live.items() if t is not None and name not in new]
        moved = [name for name in names if name in self.averaged]
        for averages, values in by_type([self.average[name] for name in moved], [live[name] for name in moved]):
            torch._foreach_lerp_(averages, values, 1.0 - self.decay)
        others = [name for name in names if name not in self.averaged]
        copy_all([self.average[name] for name in others], [live[name] for name in others])
        self._begin(new)
        self.average = {name: self.average[name] for name in live}

    @contextmanager
    def around_validation(self) -> Iterator[None]:
        """Lend the average to the model."""
        if self.validate == "raw":
            yield
            return
        raw = copied(live_state(self.module))
        try:
            put_back(self.module, self.average)
            yield
        finally:
            put_back(self.module, raw)

    def finish(self) -> None:
        """Leave the average in the model, if it was chosen."""
        if self.final == "ema":
            put_back(self.module, self.average)

    def __repr__(self) -> str:
        return f"EMA(decay={self.decay}, validate={self.validate!r}, final={self.final!r})"
