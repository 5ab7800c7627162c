"""What may differ when a training is resumed, what may not, and that it goes on bit for bit with unusual parts."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler as schedulers
from torch.utils.data import DataLoader, TensorDataset

from art_gair import (
    EMA,
    AdversarialTrainerGAIRAT,
    Checkpoint,
    EarlyStopping,
    GeometryAwarePGD,
    TanhWeighting,
    UniformWeighting,
)
from art_gair.plugins import Plugin, checkpoint
from art_gair.storage.files import read_state
from art_gair.training.settings import describe, describe_model
from art_gair.weighting import floored
from tests.models import assert_same_state, classifier_of, digits, mlp, state_of

EPOCHS = 3


class Leaves(Plugin):
    """Ends a training after so many steps, as a kill does, but for what is saved then."""

    affects_training = False

    def __init__(self, steps: int) -> None:
        self.left = steps

    def after_step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("killed")


class Setting:
    """The parts of a training, made anew for each process that it stands for."""

    def __init__(self, **parts: Any) -> None:
        torch.manual_seed(0)
        self.model: nn.Module = parts.pop("model", mlp)((1, 8, 8), 10)
        make_optimizer = parts.pop("optimizer", lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9))
        self.classifier = classifier_of(self.model, (1, 8, 8), optimizer=make_optimizer(self.model.parameters()))
        make_scheduler = parts.pop("scheduler", lambda optimizer: None)
        self.scheduler = make_scheduler(self.classifier.optimizer)
        self.weighting = parts.pop("weighting", UniformWeighting)()
        self.plugins = parts.pop("plugins", list)()
        self.burn_in = parts.pop("burn_in", 0)
        self.attack = {"eps": 0.2, "eps_step": 0.1, "max_iter": 2, **parts.pop("attack", {})}
        self.fit_settings = parts

    def trainer(self, *more: Plugin) -> AdversarialTrainerGAIRAT:
        attack = GeometryAwarePGD(self.classifier, **self.attack)
        plugins = [*self.plugins, *more]
        return AdversarialTrainerGAIRAT(self.classifier, attack, self.weighting, burn_in=self.burn_in, plugins=plugins)

    def fit(self, trainer: AdversarialTrainerGAIRAT, **settings: Any) -> AdversarialTrainerGAIRAT:
        x, y = digits(80)
        given: dict[str, Any] = {"batch_size": 16, "nb_epochs": EPOCHS, "seed": 3, "verbose": False}
        trainer.fit(x, y, scheduler=self.scheduler, **{**given, **self.fit_settings, **settings})
        return trainer


def stopped(folder: Path, steps: int, **parts: Any) -> None:
    setting = Setting(**parts)
    trainer = setting.trainer(Checkpoint(folder, every_batches=1), Leaves(steps))
    with pytest.raises(RuntimeError, match="killed"):
        setting.fit(trainer)


def resumed(folder: Path, **parts: Any) -> AdversarialTrainerGAIRAT:
    setting = Setting(**parts)
    return setting.fit(setting.trainer(Checkpoint(folder, every_batches=1)), resume=True)


def assert_equal(a: Any, b: Any) -> None:
    for one, other in zip(a.classifier.model.parameters(), b.classifier.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert [{**r, "seconds": 0} for r in a.history] == [{**r, "seconds": 0} for r in b.history]
    for one, other in zip(a.classifier.optimizer.state.values(), b.classifier.optimizer.state.values(), strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            if isinstance(value, Tensor):
                assert (value.dtype, value.tolist()) == (other[key].dtype, other[key].tolist()), key


class Counts:
    """A weighting with a state: it grows sharper with each batch."""

    def __init__(self) -> None:
        self.power = 0.1

    def __call__(self, *, kappa: Tensor, **batch: Any) -> Tensor:
        self.power *= 1.3
        weights = torch.exp(-self.power * kappa.double())
        return (weights / weights.mean()).float()

    def state_dict(self) -> dict[str, Any]:
        return {"power": self.power}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.power = state["power"]


class HalvesRate(Plugin):
    """Sets the learning rate at the beginning of an epoch, from what it finds."""

    def start(self, classifier: Any, optimizer: torch.optim.Optimizer) -> None:
        self.group = optimizer.param_groups[0]

    def begin_epoch(self, epoch: int) -> None:
        self.group["lr"] /= 2


class Unfreezes(Plugin):
    """Trains the first layer from epoch 1 on."""

    def start(self, classifier: Any, optimizer: torch.optim.Optimizer) -> None:
        self.layer = classifier.module[1]
        self.layer.requires_grad_(False)

    def begin_epoch(self, epoch: int) -> None:
        if epoch == 1:
            self.layer.requires_grad_(True)


class Remembers(nn.Module):
    """Keeps a number beside tensors, and says so as torch has it."""

    def __init__(self, shape: Any, nb_classes: int) -> None:
        super().__init__()
        self.inner, self.seen = mlp(shape, nb_classes), 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += self.training
        out: Tensor = self.inner(x) * (1 + self.seen / 100 if self.training else 1.0)
        return out

    def get_extra_state(self) -> int:
        return self.seen

    def set_extra_state(self, state: int) -> None:
        self.seen = state


class MasterWeights(torch.optim.SGD):
    """Keeps weights in float64 beside parameters in float32."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                master = self.state[p].setdefault("master", p.detach().double())
                master.sub_(p.grad.double(), alpha=group["lr"])
                p.data.copy_(master)


