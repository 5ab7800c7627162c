"""Exponential moving average of the model."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from art_gair.checks import require_number
from art_gair.engine.classifier import TensorClassifier
from art_gair.engine.model_state import State, alike, by_type, copied, copy_all, live_state, moved_to, put_back
from art_gair.plugins.base import Candidates, Plugin

logger = logging.getLogger(__name__)

SHORT = (torch.float16, torch.bfloat16)
"""Types in which an average may stand still."""

VALIDATED = {"ema": ("ema",), "raw": ("raw",), "both": ("raw", "ema")}


class EMA(Plugin):
    """Keeps an average of weights and buffers, ema = d * ema + (1 - d) * now after each step.

    Floating-point buffers such as BatchNorm's statistics are averaged, whole numbers and masks of -inf copied. The
    average starts at the model as `fit` finds it; that of a buffer which the model adds or resizes later starts there.
    A training that stops with an error leaves the raw model.

    :param decay: 0..1, below 1; 0 is the raw model, 0.995 to 0.999 is usual.
    :param warmup: whether d = min(decay, (1 + t) / (10 + t)) after t steps, so that a short training is not averaged
        with its untrained beginning; without, d = decay.
    :param validate: which model validation looks at: "ema", "raw", or "both", where the epoch is judged by the better.
    :param final: "ema" or "raw": which model the classifier holds after `fit`; `fit(keep_best=True)` overrules it.
    :raises TypeError, ValueError: if decay is no number in 0..1, warmup no bool, or a choice another word.
    """

    def __init__(self, decay: float = 0.995, *, warmup: bool = True, validate: str = "ema", final: str = "ema") -> None:
        self.decay = require_number(decay, "decay", at_least=0.0, below=1.0)
        if not isinstance(warmup, bool):
            raise TypeError(f"warmup is {warmup!r}; expected True or False.")
        for choice, name, allowed in ((validate, "validate", VALIDATED), (final, "final", ("ema", "raw"))):
            if not isinstance(choice, str) or choice not in allowed:
                raise ValueError(f"{name} is {choice!r}; expected one of {', '.join(map(repr, allowed))}.")
        self.warmup, self.validate, self.final = warmup, validate, final
        self.steps = 0
        self.average: State = {}
        self.averaged: set[str] = set()

    def start(self, classifier: TensorClassifier, optimizer: torch.optim.Optimizer) -> None:
        """Begin the average at the model as it is."""
        self.module = classifier.module
        self.steps = 0
        self.average, self.averaged = {}, set()
        self._begin(live_state(self.module))
        short = {str(t.dtype) for t in self.average.values() if t is not None and t.dtype in SHORT}
        if short:
            logger.warning("EMA averages in %s; steps below its rounding are lost.", ", ".join(sorted(short)))

    def _begin(self, state: State) -> None:
        """Begin the average of these tensors where they are now."""
        self.average.update(copied(state))
        kinds = {name: t for name, t in state.items() if t is not None and (t.is_floating_point() or t.is_complex())}
        self.averaged = (self.averaged - state.keys()) | {name for name, t in kinds.items() if torch.isfinite(t).all()}

    def decay_now(self) -> float:
        """Return d of the next step."""
        return min(self.decay, (1 + self.steps) / (10 + self.steps)) if self.warmup else self.decay

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the average towards the model."""
        live = live_state(self.module)
        new = {name: t for name, t in live.items() if not alike(t, self.average.get(name))}
        names = [name for name, t in live.items() if t is not None and name not in new]
        moved = [name for name in names if name in self.averaged]
        for averages, values in by_type([self.average[name] for name in moved], [live[name] for name in moved]):
            torch._foreach_lerp_(averages, values, 1.0 - self.decay_now())
        others = [name for name in names if name not in self.averaged]
        copy_all([self.average[name] for name in others], [live[name] for name in others])
        self._begin(new)
        self.average = {name: self.average[name] for name in live}
        self.steps += 1

    def candidates(self) -> Candidates:
        """Return the models that `validate` chooses."""
        return [(name, self.lent() if name == "ema" else nullcontext()) for name in VALIDATED[self.validate]]

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Lend the average to the model."""
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

    def state_dict(self) -> dict[str, Any]:
        """Return the average and the number of steps."""
        return {"average": self.average, "averaged": self.averaged, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with an average."""
        self.average = moved_to(self.module, state["average"])
        self.averaged, self.steps = state["averaged"], state["steps"]

    def __repr__(self) -> str:
        settings = f"decay={self.decay}, warmup={self.warmup}, validate={self.validate!r}, final={self.final!r}"
        return f"EMA({settings})"
