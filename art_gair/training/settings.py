"""What a training was set to, by name, so that one that is resumed can be held against it."""

from __future__ import annotations

import functools
import hashlib
import inspect
import types
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from art_gair.hashing import hash_tensor

Settings = dict[str, str]
"""Names and descriptions."""

PACKAGES = ("art_gair", "adversarial-robustness-toolbox", "torch", "numpy")

IRRELEVANT = frozenset(("estimator", "classifier", "verbose", "summary_writer", "tensor_board"))
"""Parameters of an attack that do not change what it finds, or that are described elsewhere."""

IMPLEMENTATIONS = frozenset(("params", "foreach", "fused", "capturable", "differentiable", "initial_lr"))
"""Entries of an optimizer's parameter groups that do not say what it computes."""

DEPTH = 6
"""How deep objects inside objects are described."""


def describe(name: str, value: Any, depth: int = DEPTH) -> Settings:
    """Describe a value by names and texts that are the same in another process.

    Numbers and texts by themselves; tensors and arrays by a hash; functions by their name, a hash of their code, their
    defaults and what they close over; other objects by their class and those parameters of its constructor that they
    keep as attributes of the same name.
    """
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return {name: repr(value)}
    if isinstance(value, np.generic):
        return describe(name, value.item())
    if isinstance(value, (Tensor, np.ndarray)):
        return {name: _describe_array(value)}
    if depth == 0:
        return {name: _name(type(value))}
    return {name: _outline(value), **_describe_all(name, _parts(value), depth - 1)}


def describe_model(module: nn.Module) -> Settings:
    """Describe the architecture: the class and settings of each submodule, the form of each parameter and buffer."""
    found = {}
    for name, part in module.named_modules():
        found[f"model.{name}" if name else "model"] = f"{_name(type(part))}({part.extra_repr()})"
        tensors = {**part._parameters, **part._buffers}
        for leaf, tensor in tensors.items():
            place = f"model.{name}.{leaf}" if name else f"model.{leaf}"
            found[place] = "None" if tensor is None else f"{tuple(tensor.shape)} {tensor.dtype}"
            if leaf in part._parameters and tensor is not None and not tensor.requires_grad:
                found[place] += ", frozen"
    return found


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


class OptimizerSettings:
    """The settings that a classifier's optimizer was made with, as a new process finds them.

    A training changes them, by a scheduler say. Where the last training of this trainer left them, those that it began
    with count, so that it can be resumed with the same objects too.
    """

    def __init__(self, classifier: Any) -> None:
        self.classifier = classifier
        self._begun: Settings = {}
        self._left: Settings | None = None

    def begun(self) -> Settings:
        """Return the settings that count for a training which begins now."""
        now = describe_optimizer(self.classifier.optimizer)
        if now != self._left:
            self._begun = now
        return self._begun

    def left(self) -> None:
        """Note that a training has ended."""
        self._left = describe_optimizer(self.classifier.optimizer)


def describe_loss(loss: nn.Module) -> Settings:
    """Describe a loss by its class, its public attributes of plain types, and its buffers."""
    plain = {k: v for k, v in vars(loss).items() if not k.startswith("_") and k != "training"}
    return {"loss": _name(type(loss)), **_describe_all("loss", {**plain, **dict(loss.named_buffers())}, 1)}


def describe_environment(device: torch.device) -> Settings:
    """Describe what a training runs on."""
    found = {"device": device.type, "threads": str(torch.get_num_threads())}
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
        return {f"[{key!r}]": entry for key, entry in value.items()}
    if isinstance(value, functools.partial):
        return {"func": value.func, "args": value.args, "keywords": value.keywords}
    if isinstance(value, types.MethodType):
        return {"__self__": value.__self__}
    if isinstance(value, types.FunctionType):
        return _closed_over(value)
    if isinstance(value, nn.Module):
        return {key: t for key, t in value.state_dict().items() if isinstance(t, Tensor)}
    return {key: getattr(value, key) for key in _parameters(value) if hasattr(value, key)}


def _closed_over(function: types.FunctionType) -> dict[str, Any]:
    found = dict(zip(function.__code__.co_freevars, (cell for cell in function.__closure__ or ()), strict=True))
    cells = {key: cell.cell_contents for key, cell in found.items() if cell != types.CellType()}
    return {**cells, **({"defaults": function.__defaults__} if function.__defaults__ else {})}


def _parameters(value: Any) -> list[str]:
    if isinstance(value, type) or inspect.isroutine(value):
        return []
    if hasattr(value, "attack_params"):
        return [key for key in value.attack_params if key not in IRRELEVANT]
    try:
        return [key for key in inspect.signature(type(value)).parameters if key not in IRRELEVANT]
    except (TypeError, ValueError):
        return []


def _outline(value: Any) -> str:
    """Return what a value is, apart from its parts."""
    if isinstance(value, (list, tuple, dict)):
        return f"{type(value).__name__} of {len(value)}"
    if isinstance(value, nn.Module):
        return repr(value)
    function = value.__func__ if isinstance(value, types.MethodType) else value
    if isinstance(function, types.FunctionType):
        return f"{_name(function)} {_hash_code(function.__code__)}"
    return _name(value) if isinstance(value, type) or inspect.isroutine(value) else _name(type(value))


def _hash_code(code: types.CodeType) -> str:
    constants = [_describe_constant(constant) for constant in code.co_consts]
    return hashlib.sha256(repr((code.co_code, constants, code.co_names)).encode()).hexdigest()[:16]


def _describe_constant(constant: Any) -> str:
    if isinstance(constant, types.CodeType):
        return _hash_code(constant)
    return repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant)


def _describe_array(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.dtype.kind not in "biufc":
        return f"array {value.shape} of {value.dtype}"
    tensor = value if isinstance(value, Tensor) else torch.from_numpy(np.ascontiguousarray(value))
    return f"{tuple(tensor.shape)} {hash_tensor(tensor)[:16]}"


def _name(value: Any) -> str:
    """Return a class or function by its name; its module is another one in a script than in an import of it."""
    name: str = getattr(value, "__qualname__", type(value).__qualname__)
    return name
