"""Finds what the package holds, so that nothing new stays untested."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any

import art_gair


def concrete_subclasses(base: type[Any]) -> set[type[Any]]:
    """Return every class of the package that derives from base and can be made."""
    for module in pkgutil.walk_packages(art_gair.__path__, "art_gair."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    classes: set[type[Any]] = set()
    todo = list(base.__subclasses__())
    while todo:
        cls = todo.pop()
        todo += cls.__subclasses__()
        if cls.__module__.startswith("art_gair.") and not inspect.isabstract(cls):
            classes.add(cls)
    return classes
