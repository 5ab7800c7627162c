"""Checks of arguments that more than one room needs; each error names the argument, what came and what was expected."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn


def is_real(value: Any) -> bool:
    """Whether a value is an int or a float, NumPy's too; no bool, and no span of time, an int to NumPy."""
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, (bool, np.timedelta64))


LARGEST = 2**63 - 1
"""The largest int that torch and NumPy can hold."""


def to_float(value: Any, name: str) -> float:
    """Return a real number as a float.

    :raises ValueError: if it is an int that torch and NumPy cannot hold.
    """
    if isinstance(value, int) and abs(value) > LARGEST:
        raise ValueError(f"{name} is an int of more than 63 bits; expected a smaller one, or a float.")
    return float(value)


def runs_layer_by_layer(model: nn.Module) -> bool:
    """Whether ART's predict runs the layers of the model, one by one, in the place of a forward of its own."""
    if not isinstance(model, nn.Sequential):
        return False
    return "forward" in vars(model) or type(model).forward is not nn.Sequential.forward


def require_int(value: Any, name: str, *, at_least: int, at_most: int = LARGEST) -> int:
    """Return value as an int.

    :raises TypeError: if it is not a whole number by type; True, 2.0 and arrays are not.
    :raises ValueError: if it is outside the bounds.
    """
    expected = f"expected an int of at least {at_least}" + ("" if at_most == LARGEST else f" and at most {at_most}")
    if not is_real(value) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} is {value!r}; {expected}.")
    number = int(value)
    if abs(number) > LARGEST:
        raise ValueError(f"{name} is an int of more than 63 bits; {expected}.")
    if not at_least <= number <= at_most:
        raise ValueError(f"{name} is {value!r}; {expected}.")
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
    if not is_real(value):
        raise TypeError(f"{name} is {value!r}; expected a number.")
    number = to_float(value, name)
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
    path = Path(value).absolute()  # a training may change its folder
    try:
        if b"\0" in os.fsencode(path):
            raise ValueError("embedded null byte")
        exists = path.exists()
    except (OSError, ValueError) as error:  # a name that is too long, or that the file system cannot spell
        raise ValueError(f"{name} is {str(value)!r}: {error}; expected the path of a {kind}.") from error
    if exists and not (path.is_dir() if folder else path.is_file()):
        raise ValueError(f"{name} is {str(value)!r}, which is no {kind}; expected the path of a {kind}.")
    above = next((parent for parent in path.parents if parent.exists()), None)
    if above is not None and not above.is_dir():
        raise ValueError(f"{name} is {str(value)!r}, but {str(above)!r} is no folder; expected the path of a {kind}.")
    return path
