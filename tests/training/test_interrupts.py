"""Ctrl-C, SIGTERM, SIGHUP: the batch is finished and saved, a second one leaves at once, the training can go on."""

from __future__ import annotations

import errno
import gc
import logging
import multiprocessing
import os
import random
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from kill import Forks, FreshProcess, Killer
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from art_gair import EMA, AdversarialTrainerGAIRAT, GeometryAwarePGD, TanhWeighting
from art_gair.plugins import Plugin, checkpoint
from art_gair.plugins.checkpoint import Checkpoint
from tests.models import assert_same_state, digits, digits_classifier, state_of
from tests.storage.processes import needs_fork, start, wait

SIGNALS = {"Ctrl-C": signal.SIGINT, "SIGTERM": signal.SIGTERM, "SIGHUP": signal.SIGHUP}
EXIT_CODES = {"Ctrl-C": -signal.SIGINT, "SIGTERM": 128 + signal.SIGTERM}
"""Of a program, as its parent sees them."""
STEPS = 3
"""Steps of an epoch."""

pytestmark = pytest.mark.usefixtures("one_thread", "defaults")
each_signal = pytest.mark.parametrize("name", SIGNALS)


class Act(Plugin):
    """Does something within a step, of those that this plugin sees, counted from 1."""

    affects_training = False

    def __init__(self, step: int, action: Callable[[], object]) -> None:
        self.step, self.action, self.seen = step, action, 0

    def after_backward(self) -> None:
        self.seen += 1
        if self.seen == self.step:
            self.action()


class Note(Plugin):
    """Keeps the model after each step, and the handlers within the training."""

    affects_training = False

    def __init__(self) -> None:
        self.states: list[dict[str, Tensor]] = []
        self.handlers: list[Any] = []

    def start(self, classifier: Any, optimizer: Any) -> None:
        self.module = classifier.module

    def after_step(self) -> None:
        self.states.append(state_of(self.module))
        self.handlers.append(handlers())


class EpochEnds(Plugin):
    """Keeps what it reads at the end of each epoch."""

    affects_training = False
    read: Callable[[], Any]

    def __init__(self) -> None:
        self.readings: list[Any] = []

    def end_epoch(self, record: Any) -> None:
        self.readings.append(self.read())


class Interrupting:
    """A validation attack that does nothing but call the action at one of its batches, counted from 1."""

    max_iter, batch_size = 0, 2

    def __init__(self, batch: int, action: Callable[[], object]) -> None:
        self.batch, self.action, self.seen = batch, action, 0

    def on_batches(self, classifier: Any, epoch: int) -> Callable[[Tensor, Tensor], tuple[Tensor, None]]:
        return self._perturb

    def _perturb(self, x: Tensor, labels: Tensor) -> tuple[Tensor, None]:
        self.seen += 1
        if self.seen == self.batch:
            self.action()
        return x, None


