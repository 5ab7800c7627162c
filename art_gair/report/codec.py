"""One codec for everything that is written as JSON: a field is named once, in its dataclass."""

from __future__ import annotations

import base64
import types
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

T = TypeVar("T")


def encode(value: Any) -> Any:
    """Turn dataclasses and arrays into what JSON can hold: NaN becomes null, bytes of images base64."""
    if isinstance(value, np.ndarray):
        if value.dtype == np.uint8:
            return {"shape": list(value.shape), "base64": base64.b64encode(value.tobytes()).decode()}
        if value.dtype.kind == "f":
            return [None if np.isnan(number) else number for number in value.tolist()]
        return value.astype(np.int64).tolist()
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    if isinstance(value, dict):
        return {key: encode(item) for key, item in value.items()}
    if is_dataclass(value):
        return {field.name: encode(getattr(value, field.name)) for field in fields(value)}
    return value


def decode(kind: type[T], content: Any) -> T:
    """Turn what `encode` made of a dataclass into one again, by the types of its fields.

    :raises ValueError: if the content lacks a field, or a field is of another kind.
    """
    try:
        value: T = _decode(kind, content)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"content is no {kind.__name__}: {type(error).__name__}: {error}") from error
    return value


def _decode(kind: Any, content: Any) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if content is None else _decode(next(a for a in arguments if a is not type(None)), content)
    if origin is np.ndarray:
        return _decode_array(np.dtype(get_args(arguments[1])[0]), content)
    if origin is dict:
        return {key: _decode(arguments[1], item) for key, item in content.items()}
    if origin is list:
        return [_decode(arguments[0], item) for item in content]
    if origin is tuple:
        return tuple(_decode(a, item) for a, item in zip(arguments, content, strict=True))
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        make: Any = kind
        return make(**{field.name: _decode(hints[field.name], content[field.name]) for field in fields(kind)})
    if kind in (int, float, str, bool):
        if not isinstance(content, (int, float) if kind is float else kind):
            raise TypeError(f"{content!r} is no {kind.__name__}")
        return kind(content)
    return content


def _decode_array(dtype: np.dtype[Any], content: Any) -> np.ndarray[Any, np.dtype[Any]]:
    if dtype == np.uint8:
        return np.frombuffer(base64.b64decode(content["base64"]), dtype=np.uint8).reshape(content["shape"])
    numbers = [np.nan if number is None else number for number in content]
    if not all(isinstance(number, (int, float) if dtype.kind == "f" else int) for number in numbers):
        raise TypeError(f"an array of {dtype} holds something else")
    return np.array(numbers, dtype=dtype)