def adam(**settings: Any) -> Callable[[Any], torch.optim.Optimizer]:
    return lambda p: torch.optim.Adam(p, lr=0.01, **settings)


UNUSUAL: dict[str, dict[str, Any]] = {
    "Adam with amsgrad": {"optimizer": adam(amsgrad=True)},
    "NAdam": {"optimizer": lambda p: torch.optim.NAdam(p, lr=0.01)},
    "ASGD": {"optimizer": lambda p: torch.optim.ASGD(p, lr=0.01)},
    "master weights of another type": {"optimizer": lambda p: MasterWeights(p, lr=0.05)},
    "CyclicLR": {"scheduler": lambda o: schedulers.CyclicLR(o, 0.01, 0.1, step_size_up=3)},
    "CyclicLR by a function": {
        "scheduler": lambda o: schedulers.CyclicLR(o, 0.01, 0.1, step_size_up=3, scale_fn=lambda x: 0.9**x)
    },
    "ReduceLROnPlateau": {"scheduler": lambda o: schedulers.ReduceLROnPlateau(o, patience=0, threshold=1e9)},
    "SequentialLR": {
        "scheduler": lambda o: schedulers.SequentialLR(
            o, [schedulers.LinearLR(o, 0.1, total_iters=1), schedulers.LambdaLR(o, lambda e: 0.9**e)], [1]
        )
    },
    "a weighting with a state": {"weighting": Counts},
    "such a weighting in another": {"weighting": lambda: floored(Counts(), 0.2)},
    "a plugin that moves the rate": {"plugins": lambda: [HalvesRate()]},
    "a layer that is trained later": {"plugins": lambda: [Unfreezes()]},
    "a model with a state beside tensors": {"model": Remembers},
    "two averages": {"plugins": lambda: [EMA(0.9), EMA(0.5, validate="raw")]},
}


@pytest.mark.parametrize("name", UNUSUAL)
@pytest.mark.parametrize("steps", [5, 7], ids=["between epochs", "within an epoch"])
def test_a_training_goes_on_bit_for_bit_with(name: str, steps: int, tmp_path: Path) -> None:
    parts = UNUSUAL[name]
    setting = Setting(**parts)
    whole = setting.fit(setting.trainer())
    stopped(tmp_path, steps, **parts)
    assert_equal(resumed(tmp_path, **parts), whole)


