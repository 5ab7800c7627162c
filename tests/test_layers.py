"""Imports run one way: a room may import only from the rooms that its line in ALLOWED names."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "art_gair"

SHARED = {"checks", "generators", "hashing", "logits", "schedules", "whole_batch"}
PARTS = {"attacks", "weighting", "objectives", "plugins"}

ALLOWED: dict[str, set[str]] = {
    **dict.fromkeys(SHARED, SHARED),
    "engine": SHARED,
    "distributed": SHARED,
    "storage": SHARED,
    **{part: {"engine", *SHARED} for part in PARTS},
    "plugins": {"engine", "storage", *SHARED},
    "training": {*PARTS, "engine", "distributed", *SHARED},
    "trainer": {"training", *PARTS, "engine", "distributed", *SHARED},
    "augmentations": SHARED,
    "selecting_trainer": {"trainer", "attacks", "plugins", "distributed", *SHARED},
    "recipes": {"selecting_trainer", "trainer", *PARTS, "engine", *SHARED},
    "report": {"plots", *SHARED},
    "plots": {"report", "engine", *SHARED},
    "evaluation": {"attacks", "engine", "distributed", "report", *SHARED},
    "loading": SHARED,
    "cli": {"loading", "evaluation", "report", "plots", *SHARED},
    "__main__": {"cli"},
    "__init__": {"trainer", "recipes", "evaluation", "report", *PARTS},
}
"""Room or top-level module: what it may import beside itself."""

REPORT_DATA = {f"art_gair.report.{module}" for module in ("data", "results", "statistics", "codec", "text")}
"""The lower half of report/, which figures and measurements may use; the writing above it uses the figures."""

SAVE = ("art_gair.report.data", "art_gair.report.save")
"""RobustnessReport.save calls the writing above it: the one import that runs the other way."""


def modules() -> dict[str, Path]:
    """Return every module of the package by its dotted name."""
    names = {}
    for path in ROOT.rglob("*.py"):
        parts = ["art_gair", *path.relative_to(ROOT).with_suffix("").parts]
        names[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)] = path
    return names


MODULES = modules()


def imports(name: str) -> Iterator[str]:
    """Yield the modules of the package that a module imports, lazily or not; those for type checkers alone are left."""
    todo: list[ast.AST] = [ast.parse(MODULES[name].read_text(encoding="utf-8"))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            todo += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("art_gair."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "art_gair":
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in MODULES else str(node.module)
        todo += ast.iter_child_nodes(node)


def room(module: str) -> str:
    """Return the room of a module: the folder or the file below art_gair."""
    return module.split(".")[1] if "." in module else "__init__"


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_room_imports_only_what_it_may(name: str) -> None:
    for imported in imports(name):
        assert room(imported) == room(name) or room(imported) in ALLOWED[room(name)], f"{name} imports {imported}"


@pytest.mark.parametrize("name", [m for m in sorted(MODULES) if room(m) in ("plots", "evaluation")])
def test_figures_and_measurements_use_the_data_of_a_report_and_not_its_writing(name: str) -> None:
    if name == "art_gair.evaluation":
        return  # its public names include `compare`
    for imported in imports(name):
        assert room(imported) != "report" or imported in REPORT_DATA, f"{name} imports {imported}"


def test_nothing_imports_the_trainer_but_recipes_and_the_package() -> None:
    importers = {name for name in MODULES if "art_gair.trainer" in imports(name)}
    assert importers == {"art_gair.recipes", "art_gair.selecting_trainer", "art_gair.__init__"}


def test_no_circle_but_that_of_saving_a_report() -> None:
    edges = {name: {i for i in imports(name) if i != name and (name, i) != SAVE} for name in MODULES}
    packages = {name for name in MODULES if MODULES[name].name == "__init__.py"}
    graph = {name: {i for i in targets if i not in packages} for name, targets in edges.items() if name not in packages}
    list(TopologicalSorter(graph).static_order())  # raises CycleError, naming the circle
