"""Schedulers of the learning rate: after what a training steps them, and which it refuses."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Iterator
from types import CellType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CyclicLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from art_gair.training.history import EpochRecord
from art_gair.training.settings import Settings, describe, describe_made

SHARED = (ModuleType, type, Tensor, np.ndarray, nn.Module)
"""What a rehearsal does not copy: it may be large, and hardly counts calls."""

PER_BATCH = (OneCycleLR, CyclicLR)
"""Schedulers that torch's documentation steps after each batch."""


class Scheduler:
    """A scheduler, and whether it is stepped after each epoch or after each of the optimizer's steps.

    :param scheduler: one of torch.optim.lr_scheduler, another object with step() and state_dict(), or None. One of the
        latter needs load_state_dict() as well where a Checkpoint saves it.
    :param optimizer: of the training.
    :param steps: optimizer steps an epoch, None if that is unknown.
    :param when: "epoch", "batch", or None: "batch" for OneCycleLR and CyclicLR, also inside another, else "epoch".
    :param validated: whether epochs have a robust accuracy, which ReduceLROnPlateau watches in mode "max".
    :raises TypeError, ValueError: if it is no scheduler of this optimizer, or cannot be stepped in this way.
    """

    def __init__(
        self,
        scheduler: Any,
        optimizer: torch.optim.Optimizer,
        *,
        steps: int | None,
        when: str | None,
        validated: bool,
    ) -> None:
        self.steps = steps
        self.scheduler, self.plateau = scheduler, isinstance(scheduler, ReduceLROnPlateau)
        if when is not None and (not isinstance(when, str) or when not in ("epoch", "batch")):
            raise ValueError(f"scheduler_step is {when!r}; expected 'epoch', 'batch' or None.")
        if scheduler is None:
            if when is not None:
                raise ValueError(f"scheduler_step is {when!r}, but no scheduler is given.")
            self.per_batch = False
            return
        methods = (getattr(scheduler, name, None) for name in ("step", "state_dict"))
        if isinstance(scheduler, type) or not all(map(callable, methods)):
            raise TypeError(
                f"scheduler is a {type(scheduler).__name__}; expected one of torch.optim.lr_scheduler, or an object "
                "with step() and state_dict()."
            )
        plateau = isinstance(scheduler, ReduceLROnPlateau)
        if not plateau and not _takes_nothing(scheduler.step):
            raise TypeError(
                f"scheduler is a {type(scheduler).__name__}, whose step needs arguments; expected one with step()."
            )
        if getattr(scheduler, "optimizer", optimizer) is not optimizer:
            raise ValueError("scheduler updates another optimizer; expected one of the classifier's optimizer.")
        parts = list(_parts(scheduler))
        per_batch = [type(part).__name__ for part in parts if isinstance(part, PER_BATCH)]
        self.per_batch = bool(per_batch) if when is None else when == "batch"
        if per_batch and not self.per_batch:
            raise ValueError(f"scheduler_step is 'epoch', but {per_batch[0]} is made to be stepped after each batch.")
        for part in parts:
            if isinstance(part, ReduceLROnPlateau):
                self._check_plateau(part, validated)

    def rehearse(self, first: int, nb_epochs: int, taken: int = 0, state: dict[str, Any] | None = None) -> None:
        """Step a copy through the epochs to come: a list of rates may be too short.

        A scheduler that cannot be copied is left to fail when it fails.

        :param first: epoch that is trained next, of which `taken` steps are taken.
        :param state: of the scheduler, where a training is resumed.
        :raises ValueError: if it fails, saying where.
        """
        unknown = self.per_batch and self.steps is None
        if not isinstance(self.scheduler, LRScheduler) or self.plateau or unknown:
            return
        copied = _copy(self.scheduler)
        if copied is None:
            return
        if state is not None:
            copied.load_state_dict(copy.deepcopy(state))  # some take entries out of what they are given
        steps = self.steps if self.per_batch and self.steps is not None else 1
        for i in range(first * steps + (taken if self.per_batch else 0), nb_epochs * steps):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # that the optimizer was not stepped before its scheduler
                    copied.step()
            except Exception as error:
                within = f", step {i % steps} of {steps}" if steps > 1 else ""
                reason = f"{type(error).__name__}: {error}"
                raise ValueError(
                    f"scheduler fails after epoch {i // steps} of {nb_epochs}{within}: {reason}"
                ) from error

    def _check_plateau(self, part: ReduceLROnPlateau, validated: bool) -> None:
        if self.per_batch:
            raise ValueError("scheduler is ReduceLROnPlateau, which watches epochs; scheduler_step must be 'epoch'.")
        if part.mode == "max" and not validated:
            raise ValueError('scheduler is ReduceLROnPlateau in mode "max", which needs validation_data to watch.')

    @property
    def watches_validation(self) -> bool:
        """Whether it goes by the robust accuracy of epochs."""
        return self.plateau and self.scheduler.mode == "max"

    def end_batch(self) -> None:
        """Step a scheduler that counts batches."""
        if self.per_batch:
            self.scheduler.step()

    def end_epoch(self, record: EpochRecord) -> None:
        """Step one that counts epochs; ReduceLROnPlateau watches the loss or, in mode "max", the robust accuracy."""
        if self.scheduler is None or self.per_batch:
            return
        if not self.plateau:
            self.scheduler.step()
            return
        metric = record["robust_accuracy"] if self.watches_validation else record["loss"]
        if metric is not None:  # an epoch that is not validated says nothing
            self.scheduler.step(metric)

    def state(self) -> dict[str, Any] | None:
        """Return the scheduler's own state; functions that a torch scheduler holds are no part of it."""
        if self.scheduler is None:
            return None
        state: dict[str, Any] = self.scheduler.state_dict()
        if isinstance(self.scheduler, LRScheduler):
            return {key: value for key, value in state.items() if not callable(value)}
        return state

    def load(self, state: dict[str, Any] | None) -> None:
        """Take over its own state."""
        if self.scheduler is None:
            return
        self.scheduler.load_state_dict(copy.deepcopy(state))
        if isinstance(getattr(self.scheduler, "optimizer", None), torch.optim.Optimizer):
            # At the end of the first epoch torch would warn: it does not know of the steps before the kill.
            self.scheduler.optimizer._opt_called = True

    def require_resumable(self) -> None:
        """Refuse a scheduler whose state could be saved but not taken over.

        :raises TypeError: if it has no load_state_dict.
        """
        if self.scheduler is not None and not callable(getattr(self.scheduler, "load_state_dict", None)):
            raise TypeError(
                f"scheduler is a {type(self.scheduler).__name__} without load_state_dict(state); Checkpoint needs it."
            )

    def describe(self) -> Settings:
        """Return how the scheduler was made, by name."""
        found = {"scheduler": repr(self)}
        for i, part in enumerate(_parts(self.scheduler) if self.scheduler is not None else ()):
            found |= describe_made(f"scheduler[{i}]", part)
            for name in ("lr_lambdas", "max_lrs", "total_size", "step_ratio", "_milestones"):
                if hasattr(part, name):
                    found |= describe(f"scheduler[{i}].{name}", getattr(part, name))
        return found

    def __repr__(self) -> str:
        names = [type(part).__name__ for part in _parts(self.scheduler)] if self.scheduler is not None else ["None"]
        return " of ".join(names) + (" each batch" if self.per_batch else "")


