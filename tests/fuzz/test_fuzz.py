"""Whatever it is given, a public function works or refuses, naming the argument, and a refusal leaves no trace.

`make test` runs some 2,200 cases. The long form prints what became of them:

    ART_GAIR_FUZZ=50000 .venv/bin/python -m pytest tests/fuzz -q
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz.case import Playground, Target, mutations, run
from tests.fuzz.public import EXEMPT, find_public, name_of
from tests.fuzz.reports import read_changed, report_content
from tests.fuzz.table import TARGETS
from tests.fuzz.values import Value

pytestmark = pytest.mark.xdist_group("fuzz")  # one process counts all cases

LEAST = 2000
DEFAULT = 2200
CASES = int(os.environ.get("ART_GAIR_FUZZ", DEFAULT))
COUNTS: dict[str, Counter[str]] = {}
"""Cases by target, and what became of them."""

JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5)),
    lambda values: st.one_of(st.lists(values, max_size=5), st.dictionaries(st.text(max_size=5), values, max_size=3)),
    max_leaves=6,
)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def playground(tmp_path_factory: pytest.TempPathFactory) -> Playground:
    return Playground(tmp_path_factory.mktemp("fuzz"))


def as_many(cases: int) -> settings:
    """Return how hypothesis draws so many cases: the same in each run, without looking for smaller ones."""
    return settings(max_examples=cases, suppress_health_check=list(HealthCheck), phases=[Phase.generate])


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_valid_call_works(target: Target, playground: Playground) -> None:
    assert run(target, {}, playground) == "worked"


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_call_works_or_refuses_by_name_and_leaves_no_trace(target: Target, playground: Playground) -> None:
    counts = COUNTS.setdefault(target.name, Counter())

    @as_many(max(1, round(CASES * target.share / sum(t.share for t in TARGETS))))
    @given(replaced=mutations(target))
    def call(replaced: dict[str, Value]) -> None:
        counts[run(target, replaced, playground)] += 1

    call()


def test_a_file_of_a_report_that_was_changed_is_refused_or_used(playground: Playground) -> None:
    content = json.dumps(report_content())
    counts = COUNTS.setdefault("a changed file of a report", Counter())

    @as_many(CASES // 25)
    @given(data=st.data(), value=JSON_VALUES)
    def call(data: st.DataObject, value: Any) -> None:
        with playground.entered():
            outcome = read_changed(json.loads(content), data.draw, value)
        assert outcome in ("worked", "refused")
        counts[outcome] += 1

    call()


def test_every_public_function_is_a_target() -> None:
    targets = {name_of(target.function) for target in TARGETS}
    public = find_public()
    assert public - targets - EXEMPT.keys() == set(), "neither a target nor exempt"
    assert EXEMPT.keys() - public == set(), "exempt, but not public any more"
    assert targets - public == set(), "a target, but not public any more"


def test_enough_cases_were_run(capsys: pytest.CaptureFixture[str]) -> None:
    if len(COUNTS) <= len({target.name for target in TARGETS}):
        pytest.skip("only some of the targets were run")
    total = sum(COUNTS.values(), Counter[str]())
    if CASES != DEFAULT:
        with capsys.disabled():
            for name, counts in COUNTS.items():
                print(f"\n{name}: {sum(counts.values())} cases, {dict(counts)}", end="")  # noqa: T201
            print(f"\nall: {sum(total.values())} cases, {dict(total)}")  # noqa: T201
    assert total["worked"] + total["refused"] >= min(LEAST, CASES)
