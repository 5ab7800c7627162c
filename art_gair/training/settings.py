"""What a training was set to, by name, so that one that is resumed can be held against it."""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
import types
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from art_gair.engine.precision import find_inexact
from art_gair.hashing import hash_code, hash_tensor

Settings = dict[str, str]
"""Names and descriptions."""

PACKAGES = ("art_gair", "adversarial-robustness-toolbox", "torch", "numpy")

IRRELEVANT = frozenset(("estimator", "classifier", "verbose", "summary_writer", "tensor_board", "last_epoch"))
"""Parameters of attacks and schedulers that do not change what they do, that move, or that are described elsewhere."""

IMPLEMENTATIONS = frozenset(("params", "foreach", "fused", "capturable", "differentiable", "initial_lr"))
"""Entries of an optimizer's parameter groups that do not say what it computes."""

EVERY_MODULE = frozenset(vars(nn.Module()))
"""Attributes that every module has."""

DEPTH = 6
"""How deep objects inside objects are described."""


def describe(name: str, value: Any, depth: int = DEPTH) -> Settings:
    """Describe a value by names and texts that are the same in another process.

    Numbers and texts by themselves; tensors and arrays by a hash; functions by their name, a hash of their code, their
    defaults, what they close over and the plain values that they read; other objects by their class and those
    parameters of its constructor that they keep as attributes of the same name, without what their `state_dict` holds.
    """
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return {name: repr(value)}
    if isinstance(value, np.generic) and not isinstance(value.item(), np.generic):
        return describe(name, value.item())
    if isinstance(value, np.generic):  # a longdouble
        return {name: repr(value)}
    if isinstance(value, (Tensor, np.ndarray)):
        return {name: _describe_array(value)}
    if depth == 0:
        return {name: _name(type(value))}
    return {name: _outline(value), **_describe_all(name, _parts(value), depth - 1)}


def describe_model(module: nn.Module) -> Settings:
    """Describe the architecture: the class and settings of each submodule, the form of each parameter and buffer."""
    found = {}
    for name, part in module.named_modules():
        place = f"model.{name}" if name else "model"
        found[place] = _without_addresses(f"{_name(type(part))}({part.extra_repr()})")
        for leaf, tensor in part._parameters.items():
            found[f"{place}.{leaf}"] = "None" if tensor is None else f"{tuple(tensor.shape)} {tensor.dtype}"
            if tensor is not None and not tensor.requires_grad:
                found[f"{place}.{leaf}"] += ", frozen"
        if not type(part).__module__.startswith("torch."):  # their settings are in extra_repr
            found |= _describe_all(place, _plain_attributes(part), 1)
    return found


def _plain_attributes(part: nn.Module) -> dict[str, Any]:
    """Return public attributes, apart from those of every module, that are numbers, texts or functions."""
    kinds = (bool, int, float, str, types.FunctionType, types.BuiltinFunctionType)
    names = (key for key in vars(part) if not key.startswith("_") and key not in EVERY_MODULE)
    return {key: vars(part)[key] for key in names if isinstance(vars(part)[key], kinds)}


def describe_optimizer(optimizer: torch.optim.Optimizer) -> Settings:
    """Describe an optimizer by its class and the settings of its parameter groups."""
    found = {"optimizer": _name(type(optimizer))}
    for i, group in enumerate(optimizer.param_groups):
        place = "optimizer" if len(optimizer.param_groups) == 1 else f"optimizer.param_groups[{i}]"
        found[f"{place}.params"] = f"{len(group['params'])} tensors"
        for key, value in group.items():
            if key not in IMPLEMENTATIONS:
                found |= describe(f"{place}.{key}", value)
    return found


_optimizers: WeakKeyDictionary[torch.optim.Optimizer, tuple[Settings, Settings]] = WeakKeyDictionary()
"""The settings that an optimizer's last training began with, and those that it left; the loss's as well."""


def settings_made_with(optimizer: torch.optim.Optimizer, loss: nn.Module, module: nn.Module) -> Settings:
    """Return the settings that an optimizer and a loss were made with, as a new process finds them.

    A training changes them, by a scheduler say, or since the loss remembers its calls. Where the last one left them,
    those that it began with count, so that it can be resumed with the same objects too.
    """
    now = {**describe_optimizer(optimizer), **describe_loss(loss, module)}
    begun, left = _optimizers.get(optimizer, (now, now))
    return begun if now == left else now


def note_settings_left(optimizer: torch.optim.Optimizer, loss: nn.Module, module: nn.Module, begun: Settings) -> None:
    """Note that a training which began with these settings has ended."""
    _optimizers[optimizer] = begun, {**describe_optimizer(optimizer), **describe_loss(loss, module)}


def describe_loss(loss: nn.Module, module: nn.Module | None = None) -> Settings:
    """Describe a loss by its class, its public attributes of plain types, and its buffers.

    :param module: the model, whose parameters a loss may refer to; they are no setting of it.
    """
    own = set() if module is None else {id(p) for p in module.parameters()}
    plain = {k: v for k, v in vars(loss).items() if not k.startswith("_") and k != "training" and not _holds(v, own)}
    return {"loss": _name(type(loss)), **_describe_all("loss", {**plain, **dict(loss.named_buffers())}, 1)}


