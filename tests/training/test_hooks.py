"""Plugins hear of each epoch's end and of an error, and may end a training."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import StepLR

from art_gair import AdversarialTrainerGAIRAT, GeometryAwarePGD
from art_gair.engine.classifier import TensorClassifier
from art_gair.plugins import EMA, Plugin, StopTraining
from tests.models import assert_same_state, digits, digits_classifier, state_of


class Noted(Plugin):
    """Notes which hooks are called, and raises in one of them."""

    def __init__(self, calls: list[str], name: str = "", raises: str = "", error: Any = RuntimeError) -> None:
        self.calls, self.name, self.raises, self.error = calls, name, raises, error

    def note(self, call: str) -> None:
        self.calls.append(self.name + call)
        if call == self.raises:
            raise self.error

    def start(self, classifier: TensorClassifier, optimizer: torch.optim.Optimizer) -> None:
        self.note("start")

    def begin_epoch(self, epoch: int) -> None:
        self.note(f"begin {epoch}")

    def end_epoch(self, record: Mapping[str, Any]) -> None:
        self.note(f"end {record['epoch']}")

    def on_error(self, error: BaseException) -> None:
        self.note(f"error {type(error).__name__}")

    def finish(self) -> None:
        self.note("finish")


def trainer_with(*plugins: Plugin) -> Any:
    classifier = digits_classifier()
    attack = GeometryAwarePGD(classifier, max_iter=1)
    return AdversarialTrainerGAIRAT(classifier, attack, burn_in=0, plugins=plugins)


def fit(trainer: Any, **kwargs: Any) -> Any:
    torch.manual_seed(1)
    trainer.fit(*digits(16), batch_size=8, **{"nb_epochs": 3, **kwargs})
    return trainer


def test_a_training_that_comes_through_ends_each_epoch_and_finishes() -> None:
    calls: list[str] = []
    fit(trainer_with(Noted(calls)), nb_epochs=2)
    assert calls == ["start", "begin 0", "end 0", "begin 1", "end 1", "finish"]


def test_an_epoch_ends_after_its_record_and_the_schedulers_step() -> None:
    seen: list[tuple[Any, float, int]] = []

    class Looks(Plugin):
        def end_epoch(self, record: Mapping[str, Any]) -> None:
            lr = trainer.classifier.optimizer.param_groups[0]["lr"]
            seen.append((copy.deepcopy(record), lr, len(trainer.history)))

    trainer = trainer_with(Looks())
    fit(trainer, scheduler=StepLR(trainer.classifier.optimizer, 1, 0.5), validation_data=digits(8))
    assert [record for record, _, _ in seen] == trainer.history
    assert [lr for _, lr, _ in seen] == pytest.approx([0.025, 0.0125, 0.00625])
    assert [n for _, _, n in seen] == [1, 2, 3]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, FloatingPointError])
@pytest.mark.parametrize("where", ["begin 1", "end 1", "finish"])
def test_an_error_is_told_once_to_each_plugin_and_raised_again(error: Any, where: str) -> None:
    calls: list[str] = []
    trainer = trainer_with(Noted(calls, "a "), Noted(calls, "b ", where, error), Noted(calls, "c "))
    with pytest.raises(error):
        fit(trainer, nb_epochs=2)
    heard = [f"{name} error {error.__name__}" for name in "abc"]
    assert calls[-3:] == heard
    assert sum("error" in call for call in calls) == 3


def test_a_plugin_that_has_not_started_hears_of_no_error() -> None:
    calls: list[str] = []
    with pytest.raises(RuntimeError):
        fit(trainer_with(Noted(calls, "a "), Noted(calls, "b ", "start"), Noted(calls, "c ")))
    assert calls == ["a start", "b start", "a error RuntimeError"]


def test_an_error_in_on_error_hides_neither_the_first_nor_other_plugins(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[str] = []
    first = Noted(calls, "a ", "error KeyboardInterrupt", OSError("disk full"))
    with pytest.raises(KeyboardInterrupt):
        fit(trainer_with(first, Noted(calls, "b ", "begin 1", KeyboardInterrupt)))
    assert calls[-2:] == ["a error KeyboardInterrupt", "b error KeyboardInterrupt"]
    assert "disk full" in caplog.text


def test_at_an_error_the_model_is_as_before_the_batch() -> None:
    states: list[Any] = []

    class Interrupts(Plugin):
        def start(self, classifier: TensorClassifier, optimizer: torch.optim.Optimizer) -> None:
            self.model, self.steps = classifier.module, 0

        def after_backward(self) -> None:
            self.steps += 1
            if self.steps == 3:
                raise KeyboardInterrupt

        def after_step(self) -> None:
            self.before = state_of(self.model)

        def on_error(self, error: BaseException) -> None:
            states.append(state_of(self.model))

    interrupts = Interrupts()
    with pytest.raises(KeyboardInterrupt):
        fit(trainer_with(interrupts))
    assert_same_state(interrupts.model, interrupts.before)
    assert states[0].keys() == interrupts.before.keys()
    assert all(torch.equal(states[0][name], value) for name, value in interrupts.before.items())


def test_a_plugin_may_stop_a_training_which_then_ends_as_usual(caplog: pytest.LogCaptureFixture) -> None:
    """Weights and history are those of a training of fewer epochs; later plugins still end the epoch."""
    calls: list[str] = []
    stops = Noted(calls, "a ", "end 1", StopTraining("no progress"))
    with caplog.at_level(logging.INFO, logger="art_gair"):
        trainer = fit(trainer_with(stops, Noted(calls, "b "), EMA(0.5)), nb_epochs=5, validation_data=digits(8))
    assert calls[-4:] == ["a end 1", "b end 1", "a finish", "b finish"]
    assert "Training stops after epoch 1" in caplog.text
    assert "no progress" in caplog.text
    shorter = fit(trainer_with(EMA(0.5)), nb_epochs=2)
    assert len(trainer.history) == 2
    assert_same_state(trainer.classifier.model, state_of(shorter.classifier.model))


def test_the_recorded_learning_rate_is_the_one_that_a_plugin_has_set() -> None:
    class Sets(Plugin):
        def start(self, classifier: TensorClassifier, optimizer: torch.optim.Optimizer) -> None:
            self.group = optimizer.param_groups[0]

        def begin_epoch(self, epoch: int) -> None:
            self.group["lr"] = 0.001 * (epoch + 1)

    assert [r["lr"] for r in fit(trainer_with(Sets())).history] == pytest.approx([0.001, 0.002, 0.003])
