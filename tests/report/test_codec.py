"""What is written comes back, by the types of the fields alone."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from art_gair.report.codec import decode, encode


@dataclass
class Inner:
    numbers: NDArray[np.float64]
    name: str | None


@dataclass
class Outer:
    flags: NDArray[np.bool_]
    counts: NDArray[np.int64]
    image: NDArray[np.uint8]
    inner: Inner
    maybe: Inner | None
    points: list[tuple[float, int]]
    masks: dict[str, NDArray[np.bool_]]
    share: float = 0.5


def example() -> Outer:
    return Outer(
        flags=np.array([True, False]),
        counts=np.array([-1, 2**40]),
        image=np.arange(12, dtype=np.uint8).reshape(3, 2, 2),
        inner=Inner(np.array([0.1, np.nan, -3.0]), None),
        maybe=None,
        points=[(0.5, 1), (1.0, 2)],
        masks={"x 10": np.array([True])},
    )


def test_a_dataclass_comes_back_as_it_was() -> None:
    value = example()
    again = decode(Outer, json.loads(json.dumps(encode(value), allow_nan=False)))
    assert encode(again) == encode(value)
    for name in ("flags", "counts", "image"):
        before, after = getattr(value, name), getattr(again, name)
        assert before.dtype == after.dtype
        np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(again.inner.numbers, value.inner.numbers)
    assert again.points == value.points
    assert again.masks["x 10"].dtype == np.bool_


@pytest.mark.parametrize("field", ["flags", "inner", "points", "share"])
def test_a_missing_field_is_an_error(field: str) -> None:
    content = encode(example())
    del content[field]
    with pytest.raises(ValueError, match=f"content is no Outer: KeyError: '{field}'"):
        decode(Outer, content)


@pytest.mark.parametrize(
    ("field", "value"),
    [("share", "half"), ("points", [[1.0]]), ("image", [1, 2]), ("flags", ["a"]), ("inner", 3), ("masks", [])],
)
def test_a_field_of_another_kind_is_an_error(field: str, value: object) -> None:
    with pytest.raises(ValueError, match="content is no Outer"):
        decode(Outer, {**encode(example()), field: value})
