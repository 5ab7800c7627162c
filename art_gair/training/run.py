"""A training and where it stands: it can be saved between any two steps, and gone on with from there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from art_gair.engine.model_state import extra_state, live_state, moved_to, put_back
from art_gair.training.data import Source
from art_gair.training.epoch_batches import EpochBatches, Groups
from art_gair.training.history import EpochMeter, EpochRecord
from art_gair.training.interrupts import Interrupts
from art_gair.training.notices import Notices
from art_gair.training.optimizer_state import load_optimizer
from art_gair.training.plan import TrainingPlan
from art_gair.training.schedulers import Scheduler
from art_gair.training.settings import Settings, describe_environment
from art_gair.training.step import TrainingStep
from art_gair.training.validation import Validation

POSITION = ("epoch", "batch", "nb_epochs", "stopped")


@dataclass
class TrainingRun:
    """The parts of a training, and its position.

    :param settings: what it was set to, see `art_gair.training.settings`; empty if nobody saves it.
    :param epoch: in training, or to be trained next.
    :param batch: steps taken in it.
    :param stopped: whether a plugin has ended the training.
    :param begun: whether it may have changed anything.
    :param resumed: whether it goes on from a checkpoint.
    :param leaving: whether a signal ends it here.
    :param notes: what the message about leaving says beside the place.
    """

    plan: TrainingPlan
    source: Source
    scheduler: Scheduler
    validation: Validation | None
    nb_epochs: int
    accumulate: int
    settings: Settings
    interrupts: Interrupts
    epoch: int = 0
    batch: int = 0
    stopped: bool = False
    begun: bool = False
    resumed: bool = False
    leaving: bool = False
    notes: list[str] = field(default_factory=list)
    history: list[EpochRecord] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.device = self.plan.classifier.device
        self.notices = Notices(0 if self.validation is None else len(self.validation.x))
        self.group = self.plan.group
        self.validated = [] if self.validation is None else self.validation.at(self.nb_epochs)
        if self.validation is not None:
            self.validation.check = self.interrupts.check
        self.meter: EpochMeter | None = None
        self.batches: EpochBatches | None = None
        self._ahead: Groups | None = None

    @property
    def done(self) -> bool:
        """Whether no epoch is left."""
        return self.stopped or self.epoch >= self.nb_epochs

    def begin_epoch(self) -> tuple[TrainingStep, EpochMeter, Groups]:
        """Begin an epoch, or go on in the middle of one: its step, its sums and its batches, in groups for a step."""
        if self.meter is not None and self._ahead is not None:
            groups, self._ahead = self._ahead, None
            return self.plan.make_step(self.epoch, self.batch, self.meter.skipped), self.meter, groups
        self.plan.streams.begin_epoch()
        self.source.set_epoch(self.epoch)
        self.plan.streams.seed_alike(self.epoch, -1)
        for plugin in self.plan.plugins:
            plugin.begin_epoch(self.epoch)
        step = self.plan.make_step(self.epoch)  # after them, since they may set the attack
        self.meter = EpochMeter(step.max_iter, self.device, self.group)
        self.plan.streams.seed_own(self.epoch, -1)
        self.meter.lr = float(self.plan.optimizer.param_groups[0]["lr"])
        self.batches = EpochBatches(self.source, self.device, self.accumulate, self._left)
        return step, self.meter, iter(self.batches)

    def end_epoch(self, record: EpochRecord) -> None:
        """Move on to the next epoch."""
        self.history.append(record)
        self.source.note_generators()
        self.epoch, self.batch, self.meter, self.batches = self.epoch + 1, 0, None, None

    def state(self) -> dict[str, Any]:
        """Return all that the training needs to go on from here: tensors themselves, and plain values."""
        self.require_finite(now=True)
        best = None if self.validation is None else self.validation.best
        return {
            **{name: getattr(self, name) for name in POSITION},
            "settings": self.settings,
            "environment": self.environment(),
            "burn_in": self.plan.burn_in,
            "model": live_state(self.plan.classifier.module),
            "extra": extra_state(self.plan.classifier.module),
            "trained": [name for name, p in self.plan.classifier.module.named_parameters() if p.requires_grad],
            "optimizer": self.plan.optimizer.state_dict(),
            "scheduler": self.scheduler.state(),
            "plugins": [(type(p).__name__, repr(p), p.state_dict()) for p in self.plan.plugins],
            "parts": {name: part.state_dict() for name, part in self.plan.stateful().items()},
            "history": [dict(record) for record in self.history],
            "notices": self.notices.given,
            "best": None if best is None else best.state(),
            "generators": self.source.read_generators(),
            "meter": None if self.meter is None else self.meter.state(),
            "batches": None if self.batches is None else self.batches.state(),
        }

    def environment(self) -> Settings:
        """Return on what it runs: what may be otherwise when it is resumed."""
        found = describe_environment(self.device) | self.source.environment | self.plan.environment
        return found if self.group.size == 1 else {**found, "processes": str(self.group.size)}

    def load(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken; plugins have started, and the state has been held against the settings."""
        self.resumed, self.begun = True, True
        self.epoch, self.batch = state["epoch"], state["batch"]
        self.stopped = state["stopped"] and state["nb_epochs"] == self.nb_epochs
        if state["batches"] is not None:  # first of all: what these do is part of the state
            self.plan.streams.seed_alike(self.epoch, -1)
            for plugin in self.plan.plugins:
                plugin.begin_epoch(self.epoch)
        self._load_model(state)
        load_optimizer(self.plan.optimizer, state["optimizer"])
        self.scheduler.load(state["scheduler"])
        self.history[:] = [EpochRecord(**record) for record in state["history"]]  # type: ignore[typeddict-item]
        self.notices.given = state["notices"]
        if self.validation is not None and self.validation.best is not None and state["best"] is not None:
            self.validation.best.load(state["best"])
        for name, part in self.plan.stateful().items():
            if name in state["parts"]:
                part.load_state_dict(state["parts"][name])
        self._load_plugins(state["plugins"])
        if self.epoch > 0 and not self.done:
            self.source.set_epoch(0)
            self.source.wake()
        self.source.put_back_generators(state["generators"])
        if state["batches"] is not None:
            self.plan.streams.seed_own(self.epoch, -1)
            self.source.set_epoch(self.epoch)
            self.meter = EpochMeter(self.plan.attack.max_iter, self.device, self.group)
            self.meter.load(state["meter"])
            self.batches = EpochBatches(self.source, self.device, self.accumulate, self._left)
            self._ahead = self.batches.resumed(state["batches"], self.batch)

    def _left(self) -> bool:
        return self.interrupts.received is not None

    def _load_model(self, state: dict[str, Any]) -> None:
        module = self.plan.classifier.module
        put_back(module, moved_to(module, state["model"]))
        for name, values in state["extra"].items():
            module.get_submodule(name).set_extra_state(values)
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(name in state["trained"])

    def _load_plugins(self, states: list[tuple[str, str, dict[str, Any]]]) -> None:
        """Give each plugin the state of its like: of the same name and settings, else the next of the same name."""
        waiting, without = list(states), list(self.plan.plugins)
        for parts in (2, 1):
            for plugin in list(without):
                wanted = (type(plugin).__name__, repr(plugin))[:parts]
                found = next((state for state in waiting if tuple(state[:parts]) == wanted), None)
                if found is not None:
                    plugin.load_state_dict(found[2])
                    waiting = [state for state in waiting if state is not found]
                    without = [other for other in without if other is not plugin]

    def require_finite(self, *, now: bool = False) -> None:
        """Raise if a step was not finite, see `FiniteGuard.require_finite`."""
        lr = float(self.plan.optimizer.param_groups[0]["lr"])
        samples = (lambda step: None) if self.batches is None else self.batches.samples
        self.plan.guard.require_finite(self.epoch, lr, samples=samples, now=now)
