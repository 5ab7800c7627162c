"""State as text and blocks: nested containers of plain values become JSON, tensors and arrays go beside it.

Nothing is pickled, so reading runs no code. What is none of the kinds below is refused when it is written.
"""

from __future__ import annotations

import json
import reprlib
from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from art_gair.storage.blocks import NUMERIC, from_block, to_block

Place = tuple[Any, ...]
"""Keys and indices that lead from the state to one of its values."""

GROUPS: dict[str, type] = {"tuple": tuple, "set": set, "frozenset": frozenset}
MAPPINGS: dict[str, type] = {"dict": dict, "ordered": OrderedDict, "counter": Counter}
NAMES = {cls: name for name, cls in (*GROUPS.items(), *MAPPINGS.items(), ("tuple", torch.Size))}
"""What the text calls each container; a list is a JSON list."""

MAX_DEPTH = 100
"""Containers inside each other; far fewer than exhaust Python's stack."""


def pack(state: Any) -> tuple[str, list[Tensor]]:
    """Return the state as JSON and blocks. The blocks share the state's memory where they can.

    All comes back as it was, bit for bit, except: a Parameter comes back as a tensor, an int, float or str of a
    subclass (such as an IntEnum) as a plain one.

    :param state: None, bool, int, float, str, bytes, dense tensors, numeric numpy arrays and scalars; lists, tuples,
        sets, frozensets, dicts, OrderedDicts and Counters of them, nested. Keys and members of sets hold no tensors.
    :raises TypeError: for anything else, naming its place.
    """
    blocks: list[Tensor] = []
    return json.dumps(_encode(state, (), blocks)), blocks


def unpack(text: str, blocks: Sequence[Tensor]) -> Any:
    """Return the state of which `pack` gave these. Its tensors and arrays use the memory of the blocks.

    :param text: JSON.
    :param blocks: on the host.
    :raises ValueError: if they are not what `pack` gives.
    """
    try:
        return _decode(json.loads(text), blocks)
    except (AttributeError, LookupError, OverflowError, RuntimeError, TypeError) as error:
        raise ValueError(f"the state cannot be read: {error!r}") from error


def _encode(value: Any, place: Place, blocks: list[Tensor]) -> Any:
    if len(place) > MAX_DEPTH:
        raise TypeError(f"{_name(place[:3])}... is nested more than {MAX_DEPTH} deep, or contains itself.")
    if isinstance(value, (Tensor, np.ndarray, bytes)):
        return _encode_block(value, place, blocks)
    if type(value) is list:
        return _encode_items(value, place, blocks)
    name = NAMES.get(type(value), "")
    if name in MAPPINGS:
        return {name: [[_encode_key(k, place, blocks), _encode(v, (*place, k), blocks)] for k, v in value.items()]}
    if name == "tuple":
        return {name: _encode_items(value, place, blocks)}
    if name in GROUPS:
        return {name: [_encode_key(v, place, blocks) for v in value]}
    return _encode_scalar(value, place)


def _encode_items(values: Sequence[Any], place: Place, blocks: list[Tensor]) -> list[Any]:
    return [_encode(value, (*place, i), blocks) for i, value in enumerate(values)]


def _encode_key(key: Any, place: Place, blocks: list[Tensor]) -> Any:
    if _holds_tensor(key):  # it is looked up by its identity
        raise TypeError(f"{_name(place)} has a tensor in a key or member, which cannot be saved.")
    return _encode(key, (*place, key), blocks)


def _holds_tensor(key: Any) -> bool:
    return isinstance(key, Tensor) or (isinstance(key, (tuple, frozenset)) and any(map(_holds_tensor, key)))


def _encode_block(value: Any, place: Place, blocks: list[Tensor]) -> dict[str, Any]:
    packed = to_block(value)
    if packed is None:
        raise _refusal(value, place)
    blocks.append(packed[1])
    return {**packed[0], "block": len(blocks) - 1}


def _encode_scalar(value: Any, place: Place) -> Any:
    if isinstance(value, np.generic) and value.dtype.kind in NUMERIC:
        return {"scalar": value.dtype.str, "hex": value.tobytes().hex()}
    if isinstance(value, int) and value.bit_length() > 64:  # Python does not print very long ones
        return {"int": hex(value)}
    if value is None or isinstance(value, (int, float, str)):
        return value
    raise _refusal(value, place)


def _refusal(value: Any, place: Place) -> TypeError:
    what = type(value).__name__ + (f" of {value.dtype}" if isinstance(value, np.ndarray) else "")
    return TypeError(f"{_name(place)} is a {what}, which cannot be saved; expected dense tensors and plain values.")


def _name(place: Place) -> str:
    return "state" + "".join(f"[{reprlib.repr(key)}]" for key in place)


def _decode(value: Any, blocks: Sequence[Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(v, blocks) for v in value]
    if not isinstance(value, dict):
        return value
    if "block" in value:
        return from_block(value, blocks[value["block"]])
    if "scalar" in value:
        return np.frombuffer(bytes.fromhex(value["hex"]), dtype=value["scalar"])[0]
    if "int" in value:
        return int(value["int"], 16)
    [(name, entries)] = value.items()
    decoded = [_decode(v, blocks) for v in entries]
    return MAPPINGS[name](dict(decoded)) if name in MAPPINGS else GROUPS[name](decoded)
