"""A training on several processes is the training on one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from art_gair.distributed.share import gathered, split
from tests.distributed.cases import CASES, train_all
from tests.distributed.launch import launch

pytestmark = pytest.mark.xdist_group(__name__)

SIZES = [50]
"""Samples, in batches of 16: the last one has 2, which leave one of three processes none."""


@pytest.fixture(scope="module")
def alone() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield train_all([*CASES], SIZES)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=[2, pytest.param(3, marks=pytest.mark.slow)])
def together(request: pytest.FixtureRequest) -> list[Any]:
    return launch(request.param, train_all, [*CASES], SIZES, seconds=200.0)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("case", CASES)
def test_the_same_parameters_and_history(case: str, n: int, alone: Any, together: list[Any]) -> None:
    state, history = alone[case, n]
    for found in together:
        assert isinstance(found, dict), found
        other_state, other_history = found[case, n]
        for name, value in state.items():
            np.testing.assert_allclose(other_state[name], value, rtol=0, atol=1e-10, err_msg=name)
        assert_alike(other_history, history)
        assert all(torch.equal(value, together[0][case, n][0][name]) for name, value in other_state.items())


def assert_alike(history: list[Any], expected: list[Any]) -> None:
    """Hold two histories against each other: counts are equal, means as good as."""
    assert len(history) == len(expected)
    for record, other in zip(history, expected, strict=True):
        for name, value in other.items():
            close = isinstance(value, float)
            assert record[name] == (pytest.approx(value, rel=1e-6) if close else value), name


def test_float32_differs_by_rounding_alone() -> None:
    case = "GAIRAT"
    state, history = train_all([case], SIZES[:1], in_double=False)[case, SIZES[0]]
    for found in launch(2, train_in_float32):
        other_state, other_history = found[case, SIZES[0]]
        for name, value in state.items():
            np.testing.assert_allclose(other_state[name], value, rtol=0, atol=1e-6, err_msg=name)
        assert_alike(other_history, history)


def train_in_float32() -> Any:
    return train_all(["GAIRAT"], SIZES[:1], in_double=False)


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("n", [1, 2, 3, 7, 16, 50])
def test_each_sample_is_somebodys_own(n: int, size: int) -> None:
    shares = [split(n, rank, size) for rank in range(size)]
    own = [place for s in shares for place in range(s.first + s.own.start, s.first + s.own.stop)]
    assert own == list(range(n))
    assert all(s.rows >= min(2, n) and s.first >= 0 and s.first + s.rows <= n for s in shares)
    assert {s.counts for s in shares} == {shares[0].counts}
    assert shares[0].n == n


def test_a_process_without_samples_counts_nothing() -> None:
    share = gathered([5, 0, 3], 1, 2)
    assert (share.n, share.first, share.own, share.all_own) == (8, 5, slice(0, 0), False)
    assert gathered([5, 4, 0], 2, 2).first == 7
