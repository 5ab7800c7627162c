"""The page on the architecture says what tests/test_layers.py allows."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import draw_architecture as drawing

from tests.test_layers import ALLOWED, SHARED

PAGE = (Path(__file__).parents[1] / "docs/architecture.md").read_text(encoding="utf-8")


def test_the_picture_shows_the_allowed_directions() -> None:
    assert drawing.PICTURE.read_text(encoding="utf-8") == drawing.draw(ALLOWED, SHARED), (
        "ALLOWED in tests/test_layers.py has changed: run python docs/draw_architecture.py"
    )


def test_each_room_has_a_paragraph() -> None:
    assert sorted(re.findall(r"^\*\*`(\w+)`\*\*", PAGE, flags=re.MULTILINE)) == sorted(ALLOWED.keys() - SHARED)
    for shared in SHARED:
        assert f"`{shared}`" in PAGE


def test_a_room_stands_above_all_that_it_may_import() -> None:
    graph = drawing.downward(ALLOWED, SHARED)
    row = drawing.rows(graph)
    assert all(row[a] > row[b] for a, below in graph.items() for b in below)


def test_lines_that_are_left_out_follow_from_others() -> None:
    graph = drawing.downward(ALLOWED, SHARED)
    kept = drawing.reduced(graph)
    assert all(drawing.reachable(kept, [room]) == drawing.reachable(graph, [room]) for room in graph)
    assert sum(map(len, kept.values())) < sum(map(len, graph.values()))


def test_a_new_room_finds_a_free_place() -> None:
    with_room = {**ALLOWED, "new": {"engine", *SHARED}, "training": {"new", *ALLOWED["training"]}}
    row = drawing.rows(drawing.downward(with_room, SHARED))
    column = drawing.columns(row)
    assert row["engine"] < row["new"] < row["training"]
    places = [(row[name], column[name]) for name in row]
    assert len(set(places)) == len(places)
    ET.fromstring(drawing.draw(with_room, SHARED))
