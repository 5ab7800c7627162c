"""A killed training that is resumed ends as one in a single go, bit for bit; benchmarks/kill.py does it often."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from kill import Forks, Killer
from kill_case import CASES

from tests.storage.processes import needs_fork

pytestmark = needs_fork

QUICK = ["TRADES, AWP, EMA, keep_best", "FAT, tau schedule", "accumulate=3, margins, dropout"]
"""Cases that between them use most of what a training keeps; with the mark slow, all are killed."""


@pytest.mark.parametrize("case", [c if c in QUICK else pytest.param(c, marks=pytest.mark.slow) for c in CASES])
def test_a_killed_training_goes_on_bit_for_bit(case: str, forks: Forks, tmp_path: Path) -> None:
    killer = Killer(forks.start, case, tmp_path, random.Random(case), epochs=3)
    killer.train_in_one_go()
    while killer.outcome.kills == 0:  # it may come through before its moment
        killer.train_with_kills(most=1)
    assert killer.outcome.differing == []


@pytest.mark.parametrize("call", ["tear:5", "fsync:5", "replace:3", "fsync:6"])
def test_a_kill_within_a_save_costs_that_save_alone(call: str, forks: Forks, tmp_path: Path) -> None:
    """In the middle of the file, before it is synced, before it takes its name, and before the folder is synced."""
    killer = Killer(forks.start, "GAIRAT", tmp_path, random.Random(0), epochs=2)
    killer.train_in_one_go()
    killer.train_with_kills(most=1, die=call)
    assert killer.outcome.differing == []
    assert (killer.outcome.kills, killer.outcome.restarts) == (1, 0)
    assert killer.outcome.within_save == (call != "fsync:6")
