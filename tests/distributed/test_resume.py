"""A training that was saved on some processes goes on on others; a killed one comes back by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from art_gair import AdversarialTrainerGAIRAT, Checkpoint
from art_gair.plugins import Plugin
from tests.distributed.cases import CASES, classifier_for, without_times
from tests.distributed.launch import Failed, free_port, launch
from tests.models import digits

pytestmark = pytest.mark.xdist_group(__name__)

ROOT = Path(__file__).parents[2]


class Leaves(Plugin):
    """Ends a training after so many steps, as a kill does."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def after_step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise ArithmeticError("killed")


def train(case: str, folder: str, *, resume: bool = False, leave_after: int = 1000) -> Any:
    """Train for three epochs of four steps, saved after each second step."""
    classifier = classifier_for(case)
    parts = CASES[case](classifier)
    plugins = [*parts.pop("plugins", []), Checkpoint(folder, every_batches=2), Leaves(leave_after)]
    trainer = AdversarialTrainerGAIRAT(classifier, burn_in=1, plugins=plugins, **parts)
    x, y = digits(80)
    arguments: dict[str, Any] = {"batch_size": 16, "nb_epochs": 3, "seed": 3, "verbose": False, "resume": resume}
    trainer.fit(x[:50], y[:50], validation_data=(x[50:], y[50:]), validation_attack=trainer.attack, **arguments)
    return classifier.model.state_dict(), without_times(trainer)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


CASE = "TRADES, AWP, EMA"
"""Its attack draws, and it keeps more than the model."""


@pytest.mark.parametrize(("saved_on", "resumed_on"), [(2, 1), (2, 3), (1, 2)])
def test_saved_on_some_and_resumed_on_others(saved_on: int, resumed_on: int, tmp_path: Path) -> None:
    expected, history = train(CASE, str(tmp_path / "whole"))
    folder = str(tmp_path / "saves")
    left = launch(saved_on, train_part, folder) if saved_on > 1 else [attempt(folder)]
    assert all(isinstance(found, Failed) and found.kind in ("ArithmeticError", "PeerError") for found in left), left
    found = launch(resumed_on, train_rest, folder) if resumed_on > 1 else [train_rest(folder)]
    for end in found:
        assert not isinstance(end, Failed), end
        state, other = end
        for name, value in expected.items():
            np.testing.assert_allclose(state[name], value, rtol=0, atol=1e-10, err_msg=name)
        assert [r["kappa_histogram"] for r in other] == [r["kappa_histogram"] for r in history]
        assert [r["robust_accuracy"] for r in other] == [r["robust_accuracy"] for r in history]


def train_part(folder: str) -> Any:
    """Train up to the third step of the second epoch; the last save stands after the second."""
    return train(CASE, folder, leave_after=7)


def attempt(folder: str) -> Any:
    try:
        return train_part(folder)
    except ArithmeticError as error:
        return Failed(error)


def train_rest(folder: str) -> Any:
    return train(CASE, folder, resume=True)


SCRIPT = """
import os, signal, sys
import torch
from tests.distributed import test_resume

def after_step(self):
    self.left -= 1
    first_life = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    if first_life and os.environ["RANK"] == "1" and self.left == 994:
        os.kill(os.getpid(), signal.SIGKILL)

torch.set_num_threads(1)
test_resume.Leaves.after_step = after_step
state, history = test_resume.train("GAIRAT", sys.argv[1], resume=True)
if os.environ["RANK"] == "0":
    torch.save(state, sys.argv[2])
"""


def test_a_killed_process_brings_all_back_to_the_last_save(tmp_path: Path) -> None:
    """By torchrun alone; each process finds the addresses of the dead in the store."""
    script, out = tmp_path / "script.py", tmp_path / "model.pt"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--max-restarts=1"]
    command += [
        "--master-addr=127.0.0.1",
        f"--master-port={free_port()}",
        str(script),
        str(tmp_path / "saves"),
        str(out),
    ]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "exitcode: -9" in done.stderr
    found = torch.load(out, weights_only=True)
    for expected, _ in launch(2, train, "GAIRAT", str(tmp_path / "whole")):
        for name, value in expected.items():
            assert torch.equal(found[name], value), name


def test_a_signal_to_one_process_stops_and_saves_all(tmp_path: Path) -> None:
    results = launch(2, train_until_signal, str(tmp_path))
    assert [r.kind for r in results] == ["SystemExit", "SystemExit"], results
    state, _ = train(CASE, str(tmp_path), resume=True)
    expected, _ = train(CASE, str(tmp_path / "whole"))
    for name, value in expected.items():
        np.testing.assert_allclose(state[name], value, rtol=0, atol=1e-10, err_msg=name)


def train_until_signal(folder: str) -> Any:
    """The signal comes to process 1 in its fifth step."""

    def after_step(self: Leaves) -> None:
        self.left -= 1
        if self.left == 995 and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)

    Leaves.after_step = after_step  # type: ignore[method-assign]
    return train(CASE, folder)
