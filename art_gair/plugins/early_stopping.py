"""An end to a training that no longer improves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from art_gair.checks import require_int, require_number
from art_gair.engine.classifier import TensorClassifier
from art_gair.plugins.base import Plugin, StopTraining

SIGNS = {"robust_accuracy": 1.0, "clean_accuracy": 1.0, "loss": -1.0}
"""What can be monitored, and whether a higher value is better (1) or a lower one (-1)."""


class EarlyStopping(Plugin):
    """Ends the training when the monitored value has not improved for `patience` epochs in a row.

    An epoch improves if its value is better than the best one by more than min_delta; it is then the best one. Epochs
    without a value, that is, without validation, are not counted. Which weights the classifier keeps is up to the
    trainer's `keep_best`.

    :param patience: validated epochs without an improvement, >= 1, after which the training ends.
    :param monitor: "robust_accuracy" or "clean_accuracy", which need validation_data, or "loss", where lower is better.
    :param min_delta: the least improvement, in units of the monitored value, >= 0.
    :raises TypeError, ValueError: if a number is of the wrong type or out of range, or monitor is another word.
    """

    affects_training = False

    def __init__(self, patience: int, monitor: str = "robust_accuracy", min_delta: float = 0.0) -> None:
        self.patience = require_int(patience, "patience", at_least=1)
        if not isinstance(monitor, str) or monitor not in SIGNS:
            raise ValueError(f"monitor is {monitor!r}; expected {', '.join(map(repr, SIGNS))}.")
        self.monitor = monitor
        self.min_delta = require_number(min_delta, "min_delta", at_least=0.0)
        self.needs_validation = monitor != "loss"
        self._begin()

    def _begin(self) -> None:
        self.best: float | None = None
        self.best_epoch: int | None = None
        self.waited = 0

    def start(self, classifier: TensorClassifier, optimizer: torch.optim.Optimizer) -> None:
        """Forget an earlier training's best epoch."""
        self._begin()

    def state_dict(self) -> dict[str, Any]:
        """Return the best value, its epoch, and the number of epochs since without an improvement."""
        names = ("monitor", "best", "best_epoch", "waited")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on waiting; begin anew if the training is resumed with another monitor."""
        if state["monitor"] == self.monitor:
            self.best, self.best_epoch, self.waited = state["best"], state["best_epoch"], state["waited"]

    def end_epoch(self, record: Mapping[str, Any]) -> None:
        """Compare the epoch with the best one.

        :raises StopTraining: naming the best epoch, when the training has waited long enough.
        """
        value = record[self.monitor]
        if value is None:
            return
        if self._improves(value):
            self.best, self.best_epoch, self.waited = value, record["epoch"], 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            raise StopTraining(self._message())

    def _improves(self, value: float) -> bool:
        """Whether the value is better than the best by more than min_delta; nan never is."""
        sign = SIGNS[self.monitor]
        return sign * value > (-float("inf") if self.best is None else sign * self.best + self.min_delta)

    def _message(self) -> str:
        kind = "validated epochs" if self.needs_validation else "epochs"
        margin = f" by more than {self.min_delta:g}" if self.min_delta else ""
        best = "no epoch had a finite value" if self.best is None else f"best: {self.best:.4f}, epoch {self.best_epoch}"
        return f"{self.monitor} has not improved{margin} for {self.waited} {kind}; {best}."

    def __repr__(self) -> str:
        return f"EarlyStopping(patience={self.patience}, monitor={self.monitor!r}, min_delta={self.min_delta})"
