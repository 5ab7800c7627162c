"""The rows of a batch under attack: those still in the computation, and those that have left it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from art_gair.engine.classifier import Model


@dataclass(frozen=True)
class Samples:
    """What the attack is given, a row a sample; eps, eps_step and mask broadcast against x.

    :param lower: and `upper`: least and largest values of the features, like x, where the ball is a box.
    """

    x: Tensor
    labels: Tensor
    eps: Tensor
    eps_step: Tensor
    mask: Tensor | None
    clean_logits: Tensor | None
    lower: Tensor | None = None
    upper: Tensor | None = None

    def take(self, rows: Tensor) -> Samples:
        """Return the samples where rows, bool (n,), is True, or those of which rows, int64 (m,), are the numbers."""
        settings: dict[str, Any] = {f.name: self._take(getattr(self, f.name), rows) for f in fields(self)}
        return Samples(**settings)

    def _take(self, value: Tensor | None, rows: Tensor) -> Tensor | None:
        if value is None or (value.ndim != self.x.ndim and value is not self.labels and value is not self.clean_logits):
            return value  # a scalar, or one value a feature
        return value[rows] if len(value) == len(self.x) else value


def never_alone(model: Model) -> Model:
    """Return the model, which sees a lone sample twice: some models squeeze a batch of one, and give no batch back."""

    def run(x: Tensor) -> Tensor:
        return model(x) if len(x) != 1 else model(x.expand(2, *x.shape[1:]))[:1]

    return run


class Finished:
    """The whole batch's result: rows that have left the computation wait here, each in its own place."""

    def __init__(self, x_adv: Tensor, kappa: Tensor) -> None:
        self.x_adv, self.kappa = x_adv, kappa
        self.rows: Tensor | None = None

    def put(self, x_adv: Tensor, kappa: Tensor) -> tuple[Tensor, Tensor]:
        """Take in the rows still in the computation, and return the whole batch."""
        if self.rows is None:
            self.x_adv, self.kappa = x_adv, kappa
        else:
            self.x_adv[self.rows], self.kappa[self.rows] = x_adv, kappa
        return self.x_adv, self.kappa

    def leave(self, goes_on: Tensor) -> None:
        """Keep in the computation only the rows where goes_on, bool, is True."""
        rows = torch.arange(len(goes_on), device=goes_on.device) if self.rows is None else self.rows
        self.rows = rows[goes_on]
