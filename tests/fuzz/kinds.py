"""What arguments may be: written anew here, from the docstrings, and not with the package's own checks."""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tests.fuzz.values import Value, literal


@dataclass(frozen=True)
class Kind:
    """What an argument may be.

    :param fits: whether a call may work with a value; where it may not it must be refused.
    :param near: values that fit, and some that nearly do.
    :param affordable: whether a call with the value ends soon.
    """

    fits: Callable[[Any], bool]
    near: tuple[Value, ...] = ()
    affordable: Callable[[Any], bool] = lambda value: True


def made(**makers: Callable[[Any], Any]) -> tuple[Value, ...]:
    """Return values that are made in the world of a case, by what they are called."""
    return tuple(Value(name, make) for name, make in makers.items())


def literals(values: Iterable[Any]) -> tuple[Value, ...]:
    """Return values that cannot be changed."""
    return tuple(map(literal, values))


def is_real(value: Any) -> bool:
    """Whether a value is a real number by its type."""
    kinds = (int, float, np.integer, np.floating)
    return isinstance(value, kinds) and not isinstance(value, (bool, np.timedelta64))


def number(
    *, above: float = -math.inf, at_least: float = -math.inf, below: float = math.inf, at_most: float = math.inf
) -> Kind:
    """A finite real number within bounds, no bool."""

    def fits(value: Any) -> bool:
        if not is_real(value) or (isinstance(value, int) and abs(value) >= 2**63) or not math.isfinite(value):
            return False
        return above < float(value) < below and at_least <= float(value) <= at_most  # a float32 compares as one

    limits = [limit for limit in (above, at_least, below, at_most) if math.isfinite(limit)]
    return Kind(fits, literals([v for limit in limits for v in (limit, limit - 1e-9, limit + 1e-9)]))


def whole(*, at_least: int, below: int = 2**63, affordable: int | None = None) -> Kind:
    """A whole number within bounds by its type, no bool and no array."""

    def fits(value: Any) -> bool:
        return (
            is_real(value) and isinstance(value, numbers.Integral) and at_least <= value < below  # type: ignore[operator]
        )

    def ends_soon(value: Any) -> bool:
        return affordable is None or not fits(value) or value <= affordable

    return Kind(fits, literals([at_least - 1, at_least, at_least + 1, float(at_least), below]), ends_soon)


def words(*allowed: str) -> Kind:
    """One of some words."""
    near = [text for word in allowed for text in (word, word.upper(), word + " ")]
    return Kind(lambda value: isinstance(value, str) and value in allowed, literals(near))


def instances(*classes: type, near: tuple[Value, ...] = ()) -> Kind:
    """Objects of some classes."""
    return Kind(lambda value: isinstance(value, classes), near)


FLAG = instances(bool, near=literals([True, False]))

NONE = Kind(lambda value: value is None)
ALONE = Kind(lambda value: value is None or value is False, literals([None, False, True]))
"""`distributed` where there is one process."""


def either(*kinds: Kind) -> Kind:
    """A value of one of the kinds."""
    return Kind(
        lambda value: any(kind.fits(value) for kind in kinds),
        tuple(value for kind in kinds for value in kind.near),
        lambda value: all(kind.affordable(value) for kind in kinds),
    )


def several(kind: Kind, *, at_least: int = 0, near: tuple[Value, ...] = ()) -> Kind:
    """A list or tuple of values of a kind."""

    def fits(value: Any) -> bool:
        return isinstance(value, (list, tuple)) and len(value) >= at_least and all(map(kind.fits, value))

    return Kind(fits, near)


def schedule(kind: Kind) -> Kind:
    """A value of the kind, or a function of the epoch to one."""

    def fits(value: Any) -> bool:
        if not callable(value) or isinstance(value, type):
            return kind.fits(value)
        try:
            return kind.fits(value(0))
        except Exception:
            return False

    return Kind(fits, (*kind.near, *made(the_epoch=lambda world: lambda epoch: epoch + 1)), kind.affordable)


def real_array(value: Any) -> NDArray[Any] | None:
    """Return value as an array of real numbers, None if it is none."""
    if isinstance(value, torch.Tensor):
        if value.layout != torch.strided or value.is_meta or value.is_quantized or value.is_complex():
            return None
        value = value.detach().double() if value.is_floating_point() else value.detach()
    try:
        array = np.asarray(value)
    except Exception:
        return None
    return array if array.dtype.kind in "biuf" else None


def _is_within(array: NDArray[Any], low: float, high: float) -> bool:
    with np.errstate(all="ignore"):
        values = array.astype(np.float32)
    return bool(np.isfinite(values).all() and (values >= low - 1e-6).all() and (values <= high + 1e-6).all())


def arrays(accept: Callable[[NDArray[Any]], bool], near: tuple[Value, ...] = ()) -> Kind:
    """Arrays of real numbers, tensors and nested lists among them, that meet a condition."""

    def fits(value: Any) -> bool:
        array = real_array(value)
        return array is not None and accept(array)

    return Kind(fits, near)


def samples(*shape: int, low: float = 0.0, high: float = 1.0, near: tuple[Value, ...] = ()) -> Kind:
    """Samples (n, *shape), at least one, within clip_values."""
    return arrays(lambda a: a.shape[1:] == shape and a.ndim > 0 and len(a) > 0 and _is_within(a, low, high), near)


def labels(nb_classes: int, *, unlabelled: bool = False, near: tuple[Value, ...] = ()) -> Kind:
    """Classes (n,) or (n, 1), or one-hot rows; with `unlabelled` -1 too."""

    def accept(array: NDArray[Any]) -> bool:
        if array.ndim == 2 and array.shape[1] == nb_classes:
            return bool(np.isin(array, (0, 1)).all() and (array.sum(axis=1) == 1).all())
        if array.size == 0 or array.ndim not in (1, 2) or (array.ndim == 2 and array.shape[1] != 1):
            return False
        classes = range(-1 if unlabelled else 0, nb_classes)
        return bool(np.isin(array, classes).all())

    return arrays(accept, near)


def radius(*, settled: bool = True) -> Kind:
    """A positive number or an array of them, finite as float32."""

    def accept(array: NDArray[Any]) -> bool:
        with np.errstate(all="ignore"):
            values = array.astype(np.float32)
        return array.dtype.kind in "iuf" and array.size > 0 and bool(np.isfinite(values).all() and (values > 0).all())

    near = made(
        one_a_feature=lambda world: np.full(4, 0.1),
        one_a_sample=lambda world: np.full((4, 1), 0.1),
        growing=lambda world: np.linspace(0.1, 0.2, 4),
        as_list=lambda world: [0.1, 0.1, 0.1, 0.1],
    )
    kind = arrays(accept, near)
    return kind if settled else schedule(kind)


def path(name: str) -> Kind:
    """A str or PathLike that a file system may know; near it a file and a folder that are there."""

    def fits(value: Any) -> bool:
        if not isinstance(value, (str, os.PathLike)):
            return False
        try:
            parts = os.fsencode(value).split(b"/")
        except UnicodeEncodeError:
            return False
        return all(len(part) < 256 and b"\0" not in part for part in parts)

    return Kind(fits, literals([name, f"a/{name}", f"file/{name}", "file", "folder", ".", "..", "", "x" * 300, "a\nb"]))
