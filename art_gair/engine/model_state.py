"""A model's parameters and buffers by name: copied, and put back even where the model has renewed or resized them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

State = dict[str, Tensor | None]
"""Parameters, buffers, or both, by name; None where the module registered the name without a tensor."""


def live_state(module: nn.Module, *, parameters: bool = True) -> State:
    """Return the module's parameters and buffers themselves; with `parameters=False` its buffers alone.

    A buffer whose elements share memory (`expand`) is left out: nothing can be written into it.
    """
    state: State = {}
    for prefix, owner in module.named_modules():
        dot = f"{prefix}." if prefix else ""
        if parameters:
            state.update((dot + name, p) for name, p in owner._parameters.items())
        state.update(
            (dot + name, b) for name, b in owner._buffers.items() if b is None or is_lazy(b) or not _overlaps(b)
        )
    return state


def copied(state: State) -> State:
    """Return copies of the tensors, by the same names."""
    names = [name for name, t in state.items() if t is not None]
    return {**state, **dict(zip(names, clones([state[name] for name in names]), strict=True))}


def extra_state(module: nn.Module) -> dict[str, Any]:
    """Return what submodules keep beside tensors, by name, where they say so by torch's `get_extra_state`."""
    kept = {name: m for name, m in module.named_modules() if type(m).get_extra_state is not nn.Module.get_extra_state}
    return {name: m.get_extra_state() for name, m in kept.items()}


def moved_to(module: nn.Module, kept: State) -> State:
    """Return a state on the devices where the module's tensors of those names lie; others on that of any of them."""
    live = live_state(module)
    default = next((t.device for t in live.values() if t is not None), torch.device("cpu"))
    devices = {name: default if live.get(name) is None else live[name].device for name in kept}  # type: ignore[union-attr]
    return {name: None if t is None else t.to(devices[name]) for name, t in kept.items()}


@torch.no_grad()
def put_back(module: nn.Module, kept: State, *, parameters: bool = True) -> None:
    """Give the module the values of an earlier `live_state`, bit for bit.

    Values go into the tensors that are there. A buffer that has been resized, set to None or removed since, or given
    another type, is registered again as it was; one that has been added since is removed.
    """
    live = live_state(module, parameters=parameters)
    names = [name for name in kept if name in live and alike(live[name], kept[name])]
    copy_all([live[n] for n in names if kept[n] is not None], [kept[n] for n in names if kept[n] is not None])
    for name in kept.keys() - set(names):
        owner, leaf = _place(module, name)
        value = None if kept[name] is None else clones([kept[name]])[0]
        parameter = owner._parameters.get(leaf)
        if parameter is None:
            owner._buffers[leaf] = value
        else:
            parameter.data = value  # type: ignore[assignment]
    for name in live.keys() - kept.keys():
        owner, leaf = _place(module, name)
        owner._buffers.pop(leaf, None)


@contextmanager
def gradients_kept(module: nn.Module) -> Iterator[None]:
    """Put the gradients of the parameters back as they were on leaving; ART's attacks leave theirs."""
    kept = [(parameter, parameter.grad) for parameter in module.parameters()]
    for parameter, _ in kept:
        parameter.grad = None  # else they would be added to the tensor that is there
    try:
        yield
    finally:
        for parameter, gradient in kept:
            parameter.grad = gradient


def alike(a: Any, b: Any) -> bool:
    """Whether both are tensors of one form, so that values can be copied from one to the other, or both are None."""
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
        return a is None and b is None
    return a.shape == b.shape and a.dtype == b.dtype and a.device == b.device


@torch.no_grad()
def clones(tensors: Sequence[Any]) -> list[Tensor]:
    """Return detached copies, made by one multi-tensor operation for each type."""
    copies = [torch.empty_like(t, requires_grad=False) for t in tensors]
    copy_all(copies, tensors)
    return copies


@torch.no_grad()
def copy_all(targets: Sequence[Any], values: Sequence[Any]) -> None:
    """Copy values into tensors of the same form, bit for bit, by one multi-tensor operation for each type."""
    for some_targets, some_values in by_type(targets, values):
        torch._foreach_copy_(some_targets, some_values)


def by_type(first: Sequence[Any], second: Sequence[Any]) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """Split two lists alike, by the type of the first's tensors: multi-tensor operations are fast on one type."""
    types: dict[Any, tuple[list[Tensor], list[Tensor]]] = {}
    for a, b in zip(first, second, strict=True):
        of_type = types.setdefault((a.dtype, a.device), ([], []))
        of_type[0].append(a)
        of_type[1].append(b)
    yield from types.values()


def _overlaps(t: Tensor) -> bool:
    return not t.is_contiguous() and any(s == 0 and n > 1 for n, s in zip(t.shape, t.stride(), strict=True))


def _place(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    prefix, _, leaf = name.rpartition(".")
    return module.get_submodule(prefix), leaf
