"""Values that make no sense, or little, to most arguments; each is made anew for each call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray

import art_gair
from art_gair.plugins import AWP
from art_gair.weighting import TanhWeighting


@dataclass(frozen=True)
class Value:
    """A value by what it is called in a failing example.

    :param make: given the world of a case, returns the value.
    """

    name: str
    make: Callable[[Any], Any]

    def __repr__(self) -> str:
        return self.name


def literal(value: Any) -> Value:
    """Return a value that cannot be changed, and so need not be made anew."""
    return Value(repr(value) if len(repr(value)) < 60 else f"{repr(value)[:50]}...", lambda world: value)


class HasLength:
    """Promises entries that it does not have."""

    def __len__(self) -> int:
        return 4


class Ambiguous:
    """Refuses to be true or false, and to be compared, as arrays do."""

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise ValueError("neither true nor false")

    def __eq__(self, other: object) -> Any:
        raise ValueError("not comparable")


def _circular() -> list[Any]:
    values: list[Any] = [1.0]
    values.append(values)
    return values


NUMBERS: list[Any] = [
    *(0, 1, -1, 2, 3, 7, 0.0, 1.0, 0.5, -0.5, 2.5, float("nan"), float("inf"), -float("inf"), 1e308, 1e-320, 1e39),
    *(2**31, 2**63, 2**64, -(2**70), 2**2000, 1j, True, False, Fraction(1, 2), Decimal("0.5"), Decimal("NaN")),
    *(np.float32(0.5), np.float64("nan"), np.float16(0.5), np.longdouble(0.5), np.int64(1), np.int8(-1), np.uint8(2)),
    *(np.bool_(True), np.complex64(1), np.datetime64("2020-01-01"), np.timedelta64(1, "D"), np.str_("1")),
]

TEXTS: list[Any] = [
    *("", "abc", "1", "0.5", "inf", "nan", "None", "True", " ce", "CE", "x" * 10_000, "\0", "\ud800", "é ü 猫"),
    *(b"", b"abc", b"ce"),
]

CLASSES: list[Any] = [int, float, str, list, dict, object, type, Exception, np.ndarray, torch.Tensor, torch.nn.Linear]
CLASSES += [TanhWeighting, AWP, art_gair.AT, art_gair.GeometryAwarePGD, art_gair.AdversarialTrainerGAIRAT]

OTHERS: list[Any] = [None, ..., NotImplemented, (), (1,), (1, 2), (None, None), ("a", "b"), frozenset((1, 2)), range(3)]
OTHERS += [slice(2), Path("nothing/here"), np.dtype(np.float32), torch.float32, len, np, ValueError("abc")]

MADE: dict[str, Callable[[], Any]] = {
    "[]": list,
    "{}": dict,
    "set()": set,
    "[1]": lambda: [1],
    "[0.5, nan]": lambda: [0.5, float("nan")],
    "[True, False]": lambda: [True, False],
    "[None]": lambda: [None],
    "['a', 'b']": lambda: ["a", "b"],
    "[[]]": lambda: [[]],
    "[[1, 2], [3]]": lambda: [[1, 2], [3]],
    "[[[1, 2], [3, 4]]]": lambda: [[[1, 2], [3, 4]]],
    "[2**70]": lambda: [2**70],
    "[1j]": lambda: [1j],
    "a circular list": _circular,
    "{'a': 1}": lambda: {"a": 1},
    "bytearray": lambda: bytearray(b"abc"),
    "memoryview": lambda: memoryview(b"abc"),
    "iter([])": lambda: iter([]),
    "a generator": lambda: (i for i in range(3)),
    "map": lambda: map(str, range(3)),
    "object()": object,
    "HasLength()": HasLength,
    "Ambiguous()": Ambiguous,
    "TanhWeighting()": TanhWeighting,
    "AWP()": AWP,
    "nn.Identity()": torch.nn.Identity,
    "default_rng()": np.random.default_rng,
    "lambda: None": lambda: lambda: None,
    "lambda *a, **k: None": lambda: lambda *a, **k: None,
    "lambda *a, **k: nan": lambda: lambda *a, **k: float("nan"),
    "lambda *a, **k: True": lambda: lambda *a, **k: True,
    "lambda *a, **k: 'abc'": lambda: lambda *a, **k: "abc",
    "lambda *a, **k: ones(4)": lambda: lambda *a, **k: np.ones(4),
    "sparse tensor": lambda: torch.eye(4).to_sparse(),
    "meta tensor": lambda: torch.ones(4, 4, device="meta"),
    "tensor that requires grad": lambda: torch.full((4, 4), 0.5, requires_grad=True),
    "conjugate tensor": lambda: torch.full((4, 4), 1j).conj(),
    "masked array": lambda: np.eye(4).view(np.ma.MaskedArray),
    "matrix": lambda: np.ones((4, 4)).view(np.matrix),
    "structured array": lambda: np.zeros(4, dtype=[("a", int), ("b", float)]),
    "array of arrays": lambda: np.array([np.zeros(2), None], dtype=object),
    "array of dates": lambda: np.array(["2020-01-01"] * 4, dtype="datetime64[D]"),
    "read-only array": lambda: np.broadcast_to(np.float32(0.5), (4, 4)),
    "big-endian array": lambda: np.full((4, 4), 0.5, dtype=">f4"),
    "reversed array": lambda: np.linspace(0, 1, 16).reshape(4, 4)[::-1],
}


def _make(make: Callable[[], Any], world: Any) -> Any:
    return make()


FIXED: list[Value] = [
    *map(literal, [*NUMBERS, *TEXTS, *CLASSES, *OTHERS]),
    *(Value(name, partial(_make, make)) for name, make in MADE.items()),
]

SHAPES = [
    (),
    (0,),
    (1,),
    (3,),
    (4,),
    (5,),
    (0, 4),
    (1, 4),
    (4, 1),
    (4, 3),
    (4, 4),
    (3, 4),
    (4, 5),
    (2, 2, 2),
    (4, 4, 1),
]
DTYPES: list[Any] = [*(np.float64, np.float32, np.float16, np.longdouble, np.int64, np.int32, np.int8, np.uint8)]
DTYPES += [np.uint64, np.bool_, np.complex128, np.complex64, object, "U3", "S3"]
TENSOR_DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8),
    *(torch.bool, torch.complex64),
)
FILLS = (0, 1, 2, 0.5, -1, 255, float("nan"), float("inf"), -float("inf"), 1e30, 1e300)


def array(shape: tuple[int, ...], dtype: Any, fill: float) -> NDArray[Any]:
    """Return an array of one value, as far as the type can hold it; where it is not constant the last one is 0."""
    with np.errstate(all="ignore"):
        values = np.full(shape, fill, dtype=np.float64).astype(dtype)
    if len(shape) == 1 and shape[0] > 1:
        values[-1] = 0
    return values


def tensor(shape: tuple[int, ...], dtype: torch.dtype, fill: float) -> torch.Tensor:
    """Return a tensor of one value, as far as the type can hold it."""
    return torch.full(shape, fill, dtype=torch.float64).to(dtype)


def _array(shape: tuple[int, ...], dtype: Any, fill: float) -> Value:
    return Value(f"array{(shape, np.dtype(dtype).name, fill)}", lambda world: array(shape, dtype, fill))


def _tensor(shape: tuple[int, ...], dtype: torch.dtype, fill: float) -> Value:
    return Value(f"tensor{(shape, dtype, fill)}", lambda world: tensor(shape, dtype, fill))


def _nested(shape: tuple[int, ...], dtype: Any, fill: float) -> Value:
    return Value(f"list of{(shape, np.dtype(dtype).name, fill)}", lambda world: array(shape, dtype, fill).tolist())


def values() -> st.SearchStrategy[Value]:
    """Any value: one of the list, an array, a tensor, a nested list, a number or a text."""
    shapes, dtypes, fills = st.sampled_from(SHAPES), st.sampled_from(DTYPES), st.sampled_from(FILLS)
    return st.one_of(
        st.sampled_from(FIXED),
        st.sampled_from(FIXED),
        st.builds(_array, shapes, dtypes, fills),
        st.builds(_tensor, shapes, st.sampled_from(TENSOR_DTYPES), fills),
        st.builds(_nested, shapes, dtypes, fills),
        st.floats().map(literal),
        st.integers(-(2**80), 2**80).map(literal),
        st.text(st.characters(exclude_characters="/"), max_size=8).map(literal),
    )
