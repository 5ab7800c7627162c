"""What a module's plain attributes hold: everything that its forward may read beside parameters and buffers."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

NN_MODULE = frozenset(vars(nn.Module()))
"""Attributes that every module has: its tensors, submodules, hooks and train/eval flag."""

SCALARS = (type(None), bool, int, float, complex, str, bytes, Enum, torch.dtype, torch.device, torch.Size)
"""Types compared by value."""

PICKLED_AT_MOST = 1 << 16
"""Bytes of a pickled attribute that are compared in each batch; a larger one is compared by identity from then on."""


@dataclass(frozen=True, eq=False)
class Same:
    """Equal to itself alone, by identity of the value; it keeps the value alive, so that no other takes its place."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


class Attributes:
    """Reads the plain attributes of a module and its submodules, often and cheaply.

    Scalars count by value, tensors by identity and version, lists, tuples and dictionaries by what they hold, all else
    by its pickle, so that a counter or a generator within it is seen, or by identity where that is large or impossible.

    :param module: whose attributes to read.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.large: set[tuple[int, str]] = set()

    def read(self) -> list[Any]:
        """Return something that equals an earlier reading if nothing has changed since, the submodules included."""
        reading: list[Any] = []
        for module in self.module.modules():
            reading.append(Same(module))
            for name, value in vars(module).items():
                if name not in NN_MODULE:
                    reading.append(name)
                    reading.append(value if type(value) in SCALARS else self._value(module, name, value))
        return reading

    def _value(self, module: nn.Module, name: str, value: Any) -> Any:
        if isinstance(value, SCALARS):
            return value
        if isinstance(value, Tensor):
            return Same(value), None if value.is_inference() else value._version
        if isinstance(value, (list, tuple)):
            return [self._value(module, name, item) for item in value]
        if isinstance(value, dict):
            return [
                (key if isinstance(key, SCALARS) else Same(key), self._value(module, name, item))
                for key, item in value.items()
            ]
        if isinstance(value, (nn.Module, type)) or (id(module), name) in self.large:
            return Same(value)
        return self._pickled(module, name, value)

    def _pickled(self, module: nn.Module, name: str, value: Any) -> Any:
        try:
            pickled = pickle.dumps(value)
        except Exception:
            pickled = bytes(PICKLED_AT_MOST + 1)
        if len(pickled) > PICKLED_AT_MOST:
            self.large.add((id(module), name))
            return Same(value)
        return pickled


def plain_tensors(module: nn.Module) -> Iterator[Tensor]:
    """Yield the tensors that plain attributes hold, in lists, tuples and dictionaries too."""
    for submodule in module.modules():
        yield from _tensors([value for name, value in vars(submodule).items() if name not in NN_MODULE])


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item)


def _undoing(value: Any) -> Iterator[Callable[[], None]]:
    """Yield what puts the entries of a list or dictionary, and the values of tensors in it, back as they are now."""
    if isinstance(value, Tensor) and not value.is_inference():
        yield functools.partial(_write_back, value, value._version, value.detach().clone())
    elif isinstance(value, list):
        yield functools.partial(_relist, value, list(value))
    elif isinstance(value, dict):
        yield functools.partial(_refill, value, dict(value))
    if isinstance(value, (list, tuple, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _undoing(item)


@torch.no_grad()
def _write_back(tensor: Tensor, version: int, values: Tensor) -> None:
    if tensor._version != version:  # to write is to change it, so only what was changed is written to
        if tensor.shape != values.shape:
            tensor.resize_(values.shape)
        tensor.copy_(values)


def _relist(entries: list[Any], kept: list[Any]) -> None:
    if len(entries) != len(kept) or any(now is not before for now, before in zip(entries, kept, strict=True)):
        entries[:] = kept


def _refill(entries: dict[Any, Any], kept: dict[Any, Any]) -> None:
    if list(entries) != list(kept) or any(entries[key] is not value for key, value in kept.items()):
        entries.clear()
        entries.update(kept)


@contextmanager
def kept_attributes(module: nn.Module) -> Iterator[None]:
    """Put plain attributes back on leaving: those set or deleted, entries of lists and dictionaries, tensors' values.

    What lies within other objects, what refuses to be written to, and what is written through `tensor.data` is left.
    """
    kept = [(m, {name: value for name, value in vars(m).items() if name not in NN_MODULE}) for m in module.modules()]
    contents = [undo for _, values in kept for value in values.values() for undo in _undoing(value)]
    try:
        yield
    finally:
        for undo in contents:
            with suppress(Exception):
                undo()
        for submodule, values in kept:
            now = vars(submodule)
            for name in [name for name in now if name not in NN_MODULE and name not in values]:
                del now[name]
            now.update(values)