@pytest.fixture
def defaults() -> Iterator[None]:
    """Python's own handlers; under nohup SIGHUP is ignored, say."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS.values()}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def handlers() -> list[Any]:
    return [signal.getsignal(number) for number in (*SIGNALS.values(), signal.SIGCHLD)]


def send(*names: str) -> Callable[[], None]:
    def action() -> None:
        for name in names:
            signal.raise_signal(SIGNALS[name])

    return action


def make_trainer(*plugins: Plugin) -> AdversarialTrainerGAIRAT:
    classifier = digits_classifier()
    attack = GeometryAwarePGD(classifier, eps=0.2, eps_step=0.1, max_iter=2)
    return AdversarialTrainerGAIRAT(classifier, attack, TanhWeighting(-1.0), burn_in=1, plugins=plugins)


def fit(trainer: AdversarialTrainerGAIRAT, **kwargs: Any) -> AdversarialTrainerGAIRAT:
    """Train for three epochs."""
    trainer.fit(*digits(32 * STEPS), batch_size=32, nb_epochs=3, seed=1, verbose=False, **kwargs)
    return trainer


@contextmanager
def stopped_by(name: str) -> Iterator[pytest.ExceptionInfo[BaseException]]:
    """Expect that a signal stops a training, and that all of its handlers are gone then."""
    before = handlers()
    with pytest.raises((KeyboardInterrupt, SystemExit)) as stopped:
        yield stopped
    assert handlers() == before
    if name == "Ctrl-C":
        assert isinstance(stopped.value, KeyboardInterrupt)
    else:
        assert isinstance(stopped.value, SystemExit)
        assert stopped.value.code == 128 + SIGNALS[name]


def assert_same_training(trainer: AdversarialTrainerGAIRAT, other: AdversarialTrainerGAIRAT) -> None:
    assert_same_state(trainer.classifier.model, state_of(other.classifier.model))
    histories = [[{**record, "seconds": 0.0} for record in t.history] for t in (trainer, other)]
    assert histories[0] == histories[1]
    momenta = [t.classifier.optimizer.state_dict()["state"] for t in (trainer, other)]
    for index, state in momenta[0].items():
        assert torch.equal(state["momentum_buffer"], momenta[1][index]["momentum_buffer"])


def saves(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.checkpoint"))


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING and "stopped" in r.getMessage()]


@each_signal
def test_a_signal_lets_the_batch_finish_and_saves_it(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = fit(make_trainer())
    trainer = make_trainer(Act(5, send(name)), Checkpoint(tmp_path))
    with stopped_by(name) as stopped:
        fit(trainer)
    message = (
        f"{name} stopped the training in epoch 1 after batch 1. It is saved in {tmp_path}: the same script with "
        "fit(..., resume=True) goes on from there."
    )
    assert logged(caplog) == [message]
    assert name != "Ctrl-C" or str(stopped.value) == message
    assert f"Finishing the batch, then leaving; a second {name} leaves at once, unsaved." in capsys.readouterr().err
    assert saves(tmp_path) == ["epoch-0001-batch-000000", "epoch-0001-batch-000002"]

    assert not trainer.classifier.model.training
    assert trainer.classifier.predict(digits(5)[0]).shape == (5, 10)
    assert len(trainer.history) == 1
    assert_same_training(fit(trainer, resume=True), expected)


@each_signal
def test_without_a_checkpoint_the_classifier_holds_the_weights_of_the_batch(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    note = Note()
    fit(make_trainer(note))
    trainer = make_trainer(Act(5, send(name)))
    with stopped_by(name):
        fit(trainer)
    place = "in epoch 1 after batch 1. No Checkpoint saved it; the classifier holds its weights."
    assert logged(caplog) == [f"{name} stopped the training {place}"]
    assert_same_state(trainer.classifier.model, note.states[4])


@each_signal
def test_a_second_signal_leaves_a_slow_batch_at_once(name: str, tmp_path: Path) -> None:
    def take_long() -> NoReturn:
        send(name)()
        second = threading.Timer(0.1, os.kill, (os.getpid(), SIGNALS[name]))
        second.start()
        second.join(60)
        time.sleep(60)
        raise AssertionError("the second signal was to end this.")

    note = Note()
    expected = fit(make_trainer(note))
    trainer = make_trainer(Act(5, take_long), Checkpoint(tmp_path))
    with stopped_by(name):
        fit(trainer)
    assert_same_state(trainer.classifier.model, note.states[3])  # the batch was undone
    assert saves(tmp_path) == ["epoch-0000-batch-000000", "epoch-0001-batch-000000"]
    assert_same_training(fit(trainer, resume=True), expected)


@each_signal
def test_a_signal_in_validation_does_not_wait_for_it_and_resuming_validates_anew(name: str, tmp_path: Path) -> None:
    """It comes within the second of two models that are validated in epoch 1."""
    attack, validated = Interrupting(0, send(name)), EpochEnds()
    validated.read = lambda: attack.seen
    validating = {"validation_data": digits(64), "validation_attack": [attack], "keep_best": True}
    expected = fit(make_trainer(EMA(0.5, validate="both"), validated), **validating)
    first, second, third = validated.readings
    assert second - first >= 4

    attack.seen, attack.batch = 0, second - 1
    trainer = make_trainer(EMA(0.5, validate="both"), Checkpoint(tmp_path))
    with stopped_by(name):
        fit(trainer, **validating)
    assert attack.seen == attack.batch
    assert saves(tmp_path)[-1] == "epoch-0001-batch-000003"
    assert_same_training(fit(trainer, resume=True, **validating), expected)
    assert trainer.best_epoch == expected.best_epoch
    assert attack.seen == attack.batch + third - first


@each_signal
def test_with_keep_best_the_classifier_holds_the_best_epoch_and_the_training_goes_on_from_the_last(
    name: str, tmp_path: Path
) -> None:
    validating = {"validation_data": digits(64), "validation_attack": [Interrupting(0, send())], "keep_best": True}
    note = Note()
    expected = fit(make_trainer(note), **validating)
    trainer = make_trainer(Act(8, send(name)), Checkpoint(tmp_path))
    with stopped_by(name) as stopped:
        fit(trainer, **validating)
    best = trainer.best_epoch
    assert best is not None
    assert f"holds the weights of epoch {best}" in str(stopped.value.__notes__)  # type: ignore[attr-defined]
    assert_same_state(trainer.classifier.model, note.states[STEPS * best + STEPS - 1])
    assert_same_training(fit(trainer, resume=True, **validating), expected)


def test_a_signal_in_the_last_batch_loses_neither_its_validation_nor_its_record(tmp_path: Path) -> None:
    expected = fit(make_trainer(), validation_data=digits(64))
    trainer = make_trainer(Act(3 * STEPS, send("Ctrl-C")), Checkpoint(tmp_path))
    with stopped_by("Ctrl-C"):
        fit(trainer, validation_data=digits(64))
    assert len(trainer.history) == 2
    assert_same_training(fit(trainer, validation_data=digits(64), resume=True), expected)


def test_a_signal_after_the_training_takes_effect(caplog: pytest.LogCaptureFixture) -> None:
    class Late(Plugin):
        def finish(self) -> None:
            send("Ctrl-C")()

    expected, trainer = fit(make_trainer()), make_trainer(Late())
    with stopped_by("Ctrl-C") as stopped:
        fit(trainer)
    assert str(stopped.value) == "The training had ended when the signal came."
    assert_same_training(trainer, expected)


def test_a_save_that_fails_when_a_signal_has_come_is_said_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(path: Path, state: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    def fill_the_disk() -> None:
        monkeypatch.setattr(checkpoint, "write_state", fail)
        send("Ctrl-C")()

    trainer = make_trainer(Act(5, fill_the_disk), Checkpoint(tmp_path))
    with stopped_by("Ctrl-C") as stopped:
        fit(trainer)
    place = "in epoch 1 after batch 1. Its last steps could not be saved in"
    assert str(stopped.value) == f"Ctrl-C stopped the training {place} {tmp_path}."
    assert saves(tmp_path) == ["epoch-0000-batch-000000", "epoch-0001-batch-000000"]


def test_handlers_are_ours_within_a_training_alone() -> None:
    def fail() -> None:
        raise RuntimeError("a failure of its own")

    before, note = handlers(), Note()
    fit(make_trainer(note))
    assert handlers() == before
    assert all(now[i] != before[i] for now in note.handlers for i in range(len(SIGNALS)))
    with pytest.raises(RuntimeError, match="a failure of its own"):
        fit(make_trainer(Act(2, fail)))
    assert handlers() == before


@each_signal
def test_a_handler_of_the_user_s_own_is_left_alone(name: str) -> None:
    received: list[int] = []

    def own(number: int, frame: Any) -> None:
        received.append(number)

    note = Note()
    before = signal.signal(SIGNALS[name], own)
    try:
        trainer = fit(make_trainer(Act(5, send(name)), note))
        assert signal.getsignal(SIGNALS[name]) is own
    finally:
        signal.signal(SIGNALS[name], before)
    assert received == [SIGNALS[name]]
    assert all(own in now for now in note.handlers)
    assert_same_training(trainer, fit(make_trainer()))


def test_a_training_in_another_thread_touches_no_handler() -> None:
    note, trained = Note(), []
    thread = threading.Thread(target=lambda: trained.append(fit(make_trainer(note))))
    before = handlers()
    thread.start()
    thread.join()
    assert all(now == before for now in note.handlers)
    assert_same_training(trained[0], fit(make_trainer()))


def test_a_worker_that_dies_while_the_signal_is_noted_does_not_break_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As torch's handler for SIGCHLD does, this one raises; it may run within ours."""
    deaths = []

    def raise_error(number: int, frame: Any) -> NoReturn:
        deaths.append(number)
        raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Terminated.")

    read = signal.getsignal

    def die(number: int) -> Any:
        """One dies before ours is in its place, and another one when it is."""
        if number == signal.SIGCHLD and len(deaths) < 2 and read(signal.SIGINT) is not signal.default_int_handler:
            signal.raise_signal(signal.SIGCHLD)
        return read(number)

    monkeypatch.setattr(signal, "getsignal", die)
    before = signal.signal(signal.SIGCHLD, raise_error)
    try:
        trainer = make_trainer(Act(5, send("Ctrl-C")), Checkpoint(tmp_path))
        with stopped_by("Ctrl-C"):
            fit(trainer)
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert deaths == [signal.SIGCHLD] * 2
    assert saves(tmp_path)[-1] == "epoch-0001-batch-000002"
    assert_same_training(fit(trainer, resume=True), fit(make_trainer()))


