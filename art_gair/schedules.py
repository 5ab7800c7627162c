"""Schedules of lam, tau, eps and the burn-in: plain functions of the epoch, counted from 0, finite everywhere.

Any function of the epoch will do; these three print what they are. Learning rates are left to torch's schedulers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from art_gair.checks import require_int, require_number

LARGE = 1e280
"""Numbers of up to this size are finite when they are multiplied by a number of epochs."""


def value_at(setting: Any, name: str, epoch: int) -> Any:
    """Return a setting that may be a schedule, as it stands in an epoch; a class is no schedule.

    :raises ValueError: if the schedule fails there.
    """
    if not callable(setting) or isinstance(setting, type):
        return setting
    try:
        return setting(epoch)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{name} is a schedule that fails in epoch {epoch}: {reason}") from error


@dataclass(frozen=True)
class Constant:
    """The same value in each epoch.

    :raises TypeError, ValueError: if value is no finite number.
    """

    value: float

    def __post_init__(self) -> None:
        require_number(self.value, "value")

    def __call__(self, epoch: int) -> float:
        """Return the value."""
        require_number(epoch, "epoch")
        return self.value


@dataclass(frozen=True)
class Piecewise:
    """values[i] from epoch starts[i - 1] on; values[0] before the first start.

    GAIR-FAT's tau is Piecewise(values=(0, 3, 6), starts=(40, 70)):

    >>> tau = Piecewise(values=(0, 3, 6), starts=(40, 70))
    >>> [tau(epoch) for epoch in (0, 39, 40, 69, 70, 99)]
    [0, 0, 3, 3, 6, 6]

    :param values: one more than starts.
    :param starts: first epochs of the values after the first, rising.
    :raises TypeError, ValueError: if a value is no finite number, or starts do not rise or fit.
    """

    values: Sequence[float]
    starts: Sequence[int]

    def __post_init__(self) -> None:
        for entries, name in ((self.values, "values"), (self.starts, "starts")):
            if not isinstance(entries, (list, tuple)):
                raise TypeError(f"{name} is {entries!r}; expected a list or tuple of numbers.")
        for value in self.values:
            require_number(value, "values")
        for start in self.starts:
            require_int(start, "starts", at_least=1)
        if len(self.values) != len(self.starts) + 1:
            raise ValueError(f"values has {len(self.values)} entries for {len(self.starts)} starts; expected one more.")
        if any(a >= b for a, b in zip(self.starts, self.starts[1:], strict=False)):
            raise ValueError(f"starts is {self.starts!r}; expected rising epochs.")

    def __call__(self, epoch: int) -> float:
        """Return the value of the piece that the epoch lies in."""
        require_number(epoch, "epoch")
        return self.values[sum(epoch >= start for start in self.starts)]


@dataclass(frozen=True)
class Linear:
    """From `first` in epoch `begin` straight to `last` in epoch `end`, constant before and after.

    Linear(8 / 255 / 10, 8 / 255, end=10) warms eps up; Linear(3.0, -1.0, begin=30, end=99) lowers lam.

    >>> [Linear(3.0, -1.0, begin=2, end=6)(epoch) for epoch in range(8)]
    [3.0, 3.0, 3.0, 2.0, 1.0, 0.0, -1.0, -1.0]

    :raises TypeError, ValueError: if a value is no finite number, or end is not after begin.
    """

    first: float
    last: float
    end: int
    begin: int = 0

    def __post_init__(self) -> None:
        require_number(self.first, "first", at_least=-LARGE, at_most=LARGE)
        require_number(self.last, "last", at_least=-LARGE, at_most=LARGE)
        require_int(self.begin, "begin", at_least=0)
        require_int(self.end, "end", at_least=self.begin + 1)

    def __call__(self, epoch: int) -> float:
        """Return the value on the line."""
        begin, end = int(self.begin), int(self.end)
        done = min(max(require_number(epoch, "epoch"), begin), end) - begin
        length = end - begin
        first, last = float(self.first), float(self.last)
        return ((length - done) * first + done * last) / length  # exact where the line meets whole numbers
