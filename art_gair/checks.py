"""Checks of arguments that more than one room needs; each error names the argument, what came and what was expected."""

from __future__ import annotations

import math
import numbers
import operator
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def require_int(value: Any, name: str, *, at_least: int) -> int:
    """Return value as an int.

    :raises TypeError: if it is not a whole number by type; True and 2.0 are not.
    :raises ValueError: if it is smaller than at_least.
    """
    if isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; expected an int of at least {at_least}.")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}; expected an int of at least {at_least}.") from None
    if number < at_least:
        raise ValueError(f"{name} is {value!r}; expected an int of at least {at_least}.")
    return number


def require_fit(shape: Sequence[int], name: str, target: Sequence[int]) -> None:
    """Raise ValueError unless an array of this shape broadcasts against the target without enlarging it."""
    trailing = tuple(target)[len(target) - len(shape) :] if len(shape) <= len(target) else ()
    if len(shape) > len(target) or any(s not in (1, t) for s, t in zip(shape, trailing, strict=True)):
        raise ValueError(f"{name} has shape {tuple(shape)}, which does not broadcast to {tuple(target)}.")


def require_number(
    value: Any,
    name: str,
    *,
    above: float = -math.inf,
    at_least: float = -math.inf,
    below: float = math.inf,
    at_most: float = math.inf,
) -> float:
    """Return value as a float.

    :raises TypeError: if it is no real number.
    :raises ValueError: if it is not finite or outside the bounds.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} is {value!r}; expected a number.")
    number = float(value)
    if not (math.isfinite(number) and above < number < below and at_least <= number <= at_most):
        limits = ((above, ">"), (at_least, ">="), (below, "<"), (at_most, "<="))
        bounds = [f"{sign} {limit:g}" for limit, sign in limits if math.isfinite(limit)]
        raise ValueError(
            f"{name} is {value!r}; expected a finite number{', ' if bounds else ''}{' and '.join(bounds)}."
        )
    return number


def require_path(value: Any, name: str, *, folder: bool) -> Path:
    """Return value as the path of a file, or of a folder, that is there or can be made.

    :raises TypeError: if it is no str or PathLike.
    :raises ValueError: if something else is there, or what it lies in is no folder.
    """
    kind = "folder" if folder else "file"
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name} is {value!r}; expected the path of a {kind}, a str or PathLike.")
    path = Path(value)
    if path.exists() and not (path.is_dir() if folder else path.is_file()):
        raise ValueError(f"{name} is {str(value)!r}, which is no {kind}; expected the path of a {kind}.")
    above = next((parent for parent in path.parents if parent.exists()), None)
    if above is not None and not above.is_dir():
        raise ValueError(f"{name} is {str(value)!r}, but {str(above)!r} is no folder; expected the path of a {kind}.")
    return path
