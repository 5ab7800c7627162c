"""Draw docs/architecture.svg from the import directions that tests/test_layers.py allows.

    .venv/bin/python docs/draw_architecture.py

A room stands above all that it may import. Lines that follow from others are left out, and so are those to the shared
modules, which every room may import. A test holds the file against what this draws.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping, Set
from html import escape
from pathlib import Path

PICTURE = Path(__file__).with_name("architecture.svg")

COLUMNS = {
    **dict.fromkeys(("__init__", "recipes", "selecting_trainer", "trainer"), 1.0),
    **{"weighting": 0.0, "objectives": 1.0, "plugins": 2.0, "attacks": 3.0, "training": 1.0, "plots": 5.0},
    **{"augmentations": 0.0, "engine": 3.0, "storage": 2.0, "report": 5.0, "evaluation": 4.5, "loading": 6.0},
    **{"cli": 6.0, "__main__": 6.0, "distributed": 4.0},
}
"""Where a room stands in its row; one that is not named takes the first free place on the right."""

UPWARD = {("plots", "report")}
"""Directions that would close a circle of rooms; test_layers.py says which modules of the rooms they join."""

WIDTH, HEIGHT, COLUMN, ROW = 128, 34, 150, 74
STYLE = (
    "text{font:13px sans-serif;fill:#1b1b1b;text-anchor:middle}rect{fill:#eef3fa;stroke:#3b6ea5}"
    "line{stroke:#777;marker-end:url(#tip)}.both{stroke-dasharray:4 3;marker-start:url(#tip)}"
    ".shared{fill:#f4f4f4;stroke:#999}"
)

Graph = Mapping[str, Set[str]]


def downward(allowed: Graph, shared: Collection[str]) -> Graph:
    """Return the directions between rooms that run one way, without the shared modules."""
    rooms = sorted(name for name in allowed if name not in shared)
    return {a: {b for b in allowed[a] if b in rooms and (a, b) not in UPWARD} for a in rooms}


def reachable(graph: Graph, names: Iterable[str]) -> set[str]:
    """Return the rooms that these lead to, by one step or more."""
    found: set[str] = set()
    todo = [b for a in names for b in graph[a]]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += graph[name]
    return found


def reduced(graph: Graph) -> Graph:
    """Leave out each direction that follows from two others."""
    return {a: {b for b in below if b not in reachable(graph, below - {b})} for a, below in graph.items()}


def rows(graph: Graph) -> dict[str, int]:
    """Return each room's row from the bottom: one above the highest that it may import.

    A room that imports none stands right below the lowest of those that may import it.
    """
    row: dict[str, int] = {}

    def place(name: str) -> int:
        if name not in row:
            row[name] = 1 + max((place(below) for below in graph[name]), default=-1)
        return row[name]

    placed = {name: place(name) for name in graph}
    above = {name: [placed[a] for a, below in graph.items() if name in below] for name in graph}
    return {name: r if graph[name] or not above[name] else min(above[name]) - 1 for name, r in placed.items()}


def columns(row: Mapping[str, int]) -> dict[str, float]:
    """Return each room's column; an unnamed one stands right of all others in its row."""
    column = {name: COLUMNS[name] for name in row if name in COLUMNS}
    for name in sorted(row.keys() - column.keys()):
        column[name] = 1 + max((c for other, c in column.items() if row[other] == row[name]), default=-1.0)
    return column


def draw(allowed: Graph, shared: Collection[str]) -> str:
    """Return the picture, an SVG."""
    graph = downward(allowed, shared)
    row = rows(graph)
    column = columns(row)
    top = max(row.values())
    x = {name: 20 + COLUMN * c for name, c in column.items()}
    y = {name: 20 + ROW * (top - r) for name, r in row.items()}
    arrows = [(a, b) for a, below in reduced(graph).items() for b in sorted(below)]
    lines = [line(x[a], y[a], x[b], y[b], "both" if (b, a) in UPWARD else "") for a, b in arrows]
    boxes = [box(x[name], y[name], WIDTH, name) for name in sorted(row)]
    width, bottom = max(x.values()) + WIDTH + 20, 20 + ROW * (top + 1)
    label = f"{', '.join(sorted(shared))}: every room may import them"
    boxes.append(box(20, bottom, width - 40, label, "shared"))
    return page(width, bottom + HEIGHT + 20, [*lines, *boxes])


def line(x1: float, y1: float, x2: float, y2: float, kind: str = "") -> str:
    """Return an arrow from the bottom of one box to the top of a lower one."""
    name = f' class="{kind}"' if kind else ""
    begin = f'x1="{x1 + WIDTH / 2:g}" y1="{y1 + HEIGHT:g}"'
    return f'<line{name} {begin} x2="{x2 + WIDTH / 2:g}" y2="{y2 - 3:g}"/>'


def box(x: float, y: float, width: float, text: str, kind: str = "") -> str:
    """Return a labelled box."""
    name = f' class="{kind}"' if kind else ""
    rect = f'<rect{name} x="{x:g}" y="{y:g}" width="{width:g}" height="{HEIGHT}" rx="5"/>'
    return f'{rect}<text x="{x + width / 2:g}" y="{y + 22:g}">{escape(text)}</text>'


def page(width: float, height: float, parts: list[str]) -> str:
    """Return the SVG around its parts."""
    tip = (
        '<marker id="tip" markerWidth="7" markerHeight="7" refX="6" refY="3.5" orient="auto-start-reverse">'
        '<path d="M0 0L7 3.5L0 7z" fill="#777"/></marker>'
    )
    size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'
    background = f'<path d="M0 0H{width:g}V{height:g}H0z" fill="#fff"/>'
    return "\n".join([head, f"<style>{STYLE}</style><defs>{tip}</defs>", background, *parts, "</svg>", ""])


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.test_layers import ALLOWED, SHARED

    PICTURE.write_text(draw(ALLOWED, SHARED), encoding="utf-8")
