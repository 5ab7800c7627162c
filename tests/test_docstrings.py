"""The examples in the package's docstrings run, and give what they show."""

from __future__ import annotations

import doctest
import importlib

import pytest

from tests.test_layers import MODULES

WITH_EXAMPLES = sorted(name for name, path in MODULES.items() if ">>> " in path.read_text(encoding="utf-8"))


def test_there_are_examples() -> None:
    assert {"art_gair.schedules", "art_gair.weighting.geometry"} <= set(WITH_EXAMPLES)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_a_module_give_what_they_show(name: str) -> None:
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.attempted > 0
    assert outcome.failed == 0
