"""What the package makes public: whatever takes an argument must be a target, or say here why it is none."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import ModuleType
from typing import Any

import art_gair
from art_gair.plugins import Plugin

DOORS = ("art_gair.schedules", "art_gair.recipes", "art_gair.training.semi_supervised")
"""Modules without `__all__` whose names are for users."""

INTERNAL = ("art_gair.engine", "art_gair.storage", "art_gair.__main__")
"""Rooms that users do not call, and what would run the command line."""

HOOKS = {name for name in vars(Plugin) if not name.startswith("_")} | {"log_weights", "scaled", "total"}
"""Methods that a training calls, and that users write."""

CALLED_BY_A_TRAINING = "what it is given comes from a training"
RECORD = "a record that the package makes"
ABSTRACT = "a base class or protocol"

EXEMPT = {
    "attacks.geometry_aware_pgd.GeometryAwarePGD.on_batches": CALLED_BY_A_TRAINING,
    "objectives.arow.ARoW.__call__": CALLED_BY_A_TRAINING,
    "objectives.at.AT.__call__": CALLED_BY_A_TRAINING,
    "objectives.composite_kl.CompositeKL.__call__": CALLED_BY_A_TRAINING,
    "objectives.mart.MART.__call__": CALLED_BY_A_TRAINING,
    "objectives.trades.TRADES.__call__": CALLED_BY_A_TRAINING,
    "weighting.base.InstanceWeighting.lam_at": CALLED_BY_A_TRAINING,
    "weighting.mixed.Mixed.lam_at": CALLED_BY_A_TRAINING,
    "schedules.value_at": CALLED_BY_A_TRAINING,
    "objectives.base.Batch": RECORD,
    "objectives.base.Terms": RECORD,
    "recipes.Preset": RECORD,
    "report.data.RobustnessReport": RECORD,
    "report.results.Flag": RECORD,
    "objectives.base.Objective.__call__": ABSTRACT,
    "weighting.base.Weighting": ABSTRACT,
    "weighting.base.Weighting.__call__": ABSTRACT,
}


def find_public() -> set[str]:
    """Return the names of the public classes, functions and methods that take an argument; hooks are left out."""
    modules = [module.name for module in pkgutil.walk_packages(art_gair.__path__, "art_gair.")]
    found: set[str] = set()
    for name in ("art_gair", *(module for module in modules if not module.startswith(INTERNAL))):
        for value in _public_values(importlib.import_module(name)):
            found |= {name_of(v) for v in (value, *_methods(value)) if _takes_arguments(v)}
    return found


def name_of(value: Any) -> str:
    """Return module and name of a class, function or method."""
    return f"{value.__module__.removeprefix('art_gair.')}.{value.__qualname__}"


def _public_values(module: ModuleType) -> list[Any]:
    named = [getattr(module, name) for name in getattr(module, "__all__", ())]
    if module.__name__ in DOORS:
        own = {name: v for name, v in vars(module).items() if getattr(v, "__module__", None) == module.__name__}
        named = [value for name, value in own.items() if not name.startswith("_")]
    return [v for v in named if inspect.isfunction(v) or (inspect.isclass(v) and not issubclass(v, BaseException))]


def _methods(value: Any) -> list[Any]:
    """Return the public methods that a class defines itself, its call among them, but for hooks."""
    if not inspect.isclass(value):
        return []
    names = [name for name in vars(value) if name == "__call__" or not (name.startswith("_") or name in HOOKS)]
    return [getattr(value, name) for name in names if inspect.isroutine(getattr(value, name))]


def _takes_arguments(value: Any) -> bool:
    return bool([name for name in inspect.signature(value).parameters if name != "self"])