@needs_fork
@pytest.mark.parametrize("steps", [None, STEPS], ids=["passes", "a stream"])
def test_the_workers_of_a_loader_have_ended_when_a_signal_has_stopped_the_training(
    steps: int | None, tmp_path: Path
) -> None:
    """While the error is held, and with it the frames of the training; so none can die under the caller's handlers."""
    x, y = digits(32 * STEPS)
    loader = DataLoader(TensorDataset(torch.tensor(x), torch.tensor(y)), batch_size=32, num_workers=2)
    gc.collect()
    others = len(multiprocessing.active_children())
    seen: list[int] = []
    trainer = make_trainer(
        Act(2, lambda: seen.append(len(multiprocessing.active_children()))),
        Act(2, send("SIGTERM")),
        Checkpoint(tmp_path),
    )
    before = signal.getsignal(signal.SIGCHLD)
    try:
        with pytest.raises(SystemExit) as stopped:
            trainer.fit_generator(loader, nb_epochs=2, seed=1, verbose=False, steps_per_epoch=steps)
        assert seen == [others + 2]
        assert len(multiprocessing.active_children()) == others
        assert stopped.value.code == EXIT_CODES["SIGTERM"]
    finally:
        signal.signal(signal.SIGCHLD, before)


@each_signal
@pytest.mark.parametrize("fails", [False, True], ids=["", "the source fails"])
def test_a_signal_while_batches_are_gone_through_again_does_not_wait_for_them(
    fails: bool, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A training that is resumed within an epoch asks its generator for the batches it has had."""
    x, y = digits(32 * STEPS)
    asked: list[int] = []
    stop_at = -1

    class Batches:
        def __iter__(self) -> Iterator[tuple[Any, Any]]:
            for i in range(STEPS):
                asked.append(i)
                if len(asked) == stop_at:
                    send(name)()
                    if fails:
                        raise EOFError("the reader has gone")
                yield x[32 * i : 32 * i + 32], y[32 * i : 32 * i + 32]

    def fit_batches(trainer: AdversarialTrainerGAIRAT, **kwargs: Any) -> AdversarialTrainerGAIRAT:
        trainer.fit_generator(Batches(), nb_epochs=2, seed=1, verbose=False, **kwargs)
        return trainer

    expected = fit_batches(make_trainer())
    trainer = make_trainer(Act(2, send(name)), Checkpoint(tmp_path))
    with stopped_by(name):
        fit_batches(trainer)
    before = saves(tmp_path)
    asked.clear()
    stop_at = 1
    with stopped_by(name):
        fit_batches(trainer, resume=True)
    assert len(asked) <= 2
    assert f"{name} stopped the training while it was resumed; its save is as it was." in caplog.text
    assert saves(tmp_path) == before
    stop_at = -1
    assert_same_training(fit_batches(trainer, resume=True), expected)


class LosesWorkers(Plugin):
    """Goes through a loader of its own between epochs, whose workers have ended."""

    affects_training = False

    def __init__(self, message: str, action: Callable[[], None]) -> None:
        self.message, self.action = message, action

    def end_epoch(self, record: Any) -> None:
        self.action()
        raise RuntimeError(self.message)


WORKER = "DataLoader worker (pid(s) 1, 2) exited unexpectedly"


@pytest.mark.parametrize(("signalled", "message"), [(True, WORKER), (False, WORKER), (True, "another error")])
def test_workers_of_a_plugin_that_a_signal_has_ended_are_no_error_of_their_own(
    signalled: bool, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = make_trainer(LosesWorkers(message, send("SIGTERM") if signalled else send()))
    if signalled and message == WORKER:
        with stopped_by("SIGTERM"):
            fit(trainer)
        assert "SIGTERM ended workers of a DataLoader that epoch 1 needed" in caplog.text
    else:
        with pytest.raises(RuntimeError, match=re.escape(message)):
            fit(trainer)


@needs_fork
def test_a_process_forked_in_the_training_can_be_terminated_and_leaves_ctrl_c_to_us(
    capfd: pytest.CaptureFixture[str],
) -> None:
    codes: list[int] = []

    def fork() -> None:
        child = start(lambda: time.sleep(60))
        os.kill(child, signal.SIGINT)
        time.sleep(0.1)  # each takes effect by itself
        os.kill(child, signal.SIGTERM)
        codes.append(wait(child))

    fit(make_trainer(Act(2, fork)))
    assert codes == [-signal.SIGTERM]
    assert "Finishing" not in capfd.readouterr().err


@needs_fork
@pytest.mark.slow
def test_a_signal_to_the_whole_process_group_with_workers_stops_and_resumes(forks: Forks, tmp_path: Path) -> None:
    """What a terminal sends at Ctrl-C, and systemd or Slurm to end a job: a DataLoader's workers get it too."""
    killer = Killer(forks.start, "DataLoader, random images, 2 workers", tmp_path, random.Random(0), epochs=2)
    killer.train_in_one_go()
    for name, code in EXIT_CODES.items():
        folder, log = tmp_path / name, tmp_path / f"{name}.txt"
        arguments = [*killer.arguments("result.json"), "--folder", str(folder)]
        process = FreshProcess(arguments, log)
        process.read_beginning()
        while len(saves(folder)) < 2:
            time.sleep(0.01)
        os.killpg(process.pid, SIGNALS[name])
        ended, written = process.wait(), log.read_text()
        assert ended == code, written
        assert written.count("Finishing the batch, then leaving") == 1
        assert f"{name} stopped the training in epoch" in written
        assert f"It is saved in {folder}: the same script with fit(..., resume=True) goes on from there" in written
        resumed = forks.start(arguments, log)
        assert resumed.read_beginning()[2] == "True"
        assert resumed.wait() == 0
        killer.compare()
    assert killer.outcome.differing == []
