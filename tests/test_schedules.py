"""Functions of the epoch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from art_gair.schedules import Constant, Linear, Piecewise


def test_values() -> None:
    assert [Constant(0.5)(e) for e in (0, 99)] == [0.5, 0.5]
    assert [Piecewise((0, 3, 6), (40, 70))(e) for e in (0, 39, 40, 69, 70, 500)] == [0, 0, 3, 3, 6, 6]
    assert [Linear(0.0, 1.0, end=4)(e) for e in range(6)] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    assert [Linear(3.0, -1.0, begin=2, end=4)(e) for e in range(6)] == [3.0, 3.0, 3.0, 1.0, -1.0, -1.0]


def test_a_line_through_whole_numbers_meets_them() -> None:
    for first, last, end in [(a, b, abs(b - a) * k) for a in range(6) for b in range(11) for k in (1, 2, 7) if a != b]:
        line = Linear(first, last, end=end)
        for step in range(abs(last - first) + 1):
            sign = 1 if last > first else -1
            assert line(step * end // abs(last - first)) == first + sign * step


def test_they_say_what_they_are() -> None:
    assert repr(Piecewise((0, 3), (40,))) == "Piecewise(values=(0, 3), starts=(40,))"


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Constant(math.inf), ValueError, "value is inf; expected a finite number"),
        (lambda: Piecewise((0, math.nan), (1,)), ValueError, "values is nan"),
        (lambda: Piecewise((0, 1), (1, 2)), ValueError, "values has 2 entries for 2 starts; expected one more"),
        (lambda: Piecewise((0, 1, 2), (5, 5)), ValueError, r"starts is \(5, 5\); expected rising epochs"),
        (lambda: Piecewise((0, 1), (0,)), ValueError, "starts is 0; expected an int of at least 1"),
        (lambda: Linear(math.inf, 1.0, end=3), ValueError, "first is inf; expected a finite number"),
        (lambda: Linear(0.0, 1.0, end=3, begin=3), ValueError, "end is 3; expected an int of at least 4"),
    ],
)
def test_bad_arguments_are_named(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
