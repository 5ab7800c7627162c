"""Exact intervals and tests, on data whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from art_gair.report.statistics import CONFIDENCE, above_p, interval, paired_p


@pytest.mark.parametrize("truth", [0.02, 0.5, 0.93])
@pytest.mark.parametrize("n", [30, 400])
def test_intervals_hold_the_truth_as_often_as_they_say(truth: float, n: int) -> None:
    draws = np.random.default_rng(0).binomial(n, truth, size=2000)
    bounds = {int(k): interval(int(k), n) for k in np.unique(draws)}
    held = np.mean([bounds[int(k)][0] <= truth <= bounds[int(k)][1] for k in draws])
    assert held >= CONFIDENCE - 3 * math.sqrt(CONFIDENCE * (1 - CONFIDENCE) / 2000)


def test_an_interval_is_clopper_and_pearsons() -> None:
    low, high = interval(0, 100)
    assert low == 0.0
    assert high == pytest.approx(1 - 0.025 ** (1 / 100))
    assert interval(100, 100) == pytest.approx((0.025 ** (1 / 100), 1.0))


def test_the_paired_test_counts_coin_flips() -> None:
    assert paired_p(10, 0) == pytest.approx(2.0**-10)
    assert paired_p(2, 1) == pytest.approx(4 / 8)
    assert paired_p(0, 0) == paired_p(0, 7) == 1.0


@pytest.mark.parametrize("disagreeing", [5, 20, 60])
def test_the_paired_test_raises_no_more_false_alarms_than_it_says(disagreeing: int) -> None:
    gains = np.random.default_rng(1).binomial(disagreeing, 0.5, size=3000)
    alarms = np.mean([paired_p(int(k), disagreeing - int(k)) < 0.05 for k in gains])
    assert alarms <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 3000)


def test_a_share_is_above_another_only_beyond_chance() -> None:
    assert above_p(3, 3, 0.1) == pytest.approx(0.001)
    assert above_p(0, 0, 0.1) == above_p(0, 50, 0.1) == 1.0
    assert above_p(5, 50, 0.1) > 0.3