def _holds(value: Any, parameters: set[int]) -> bool:
    """Whether a value is one of some parameters, or a list, dictionary or module with one of them."""
    entries: Any = [value]
    if isinstance(value, nn.Module):
        entries = value.parameters()
    elif isinstance(value, (list, tuple, set, dict)):
        entries = value.values() if isinstance(value, dict) else value
    return any(id(entry) in parameters for entry in entries)


def describe_environment(device: torch.device) -> Settings:
    """Describe what a training runs on."""
    found = {"device": device.type, "threads": str(torch.get_num_threads()), **find_inexact(device)}
    if device.type == "cpu":
        found["processor"] = torch.backends.cpu.get_cpu_capability()
    for package in PACKAGES:
        try:
            found[f"version of {package}"] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _describe_all(name: str, parts: dict[str, Any], depth: int) -> Settings:
    found: Settings = {}
    for key, value in parts.items():
        found |= describe(f"{name}{key}" if key.startswith("[") else f"{name}.{key}", value, depth)
    return found


def _parts(value: Any) -> dict[str, Any]:
    """Return what a value is made of, by name; names of entries are in brackets."""
    if isinstance(value, (list, tuple)):
        return {f"[{i}]": entry for i, entry in enumerate(value)}
    if isinstance(value, dict):
        return {f"[{_name(key) if callable(key) else repr(key)}]": entry for key, entry in value.items()}
    if isinstance(value, (set, frozenset)):
        return {f"[{i}]": entry for i, entry in enumerate(sorted(value, key=repr))}
    if isinstance(value, functools.partial):
        return {"func": value.func, "args": value.args, "keywords": value.keywords}
    if isinstance(value, types.MethodType):
        return {"__self__": value.__self__}
    if isinstance(value, types.FunctionType):
        return _closed_over(value)
    if isinstance(value, nn.Module):
        return {key: t for key, t in value.state_dict().items() if isinstance(t, Tensor)}
    return _kept_parameters(value, _state_names(value))


def describe_made(name: str, value: Any) -> Settings:
    """Describe an object by its class and what it was made with, also where its `state_dict` holds that."""
    return {name: _name(type(value)), **_describe_all(name, _kept_parameters(value, moving=set()), DEPTH)}


def _kept_parameters(value: Any, moving: set[str]) -> dict[str, Any]:
    """Return the constructor's parameters that an object keeps, as `name` or `_name`, apart from those that move."""
    kept = {}
    for key in _parameters(value):
        attribute = next((name for name in (key, f"_{key}") if hasattr(value, name)), None)
        if attribute is not None and key not in moving and attribute not in moving:
            kept[key] = getattr(value, attribute)
    return kept


def _state_names(value: Any) -> set[str]:
    """Return the names of what moves in training, by its `state_dict`; some objects have none before they start."""
    if not (hasattr(value, "state_dict") and hasattr(value, "load_state_dict")):
        return set()
    try:
        return set(value.state_dict())
    except Exception:
        return set()


def _closed_over(function: types.FunctionType) -> dict[str, Any]:
    found = dict(zip(function.__code__.co_freevars, (cell for cell in function.__closure__ or ()), strict=True))
    cells = {key: cell.cell_contents for key, cell in found.items() if cell != types.CellType()}
    named = {key: function.__globals__[key] for key in function.__code__.co_names if key in function.__globals__}
    read = {key: value for key, value in named.items() if isinstance(value, (bool, int, float, str, tuple))}
    defaults = {"defaults": function.__defaults__, "kwdefaults": function.__kwdefaults__}
    return {**read, **cells, **{key: value for key, value in defaults.items() if value}}


def _parameters(value: Any) -> list[str]:
    if isinstance(value, type) or inspect.isroutine(value):
        return []
    if hasattr(value, "attack_params"):
        return [key for key in value.attack_params if key not in IRRELEVANT]
    names: dict[str, None] = {}
    for cls in type(value).__mro__[:-1]:  # a subclass may pass on what it does not name
        try:
            names |= dict.fromkeys(inspect.signature(cls).parameters)
        except (TypeError, ValueError):
            continue
    return [key for key in names if key not in IRRELEVANT]


def _outline(value: Any) -> str:
    """Return what a value is, apart from its parts."""
    if isinstance(value, (list, tuple, dict, set, frozenset)):
        return f"{type(value).__name__} of {len(value)}"
    if isinstance(value, nn.Module):
        return _without_addresses(repr(value))
    function = value.__func__ if isinstance(value, types.MethodType) else value
    if isinstance(function, types.FunctionType):
        return f"{_name(function)} {hash_code(function.__code__)}"
    return _name(value) if isinstance(value, type) or inspect.isroutine(value) else _name(type(value))


def _describe_array(value: Any) -> str:
    if isinstance(value, Tensor):
        dense = value if value.layout == torch.strided else value.to_dense()
        return f"{tuple(value.shape)} {hash_tensor(dense)[:16]}"
    if value.dtype.kind not in "biufc":
        return f"array {value.shape} of {value.dtype}"
    content = hashlib.sha256(value.dtype.str.encode() + np.ascontiguousarray(value).tobytes())
    return f"{value.shape} {content.hexdigest()[:16]}"


def _without_addresses(text: str) -> str:
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def _name(value: Any) -> str:
    """Return a class or function by its name; its module is another one in a script than in an import of it."""
    name: str = getattr(value, "__qualname__", type(value).__qualname__)
    return name
