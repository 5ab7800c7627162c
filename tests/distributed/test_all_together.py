"""Schedules, validation, loggers, precision and augmentation on several processes."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from art_gair import EMA, AdversarialTrainerGAIRAT, Checkpoint, CSVLogger, EarlyStopping, TensorBoard, recipes
from tests.distributed.cases import CASES, classifier_for, without_times
from tests.distributed.launch import Failed, launch
from tests.models import digits, digits_classifier

pytestmark = pytest.mark.xdist_group(__name__)


def train(folder: str) -> Any:
    """Train with a schedule of the batches, the best epoch kept, and everything that watches."""
    classifier = classifier_for("GAIRAT")
    watching = [CSVLogger(f"{folder}/epochs.csv"), TensorBoard(f"{folder}/board"), Checkpoint(f"{folder}/saves")]
    plugins = [EMA(0.9, validate="both"), *watching, EarlyStopping(2, monitor="loss", min_delta=1e6)]
    trainer = AdversarialTrainerGAIRAT(classifier, burn_in=0, plugins=plugins, **CASES["GAIRAT"](classifier))
    x, y = digits(80)
    attack = trainer.attack
    schedule = torch.optim.lr_scheduler.OneCycleLR(classifier.optimizer, 0.1, total_steps=20)
    arguments: dict[str, Any] = {"batch_size": 16, "nb_epochs": 5, "seed": 3, "verbose": False, "keep_best": True}
    arguments |= {"validation_attack": [attack, attack.with_loss("margin")], "scheduler": schedule}
    trainer.fit(x[:50], y[:50], validation_data=(x[50:], y[50:]), **arguments)
    return classifier.model.state_dict(), without_times(trainer), trainer.best_epoch


def test_schedule_best_epoch_and_early_stopping_are_those_of_one_process(tmp_path: Path) -> None:
    """EarlyStopping speaks on process 0 and stops all; logs and saves are written once."""
    state, history, best = train(str(tmp_path / "alone"))
    assert len(history) == 3
    for found in launch(2, train, str(tmp_path / "together")):
        assert not isinstance(found, Failed), found
        assert found[2] == best
        assert [r["lr"] for r in found[1]] == [r["lr"] for r in history]
        assert [r["robust_accuracy"] for r in found[1]] == [r["robust_accuracy"] for r in history]
        for name, value in state.items():
            np.testing.assert_allclose(found[0][name], value, rtol=0, atol=1e-10, err_msg=name)
    with (tmp_path / "together" / "epochs.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1", "2"]
    assert len([*(tmp_path / "together" / "board").glob("events*")]) == 1


def train_in_bf16(seen: str) -> Any:
    """Train in bfloat16 with an augmentation, of which each process draws its own; keep what it drew."""
    classifier = digits_classifier()
    trainer = AdversarialTrainerGAIRAT(classifier, burn_in=0, precision="bf16")
    drawn: list[float] = []

    def augment(x: Tensor) -> Tensor:
        drawn.append(torch.rand(()).item())
        return x

    trainer.fit(*digits(32), batch_size=16, nb_epochs=2, augment=augment, seed=3, accumulate=2, verbose=False)
    Path(f"{seen}/{os.environ['RANK']}").write_text(str(drawn))
    return classifier.model.state_dict()


def test_precision_and_augmentation(tmp_path: Path) -> None:
    first, second = launch(2, train_in_bf16, str(tmp_path))
    assert not isinstance(first, Failed), first
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert (tmp_path / "0").read_text() != (tmp_path / "1").read_text()


def train_robust() -> Any:
    """A recipe that holds data out."""
    classifier = digits_classifier()
    recipes.robust(classifier, eps=0.2).fit(*digits(100), nb_epochs=2, batch_size=32, seed=0, verbose=False)
    return classifier.model.state_dict()


@pytest.mark.slow
def test_a_recipe_that_holds_data_out() -> None:
    first, second = launch(2, train_robust)
    assert not isinstance(first, Failed), first
    assert all(torch.equal(value, second[name]) for name, value in first.items())