class Wide(nn.Module):
    """A network with settings that no parameter shows."""

    def __init__(self, scale: float, activation: Any) -> None:
        super().__init__()
        self.inner = mlp((1, 8, 8), 10)
        self.scale, self.activation = scale, activation

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.inner(x)) * self.scale
        return out


def passed_on(**settings: Any) -> Any:
    class Named(TanhWeighting):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)

    return Named(**settings)


CHANGED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "eps": ({}, {"attack": {"eps": 0.3}}, "attack.eps: 0.2 -> 0.3"),
    "StepLR": (
        {"scheduler": lambda o: schedulers.StepLR(o, 2)},
        {"scheduler": lambda o: schedulers.StepLR(o, 1)},
        r"scheduler\[0\].step_size: 2 -> 1",
    ),
    "the length of a cosine": (
        {"scheduler": lambda o: schedulers.CosineAnnealingLR(o, 4)},
        {"scheduler": lambda o: schedulers.CosineAnnealingLR(o, 8)},
        r"scheduler\[0\].T_max: 4 -> 8",
    ),
    "the function of a LambdaLR": (
        {"scheduler": lambda o: schedulers.LambdaLR(o, lambda e: 0.9**e)},
        {"scheduler": lambda o: schedulers.LambdaLR(o, lambda e: 0.5**e)},
        r"scheduler\[0\].lr_lambdas\[0\]",
    ),
    "patience": (
        {"scheduler": lambda o: schedulers.ReduceLROnPlateau(o, patience=10)},
        {"scheduler": lambda o: schedulers.ReduceLROnPlateau(o, patience=1)},
        r"scheduler\[0\].patience: 10 -> 1",
    ),
    "a subclass that passes settings on": (
        {"weighting": lambda: passed_on(lam=-1.0)},
        {"weighting": lambda: passed_on(lam=3.0)},
        "weighting.lam: -1.0 -> 3.0",
    ),
    "an attribute of the model": (
        {"model": lambda *a: Wide(1.0, torch.relu)},
        {"model": lambda *a: Wide(5.0, torch.relu)},
        "model.scale: 1.0 -> 5.0",
    ),
    "a function of the model": (
        {"model": lambda *a: Wide(1.0, torch.relu)},
        {"model": lambda *a: Wide(1.0, torch.tanh)},
        "model.activation: .*relu -> .*tanh",
    ),
    "the learning rate": (
        {},
        {"optimizer": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)},
        "optimizer.lr: 0.05 -> 0.1",
    ),
    "the seed": ({}, {"seed": 4}, "seed: 3 -> 4"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_another_training_is_refused_and_told_what_differs(name: str, tmp_path: Path) -> None:
    before, now, message = CHANGED[name]
    stopped(tmp_path, 7, **before)
    setting = Setting(**now)
    state = state_of(setting.model)
    trainer = setting.trainer(Checkpoint(tmp_path))
    history: Any = [{"epoch": 7}]
    trainer.history = history
    with pytest.raises(ValueError, match=message):
        setting.fit(trainer, resume=True)
    assert_same_state(setting.model, state)
    assert trainer.history is history


def test_a_shorter_training_within_whose_last_epoch_the_save_does_not_lie_is_refused(tmp_path: Path) -> None:
    stopped(tmp_path, 13)
    with pytest.raises(ValueError, match=r"nb_epochs is 2, and .* stands within epoch 2, counted from 0; expected at"):
        resumed(tmp_path, nb_epochs=2)


def test_groups_that_a_training_added_to_the_optimizer_are_asked_for(tmp_path: Path) -> None:
    class Adds(Plugin):
        def start(self, classifier: Any, optimizer: torch.optim.Optimizer) -> None:
            self.classifier, self.optimizer = classifier, optimizer

        def begin_epoch(self, epoch: int) -> None:
            if epoch == 1:
                self.optimizer.add_param_group({"params": list(self.classifier.module[3].parameters())})

    first = {"optimizer": lambda p: torch.optim.SGD(list(p)[:2], lr=0.05), "plugins": lambda: [Adds()]}
    stopped(tmp_path, 7, **first)
    with pytest.raises(ValueError, match=r"groups of \[2, 2\] parameters, the classifier's has \[2\]"):
        resumed(tmp_path, **first)


def test_a_scheduler_that_could_not_be_resumed_is_refused_before_the_training(tmp_path: Path) -> None:
    class Own:
        def step(self) -> None: ...

        def state_dict(self) -> dict[str, Any]:
            return {}

    setting = Setting(scheduler=lambda o: Own())
    with pytest.raises(TypeError, match="scheduler is a Own without load_state_dict"):
        setting.fit(setting.trainer(Checkpoint(tmp_path)))
    setting.fit(setting.trainer())


def test_functions_that_a_torch_scheduler_holds_are_not_saved(tmp_path: Path) -> None:
    class Own(schedulers.LRScheduler):
        def __init__(self, optimizer: Any) -> None:
            self.fn: Any = lambda epoch: 0.5**epoch
            super().__init__(optimizer)

        def get_lr(self) -> Any:
            return [base * self.fn(self.last_epoch) for base in self.base_lrs]

    setting = Setting(scheduler=Own)
    whole = setting.fit(setting.trainer())
    stopped(tmp_path, 7, scheduler=Own)
    assert_equal(resumed(tmp_path, scheduler=Own), whole)


def test_a_state_of_the_optimizer_that_cannot_be_saved_is_refused_after_the_first_step(tmp_path: Path) -> None:
    class Odd(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            super().step(closure)
            self.state[self.param_groups[0]["params"][0]]["seen"] = {"by": print}

    setting, steps = Setting(optimizer=lambda p: Odd(p, lr=0.05)), Leaves(10**6)
    with pytest.raises(TypeError, match=r"state\['optimizer'\].*is a builtin_function"):
        setting.fit(setting.trainer(Checkpoint(tmp_path), steps))
    assert 10**6 - steps.left == 1


# In one process, as in a notebook


def interrupted_and_resumed(folder: Path, **parts: Any) -> tuple[Any, Any]:
    setting = Setting(**parts)
    whole = setting.fit(setting.trainer())
    setting = Setting(**parts)
    with pytest.raises(RuntimeError, match="killed"):
        setting.fit(setting.trainer(Checkpoint(folder, every_batches=1), Leaves(8)))
    return setting.fit(setting.trainer(Checkpoint(folder, every_batches=1)), resume=True), whole


class Lazy(nn.Module):
    """Registers a buffer in its first forward."""

    def __init__(self, shape: Any, nb_classes: int) -> None:
        super().__init__()
        self.inner = mlp(shape, nb_classes)

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "position"):
            self.register_buffer("position", torch.ones(3))
        out: Tensor = self.inner(x)
        return out


IN_PLACE: dict[str, dict[str, Any]] = {
    "a scheduler that has moved the rate": {"scheduler": lambda o: schedulers.StepLR(o, 1, 0.5)},
    "a weighting with a state": {"weighting": Counts},
    "a buffer that came later": {"model": Lazy},
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_a_new_trainer_goes_on_with_the_objects_of_the_one_before(name: str, tmp_path: Path) -> None:
    assert_equal(*interrupted_and_resumed(tmp_path, **IN_PLACE[name]))


# Folders


def test_a_folder_is_where_it_was_when_the_training_changes_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Moves(Plugin):
        affects_training = False

        def end_epoch(self, record: Any) -> None:
            monkeypatch.chdir(tmp_path / "b")

    for name in "ab":
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "a")
    setting = Setting()
    setting.fit(setting.trainer(Checkpoint("saves"), Moves()))
    assert len(list((tmp_path / "a" / "saves").glob("*.checkpoint"))) == 2
    assert not (tmp_path / "b" / "saves").exists()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.checkpoint"))


def test_a_second_checkpoint_in_a_used_folder_keeps_what_it_saves(tmp_path: Path) -> None:
    setting = Setting(nb_epochs=5)
    setting.fit(setting.trainer(Checkpoint(tmp_path / "b")))
    stopped(tmp_path / "a", 7)
    setting = Setting()
    setting.fit(setting.trainer(Checkpoint(tmp_path / "a"), Checkpoint(tmp_path / "b")), resume=True)
    assert names(tmp_path / "b")[-1] == "epoch-0003-batch-000000.checkpoint"
    assert names(tmp_path / "b" / "earlier-1") == [f"epoch-{i:04d}-batch-000000.checkpoint" for i in (4, 5)]


def test_saves_are_set_aside_beside_whatever_is_there(tmp_path: Path) -> None:
    setting = Setting(nb_epochs=5)
    setting.fit(setting.trainer(Checkpoint(tmp_path)))
    (tmp_path / "earlier-1").symlink_to(tmp_path / "nowhere")
    setting = Setting()
    setting.fit(setting.trainer(Checkpoint(tmp_path)))
    assert names(tmp_path)[-1] == "epoch-0003-batch-000000.checkpoint"
    assert len(names(tmp_path / "earlier-2")) == 2


def test_a_save_that_the_disk_does_not_give_back_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stopped(tmp_path, 7)
    newest = sorted(tmp_path.glob("*.checkpoint"))[-1]
    read = read_state

    def read_most(path: Path) -> Any:
        if path == newest:
            raise OSError(5, "Input/output error")
        return read(path)

    monkeypatch.setattr(checkpoint, "read_state", read_most)
    setting = Setting()
    assert_equal(resumed(tmp_path), setting.fit(setting.trainer()))
    assert f"{newest} cannot be read" in caplog.text


def test_early_stopping_finds_its_own_state_behind_another(tmp_path: Path) -> None:
    x, y = digits(20)
    data = {"validation_data": (x, y), "validate_every": 1}
    stopped(tmp_path, 11, plugins=lambda: [EarlyStopping(9, "clean_accuracy")], **data)
    setting = Setting(plugins=lambda: [EarlyStopping(9, "loss"), EarlyStopping(9, "clean_accuracy")], **data)
    trainer = setting.trainer(Checkpoint(tmp_path), Leaves(0))
    with pytest.raises(RuntimeError, match="killed"):
        setting.fit(trainer, resume=True)
    assert setting.plugins[1].state_dict()["best"] is not None
    assert setting.plugins[0].state_dict()["best"] is None


PLATEAU: dict[str, Any] = {"scheduler": lambda o: schedulers.ReduceLROnPlateau(o, mode="max")}
STOPPING: dict[str, Any] = {"plugins": lambda: [EarlyStopping(9)]}


@pytest.mark.parametrize("parts", [PLATEAU, STOPPING], ids=["plateau", "early stopping"])
def test_other_validation_is_refused_where_the_training_goes_by_it(parts: Any, tmp_path: Path) -> None:
    stopped(tmp_path, 6, validation_data=digits(20), **parts)
    with pytest.raises(ValueError, match=r"validation\.x: "):
        resumed(tmp_path, validation_data=digits(24), **parts)
    expected = Setting(validation_data=digits(20), **parts)
    assert_equal(resumed(tmp_path, validation_data=digits(20), **parts), expected.fit(expected.trainer()))


@pytest.mark.parametrize(("n", "said"), [(20, False), (24, True)])
def test_other_validation_that_only_watches_is_said(
    n: int, said: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stopped(tmp_path, 6, validation_data=digits(20))
    caplog.clear()
    resumed(tmp_path, validation_data=digits(n), validate_every=2)
    assert ("other accuracies are measured, not to be compared" in caplog.text) == said


def test_a_watcher_that_is_new_may_come_with_other_validation(tmp_path: Path) -> None:
    stopped(tmp_path, 6, validation_data=digits(20))
    trainer = resumed(tmp_path, validation_data=digits(24), **STOPPING)
    assert [record["robust_accuracy"] is None for record in trainer.history] == [False] * EPOCHS


# Descriptions are the same in another process, and differ where something decides


def f(x: Tensor, *, strength: float = 0.1) -> Tensor:
    return x + strength


def g(x: Tensor, *, strength: float = 0.2) -> Tensor:
    return x + strength


@pytest.mark.parametrize(
    "value",
    [np.longdouble(0.1), np.array([1, 2], ">f4"), np.array([0.1], np.longdouble), {print: 1}, {2, 1}, frozenset("ab")],
    ids=lambda value: type(value).__name__,
)
def test_unusual_values_can_be_described(value: Any) -> None:
    found = describe("value", value)
    assert found == describe("value", value)
    assert not any(re.search("0x", text) for text in [*found, *found.values()])


def test_what_decides_is_described() -> None:
    def without_name(value: Any) -> list[str]:
        return [text for text in describe("v", value).values() if not text.startswith(("f ", "g "))]

    assert without_name(f) != without_name(g)
    assert describe("v", {1}) != describe("v", {2})
    assert describe("v", functools.partial(f, strength=1.0)) != describe("v", functools.partial(f, strength=2.0))


def test_an_address_in_a_text_of_the_model_is_left_out() -> None:
    class Shows(nn.Module):
        def extra_repr(self) -> str:
            return f"f={(lambda x: x)!r}"

    assert describe_model(Shows()) == describe_model(Shows())


def test_a_loader_is_described_by_what_it_yields(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    x, y = (torch.from_numpy(a) for a in digits(60))

    def fit(resume: bool, steps: int, **loader: Any) -> None:
        setting = Setting()
        trainer = setting.trainer(Checkpoint(tmp_path), Leaves(steps))
        data = DataLoader(TensorDataset(x, y), batch_size=16, **loader)
        trainer.fit_generator(data, nb_epochs=2, seed=0, resume=resume, verbose=False)

    with pytest.raises(RuntimeError, match="killed"):
        fit(False, 5, shuffle=True)
    for changed, message in (({}, "sampler: RandomSampler -> SequentialSampler"), ({"drop_last": True}, "drop_last")):
        with pytest.raises(ValueError, match=message):
            fit(True, 99, **{"shuffle": bool(changed), **changed})
    with caplog.at_level(logging.INFO, logger="art_gair"):
        fit(True, 99, shuffle=True)
    assert "Training goes on at epoch 1" in caplog.text


@pytest.mark.parametrize("steps", [3, 5, 7, 10], ids=["first epoch", "its end", "second epoch", "its end too"])
def test_workers_that_live_on_from_epoch_to_epoch_draw_no_other_order(steps: int, tmp_path: Path) -> None:
    """They take a seed of their own at the beginning of the first epoch alone."""
    x, y = (torch.from_numpy(a) for a in digits(80))

    def fit(*more: Plugin, resume: bool = False) -> AdversarialTrainerGAIRAT:
        trainer = Setting().trainer(*more)
        data = DataLoader(TensorDataset(x, y), 16, shuffle=True, num_workers=1, persistent_workers=True)
        try:
            trainer.fit_generator(data, nb_epochs=EPOCHS, seed=3, resume=resume, verbose=False)
        finally:
            data._iterator._shutdown_workers()  # type: ignore[union-attr]  # the error holds the loader
        return trainer

    with pytest.raises(RuntimeError, match="killed"):
        fit(Checkpoint(tmp_path, every_batches=1), Leaves(steps))
    assert_equal(fit(Checkpoint(tmp_path, every_batches=1), resume=True), fit())


def test_workers_are_not_started_where_nothing_is_left_to_train(tmp_path: Path) -> None:
    x, y = (torch.from_numpy(a) for a in digits(48))
    loaders = [DataLoader(TensorDataset(x, y), 16, num_workers=n, persistent_workers=n > 0) for n in (0, 1)]
    for data, resume in zip(loaders, (False, True), strict=True):
        trainer = Setting().trainer(Checkpoint(tmp_path))
        trainer.fit_generator(data, nb_epochs=1, seed=3, resume=resume, verbose=False)
    assert loaders[1]._iterator is None