def _takes_nothing(function: Any) -> bool:
    """Whether a function can be called without arguments, as far as it tells."""
    try:
        inspect.signature(function).bind()
    except TypeError:
        return False
    except ValueError:  # it has no signature
        return True
    return True


def _parts(scheduler: Any) -> Iterator[Any]:
    """Yield the scheduler and those inside it (SequentialLR, ChainedScheduler)."""
    yield scheduler
    for part in getattr(scheduler, "_schedulers", ()):
        yield from _parts(part)


def _copy(scheduler: LRScheduler) -> LRScheduler | None:
    """Return a copy on an optimizer that updates nothing; None if it cannot be copied."""
    groups = [{**group, "params": [torch.zeros(1)]} for group in scheduler.optimizer.param_groups]
    idle = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    for group, original in zip(idle.param_groups, scheduler.optimizer.param_groups, strict=True):
        group.update({k: v for k, v in original.items() if k != "params"})
    try:
        memo: dict[int, Any] = {id(scheduler.optimizer): idle}
        copied = copy.deepcopy(scheduler, memo)
        for part in _parts(copied):
            if hasattr(part, "lr_lambdas"):
                part.lr_lambdas = [_copied_function(function, memo) for function in part.lr_lambdas]
    except Exception:
        return None
    return copied


def _copied_function(function: Any, memo: dict[int, Any]) -> Any:
    """Return a function that holds copies of all it reads: a rehearsal must not use up what the function remembers."""
    if not isinstance(function, FunctionType):
        return function
    cells = tuple(CellType(copy.deepcopy(cell.cell_contents, memo)) for cell in function.__closure__ or ())
    held = {name: function.__globals__[name] for name in function.__code__.co_names if name in function.__globals__}
    held = {name: value for name, value in held.items() if not isinstance(value, SHARED) and value is not function}
    copied = FunctionType(
        function.__code__,
        {**function.__globals__, **copy.deepcopy(held, memo)},
        function.__name__,
        copy.deepcopy(function.__defaults__, memo),
        cells,
    )
    copied.__kwdefaults__ = copy.deepcopy(function.__kwdefaults__, memo)
    return copied
