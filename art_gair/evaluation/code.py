"""The code that objects run: what a function reads beside its arguments, and which packages code comes from."""

from __future__ import annotations

import dis
import functools
import sysconfig
import types
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

VERSIONED = frozenset(("art", "art_gair", "builtins", "numpy", "pyautoattack", "scipy", "torch"))
"""Packages whose version stands in a fingerprint: their classes and functions count by name."""

INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})
"""Where installed code lies; what it reads from its own module does not count."""

PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis), range)
"""Types whose text says all of a value."""

FUNCTIONS = (types.FunctionType, functools.partial)

READ = (*PLAIN, tuple, list, dict, set, frozenset, Tensor, np.ndarray, np.generic, nn.Module, *FUNCTIONS, type)
"""Types of global variables that a function may read and that count."""


def read_globals(function: types.FunctionType) -> dict[str, Any]:
    """Return what a function may read from its module, and from other modules of the user's."""
    asked, names = set(_globals_of(function.__code__)), set(_names(function.__code__))
    read = {name: function.__globals__[name] for name in asked if name in function.__globals__}
    for name, value in list(read.items()):
        if isinstance(value, types.ModuleType) and _is_own(value):
            read |= {f"{name}.{key}": vars(value)[key] for key in names if key in vars(value)}
    return {name: value for name, value in read.items() if isinstance(value, READ)}


def stored_names(cls: type) -> set[str]:
    """Return the attributes that only versioned base classes set: they keep these for themselves.

    An attribute that a class of the user's sets as well is not among them.
    """
    stored: dict[bool, set[str]] = {True: set(), False: set()}
    for base in cls.__mro__:
        functions = [unwrap(value) for value in vars(base).values()]
        codes = [
            code for function in functions if isinstance(function, types.FunctionType) for code in _codes(function)
        ]
        names = {i.argval for code in codes for i in dis.get_instructions(code) if i.opname == "STORE_ATTR"}
        stored[is_versioned(base.__module__)] |= names
    return stored[True] - stored[False]


def _codes(function: types.FunctionType) -> list[types.CodeType]:
    """Return a function's code and that of functions within it; ART wraps methods of attacks."""
    cells = [cell.cell_contents for cell in function.__closure__ or () if cell != types.CellType()]
    inner = [f for f in cells if isinstance(f, types.FunctionType) and f is not function]
    nested = [code for code in function.__code__.co_consts if isinstance(code, types.CodeType)]
    return [function.__code__, *nested, *(code for f in inner for code in _codes(f))]


def _globals_of(code: types.CodeType) -> list[str]:
    own = [i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")]
    return own + [name for part in code.co_consts if isinstance(part, types.CodeType) for name in _globals_of(part)]


def _names(code: types.CodeType) -> list[str]:
    nested = [name for part in code.co_consts if isinstance(part, types.CodeType) for name in _names(part)]
    return [*code.co_names, *nested]


def unwrap(value: Any) -> Any:
    """Return the function behind a method or a property."""
    for name in ("__func__", "fget", "func"):
        if isinstance(value, (staticmethod, classmethod, property, functools.cached_property)):
            value = getattr(value, name, value)
    return value


def generated_code(module: nn.Module) -> str:
    """Return the code of a module that torch has made of another."""
    if not isinstance(module, (torch.jit.ScriptModule, torch.fx.GraphModule)):
        return ""
    try:
        return str(module.code)
    except AttributeError:  # a part without a forward, such as a ModuleList
        return ""


def is_versioned(name: str | None) -> bool:
    """Whether a module of this name belongs to a package of `VERSIONED`."""
    return (name or "").split(".")[0] in VERSIONED


def is_installed(path: str | None) -> bool:
    """Whether a file lies where installed code lies."""
    return path is not None and path.startswith(INSTALLED)


def _is_own(module: types.ModuleType) -> bool:
    """Whether a module is the user's, neither installed nor built in."""
    path = getattr(module, "__file__", None)
    return path is not None and not is_installed(path) and not is_versioned(module.__name__)
