"""Hashes of what objects hold and of the code that they run, the same in another process."""

from __future__ import annotations

import copyreg
import hashlib
import inspect
import re
import sys
import types
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from art.attacks import Attack
from art.estimators import BaseEstimator
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from art_gair.evaluation.code import (
    PLAIN,
    generated_code,
    is_installed,
    is_versioned,
    read_globals,
    stored_names,
    unwrap,
)
from art_gair.hashing import hash_code, hash_tensor

OPAQUE = ("torch._dynamo", "torch._inductor", "torch.fx")
"""Modules whose objects hold what torch makes of a model, apart from the model itself."""

STANDARD = frozenset(vars(nn.Module()))
"""Attributes that every module has."""

HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
"""A module's own functions that run beside its forward and backward pass."""

IRRELEVANT = frozenset(
    (
        *("estimator", "verbose", "summary_writer", "tensor_board"),
        "_optimizer",
        "_broadcastable_mean",
        "_broadcastable_std",
    )
)
"""What ART's objects hold that does not change results, that a first use makes, or that is described elsewhere."""

DEPTH = 40
"""How deep objects inside objects are described."""


class Describer:
    """Describes objects by hashes; an object that is met again is not gone through again.

    :param named: objects that count by a name alone.
    """

    def __init__(self, named: Sequence[tuple[Any, str]] = ()) -> None:
        self.known = {id(value): name for value, name in named}
        self.kept: list[Any] = [value for value, _ in named]
        self.above: list[int] = []

    def describe(self, value: Any) -> str:
        """Return a text of fixed length, or the value itself where it is plain."""
        if isinstance(value, PLAIN) and type(value) in PLAIN:
            return repr(value)
        if id(value) in self.known:
            return self.known[id(value)]
        if id(value) in self.above:
            return f"the object {len(self.above) - self.above.index(id(value))} levels above"
        if len(self.above) == DEPTH:
            return _name(type(value))
        self.above.append(id(value))
        try:
            text = _digest(self._describe(value))
        except Exception:  # an object that cannot be looked into
            text = _name(type(value))
        finally:
            self.above.pop()
        self.known[id(value)] = text
        self.kept.append(value)  # so that its id stays its own
        return text

    def _describe(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return _describe_tensor(value)
        if isinstance(value, (np.ndarray, np.generic)):
            return self._array(np.asarray(value))
        if isinstance(value, nn.Module):
            return self.module(value)
        if isinstance(value, type):
            return self.cls(value)
        if isinstance(value, types.ModuleType):
            return value.__name__
        if isinstance(value, types.MethodType):
            return "method", self.describe(value.__func__), self.describe(value.__self__)
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if inspect.isroutine(value):
            return _name(value), self.describe(getattr(value, "__self__", None))
        return self.cls(type(value)), self._parts(value)

    def module(self, module: nn.Module) -> dict[str, Any]:
        """Describe a model by all that its passes depend on."""
        return {
            "values": self.values(module),
            "architecture": describe_architecture(module),
            "attributes": self.attributes(module),
            "source": self.sources(module),
            "hooks": self.hooks(module),
        }

    def values(self, module: nn.Module) -> dict[str, str]:
        """Describe parameters and buffers, those that are not saved too."""
        state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        return {name: _describe_tensor(value) for name, value in state.items()}

    def attributes(self, module: nn.Module) -> list[dict[str, str]]:
        """Describe each module's own attributes."""
        return [self._attributes(vars(m), STANDARD) for m in module.modules() if not _is_compiled(m)]

    def sources(self, module: nn.Module) -> list[str]:
        """Describe the code of each class of module."""
        return sorted({f"{self.describe(type(m))} {generated_code(m)}" for m in module.modules()})

    def hooks(self, module: nn.Module) -> dict[str, dict[str, Any]]:
        """Describe the hooks of modules by their names, and those of all modules."""
        held = {name: {key: list(getattr(m, key, {}).values()) for key in HOOKS} for name, m in module.named_modules()}
        held["every module"] = find_hooks_of_all()
        return {
            name: {key: self._all(hooks) for key, hooks in of.items()} for name, of in held.items() if any(of.values())
        }

    def cls(self, cls: type) -> list[Any]:
        """Describe a class by the functions and values of itself and its bases."""
        return [(_name(base), self._body(base)) for base in cls.__mro__ if base is not object]

    def _body(self, cls: type) -> dict[str, str]:
        if is_versioned(cls.__module__):
            return {}
        held = {key: unwrap(value) for key, value in sorted(vars(cls).items())}
        functions = {key: value for key, value in held.items() if isinstance(value, types.FunctionType)}
        path = getattr(sys.modules.get(cls.__module__), "__file__", None)
        values = {} if is_installed(path) else {k: v for k, v in held.items() if not k.startswith("__")}
        return {key: self.describe(value) for key, value in {**functions, **values}.items()}

    def _function(self, function: types.FunctionType) -> Any:
        if function.__globals__.get("__name__", "").startswith(OPAQUE):
            return _name(function), self.describe(getattr(function, "_torchdynamo_orig_callable", None))
        if is_versioned(function.__globals__.get("__name__")) and not function.__closure__:
            return _name(function)
        cells = [cell.cell_contents for cell in function.__closure__ or () if cell != types.CellType()]
        defaults = function.__defaults__, function.__kwdefaults__
        attributes = self._attributes(vars(function))
        read = {} if is_installed(function.__code__.co_filename) else self._attributes(read_globals(function))
        code = function.__qualname__, hash_code(function.__code__)
        return *code, self._all(cells), self.describe(defaults), attributes, read

    def _array(self, array: np.ndarray[Any, Any]) -> Any:
        form = array.dtype.str, array.shape
        if array.dtype.names:  # apart, since there may be random bytes between them
            return form, {name: self._array(array[name]) for name in array.dtype.names}
        if array.dtype.hasobject:
            return form, self._all(array.ravel().tolist())
        return form, hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).hexdigest()

    def _parts(self, value: Any) -> Any:
        """Describe what an object holds: entries, attributes, or else what pickle keeps of it."""
        if isinstance(value, (set, frozenset)):
            return sorted(self._all(value)), self._held(value)
        if isinstance(value, dict):
            return [(self.describe(key), self.describe(v)) for key, v in value.items()], self._held(value)
        if isinstance(value, (list, tuple)):
            return self._all(value), self._held(value)
        if isinstance(value, PLAIN):
            base: Any = next(cls for cls in type(value).__mro__ if cls in PLAIN)
            return base.__repr__(value), self._held(value)
        if type(value).__module__.startswith(OPAQUE):
            return None
        return self._object(value)

    def _object(self, value: Any) -> Any:
        if isinstance(value, Attack):
            return self.attack(value)
        if isinstance(value, BaseEstimator) or type(value).__module__.startswith("art."):
            return self._attributes(vars(value), IRRELEVANT)
        if callable(getattr(value, "get_weights", None)):  # a Keras model, whose pickle holds the time
            return self._all(value.get_weights()), self.describe(value.get_config())
        return self._reduced(value)

    def attack(self, attack: Any) -> Any:
        """Describe an attack by its class, its settings, what a user's class adds, and the classifier it runs on."""
        settings = {name: getattr(attack, name, None) for name in attack.attack_params}
        kept = {name for name in stored_names(type(attack)) if is_versioned(type(vars(attack).get(name)).__module__)}
        added = self._attributes(vars(attack), {*kept, *settings})
        held = self._attributes(settings, IRRELEVANT)
        return self.describe(type(attack)), held, added, self.describe(getattr(attack, "estimator", None))

    def _reduced(self, value: Any) -> Any:
        """Describe what pickle keeps of an object, or its attributes where it cannot be pickled."""
        try:
            reducer: Any = copyreg.dispatch_table.get(type(value), _reduce)
            reduced = reducer(value)
        except Exception:
            return self._held(value)
        if isinstance(reduced, str):
            return reduced
        function, arguments, state, *entries = (*reduced, None, None, None)[:5]
        lists = [self._all(part or ()) for part in entries]
        return self.describe(function), self.describe(arguments), self.describe(state), lists

    def _held(self, value: Any) -> dict[str, str]:
        return self._attributes(getattr(value, "__dict__", {}))

    def _attributes(self, held: dict[str, Any], without: Iterable[str] = ()) -> dict[str, str]:
        return {name: self.describe(value) for name, value in sorted(held.items()) if name not in without}

    def _all(self, values: Iterable[Any]) -> list[str]:
        return [self.describe(value) for value in values]


def find_hooks_of_all() -> dict[str, list[Any]]:
    """Return torch's hooks that run for every module."""
    return {name: list(getattr(torch_module, f"_global{name}", {}).values()) for name in HOOKS}


def describe_architecture(module: nn.Module) -> str:
    """Return a module's text, without addresses."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(module))


def _describe_tensor(tensor: Tensor) -> str:
    try:
        return hash_tensor(tensor if tensor.layout == torch.strided else tensor.to_dense())
    except Exception:  # a quantized or nested one
        return f"{type(tensor).__qualname__} {tensor.dtype} {tensor.layout}"


def _reduce(value: Any) -> Any:
    return value.__reduce_ex__(4)


def _is_compiled(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch._dynamo")


def _name(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"


def _digest(description: Any) -> str:
    return hashlib.sha256(repr(description).encode()).hexdigest()
