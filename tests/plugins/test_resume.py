"""Which trainings resume=True goes on with, and which it refuses, saying what differs."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ExponentialLR, StepLR

from art_gair import TRADES, Checkpoint, CSVLogger, SigmoidWeighting, TanhWeighting
from art_gair.engine.precision import exact_float32
from art_gair.plugins.checkpoint import SUFFIX
from tests.models import assert_same_state, digits, state_of
from tests.plugins.trainings import STEPS, Fail, Setup, assert_same_training, newest, saves, warned

pytestmark = pytest.mark.usefixtures("one_thread")


def darken_more(x: Tensor) -> Tensor:
    return x * 0.8


@pytest.mark.parametrize("after_step", [1, STEPS])
def test_a_training_that_an_error_ended_in_its_first_epoch_goes_on(after_step: int, tmp_path: Path) -> None:
    """After the last step torch finds a scheduler that is stepped before the optimizer, and would warn."""
    setup = Setup(scheduler=partial(StepLR, step_size=1))
    with pytest.raises(InterruptedError):
        setup.train(tmp_path, Fail(0, after_step), checkpoint={"every_batches": 1})
    assert saves(tmp_path)[-1] == f"epoch-0000-batch-{after_step:06d}"
    trainer = setup.train(tmp_path, resume=True)
    assert_same_training(trainer, setup.train(None))


def test_resuming_without_a_checkpoint_is_refused() -> None:
    with pytest.raises(ValueError, match="resume is True, but no Checkpoint is among the plugins"):
        Setup().train(None, resume=True)


def test_resuming_in_an_empty_folder_begins_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = Setup().train(tmp_path / "new", resume=True)
    assert warned(caplog) == [f"resume=True: {tmp_path / 'new'} holds no checkpoint; the training begins."]
    assert_same_training(trainer, Setup().train(None))


def change(x: Any, y: Any) -> None:
    x[5, 0, 3, 3] = 1 - x[5, 0, 3, 3]


def relabel(x: Any, y: Any) -> None:
    y[5] = (y[5] + 1) % 10


ADAM = partial(torch.optim.AdamW, lr=0.05)
FROZEN = "model.3.bias: (10,) torch.float32 -> (10,) torch.float32, frozen"
OTHERS = {
    "eps": (Setup(attack={"eps": 0.3}), "attack.eps: 0.2 -> 0.3"),
    "max_iter": (Setup(attack={"max_iter": 3}), "attack.max_iter: 2 -> 3"),
    "lam": (Setup(weighting=TanhWeighting(-2.0)), "weighting.lam: -1.0 -> -2.0"),
    "weighting": (Setup(weighting=SigmoidWeighting(-1.0)), "weighting: TanhWeighting -> SigmoidWeighting"),
    "objective": (Setup(objective=TRADES(6.0)), "objective: AT -> TRADES"),
    "burn_in": (Setup(burn_in=2), "burn_in: 1 of 2 epochs trained -> 2 of 2 epochs trained"),
    "batch_size": (Setup(fit={"batch_size": 48}), "batch_size: 32 -> 48"),
    "data": (Setup(edit=change), r"x: \(96, 1, 8, 8\) \w+ -> \(96, 1, 8, 8\) \w+"),
    "samples": (Setup(n=95), r"x: \(96, 1, 8, 8\) \w+ -> \(95, 1, 8, 8\) \w+"),
    "labels": (Setup(edit=relabel), r"y: \(96,\) \w+ -> \(96,\) \w+"),
    "width": (Setup(hidden=17), "model.1.weight: (16, 64) torch.float32 -> (17, 64) torch.float32"),
    "activation": (Setup(activation=nn.ReLU), "model.2: Tanh() -> ReLU()"),
    "frozen": (Setup(frozen=True), FROZEN),
    "lr": (Setup(optimizer=partial(torch.optim.SGD, lr=0.1, momentum=0.9)), "optimizer.lr: 0.05 -> 0.1"),
    "momentum": (Setup(optimizer=partial(torch.optim.SGD, lr=0.05, momentum=0.8)), "optimizer.momentum: 0.9 -> 0.8"),
    "optimizer": (Setup(optimizer=ADAM), "optimizer: SGD -> AdamW"),
    "scheduler": (Setup(scheduler=partial(ExponentialLR, gamma=0.9)), "scheduler: StepLR -> ExponentialLR"),
    "AWP": (Setup(gamma=0.02), "plugins[0].gamma: 0.01 -> 0.02"),
    "EMA": (Setup(decay=0.8), "plugins[1].decay: 0.9 -> 0.8"),
    "accumulate": (Setup(fit={"accumulate": 2}), "accumulate: 1 -> 2"),
    "seed": (Setup(fit={"seed": 2}), "seed: 1 -> 2"),
    "augment": (Setup(fit={"augment": darken_more}), r"augment: darken \w+ -> darken_more \w+"),
    "non_finite": (Setup(fit={"non_finite": "skip"}), "non_finite: stop -> skip"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_training_is_refused_and_told_what_differs(
    name: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    setup, difference = OTHERS[name]
    before = {path.name: path.read_bytes() for path in folder.glob(f"*{SUFFIX}")}
    trainer = setup.make(folder)
    model = state_of(trainer.classifier.model)
    with pytest.raises(ValueError, match="is of another training") as refusal:
        setup.run(trainer, resume=True)
    message = str(refusal.value)
    assert message.startswith(
        f"{newest(folder)} is of another training; resume=True needs the same, or an empty folder."
    )
    assert re.search(difference if "\\" in difference else re.escape(difference), message)
    assert_same_state(trainer.classifier.model, model)
    assert {path.name: path.read_bytes() for path in folder.glob(f"*{SUFFIX}")} == before
    Setup().train(folder, resume=True)  # the right one is not kept from it


def test_an_edit_of_a_function_s_code_is_seen(folder: Path) -> None:
    def darken(x: Tensor) -> Tensor:
        return x * 0.95

    with pytest.raises(ValueError, match=r"augment: darken \w+ -> \S*darken \w+"):
        Setup(fit={"augment": darken}).train(folder, resume=True)


def test_many_differences_are_counted(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"; and \d+ more\.") as refusal:
        Setup(hidden=17, optimizer=ADAM, frozen=True, gamma=0.1).train(folder, resume=True)
    assert len(str(refusal.value)) < 1500


ALIKE = {
    "fewer epochs": Setup(fit={"nb_epochs": 1}),
    "loud": Setup(fit={"verbose": True}),
    "attack's batch size": Setup(attack={"batch_size": 7}),
    "validated": Setup(fit={"validation_data": digits(20)}),
}


@pytest.mark.parametrize("name", ALIKE)
def test_what_does_not_decide_the_result_may_differ(name: str, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    ended = f"resume=True: {newest(folder)} has 2 trained epochs, and no more are to be trained."
    trainer = ALIKE[name].train(folder, CSVLogger(folder / "log.csv"), resume=True, checkpoint={"every": 2, "keep": 1})
    assert warned(caplog) == [ended]
    assert_same_training(trainer, Setup().train(None))


def test_a_training_can_be_made_longer(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = Setup().train(folder, nb_epochs=4, resume=True)
    assert not warned(caplog)
    assert_same_training(trainer, Setup().train(None, nb_epochs=4))


def test_a_burn_in_that_is_a_share_is_refused_with_advice_if_the_length_changes_it(tmp_path: Path) -> None:
    setup = Setup(burn_in=0.5)
    setup.train(tmp_path)
    with pytest.raises(ValueError, match=r"burn_in: 1 of 2 epochs trained -> 2 of 2 .*; give it as a number of epochs"):
        setup.train(tmp_path, nb_epochs=4, resume=True)


def test_with_keep_best_what_is_validated_must_be_the_same(tmp_path: Path) -> None:
    def train(n: int, **attack: Any) -> None:
        validating = {"validation_data": digits(n), "keep_best": True, "resume": True}
        Setup(attack=attack).train(tmp_path, **validating)

    train(20)
    train(20)
    with pytest.raises(ValueError, match=r"validation.x: \(20, 1, 8, 8\) \w+ -> \(21, 1, 8, 8\) \w+"):
        train(21)
    with pytest.raises(ValueError, match=r"validation.batch_size: 128 -> 7"):
        train(20, batch_size=7)


def test_other_conditions_are_warned_of_by_name(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.set_num_threads(2)
    try:
        Setup(precision="bf16", fit={"nb_epochs": 3}).train(folder, resume=True)
    finally:
        torch.set_num_threads(1)
    assert warned(caplog) == [
        "Training goes on under other conditions, and no longer bit for bit: precision: fp32 -> bf16; threads: 1 -> 2."
    ]


@pytest.mark.parametrize("has_it", [True, False])
def test_precision_counts_by_what_auto_means(
    has_it: bool, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("art_gair.engine.precision.computes_bf16", lambda device: has_it)
    Setup(precision="auto", fit={"nb_epochs": 3}).train(folder, resume=True)
    assert any("precision: fp32 -> bf16" in message for message in warned(caplog)) == has_it


def test_what_an_earlier_version_did_not_note_is_not_warned_of(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    load = Checkpoint.load

    def load_earlier(self: Checkpoint) -> Any:
        found = load(self)
        assert found is not None
        del found[1]["environment"]["processor"]
        found[1]["environment"]["precision"] = "auto"
        return found

    monkeypatch.setattr(Checkpoint, "load", load_earlier)
    monkeypatch.setattr("art_gair.engine.precision.computes_bf16", lambda device: False)
    Setup(fit={"nb_epochs": 3}).train(folder, resume=True)
    assert warned(caplog) == []
    Setup(precision="bf16", fit={"nb_epochs": 4}).train(folder, resume=True)
    assert any("precision: fp32 -> bf16" in message for message in warned(caplog))


def test_float32_that_is_computed_otherwise_is_warned_of(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with exact_float32():
        torch.set_float32_matmul_precision("medium")
        Setup(fit={"nb_epochs": 3}).train(folder, resume=True)
    assert any("under other conditions" in m and ": - -> " in m for m in warned(caplog))
