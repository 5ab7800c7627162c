"""When a view was last held against its model, and what has happened since."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

RECHECK_EVERY = 16
"""Batches that are attacked between two comparisons of a view with its model."""

TRACES = 3
"""How often a model is traced again although its view lasted for fewer than RECHECK_EVERY batches."""


@dataclass
class Record:
    """The history of a view.

    :param trusted: whether the view was held against the model since it was taken over, and in this epoch.
    :param reading: the model's attributes at that comparison.
    :param unchecked: batches attacked since, with the one that was about to be.
    :param lasted: batches attacked since the model was traced.
    :param traces: how often it was traced again too soon.
    :param probe: samples of the last batch attacked since.
    """

    trusted: bool = False
    reading: Any = None
    unchecked: int = 0
    lasted: int = 0
    traces: int = 0
    probe: Tensor | None = None

    @property
    def is_due(self) -> bool:
        """Whether the view must be held against the model before the next batch."""
        return not self.trusted or self.unchecked >= RECHECK_EVERY

    def begin(self, reading: Any, probe: Tensor) -> None:
        """Note that a new view agrees with the model."""
        self.lasted = 0
        self.agreed(reading, probe)

    def agreed(self, reading: Any, probe: Tensor) -> None:
        """Note that the view agrees with the model, and that a batch is attacked."""
        self.trusted, self.reading, self.unchecked = True, reading, 0
        self.count(probe)

    def count(self, probe: Tensor) -> None:
        """Note that a batch is attacked."""
        self.unchecked += 1
        self.lasted += 1
        self.probe = probe.detach().clone()

    def may_trace_again(self) -> bool:
        """Whether to trace a model whose attributes have changed again; it costs as much as a few steps."""
        self.traces += self.lasted < RECHECK_EVERY
        return self.traces <= TRACES
