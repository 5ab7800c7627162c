"""Schedulers of the learning rate: which a training can step once an epoch, and how it does."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch.optim.lr_scheduler import CyclicLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from art_gair.training.history import EpochRecord

PER_BATCH = (OneCycleLR, CyclicLR)
"""Schedulers that torch's documentation steps after each batch."""


def check_scheduler(scheduler: Any, optimizer: torch.optim.Optimizer, nb_epochs: int, *, validated: bool) -> None:
    """Refuse what is no scheduler of this optimizer, needs a step each batch, or would fail in a later epoch.

    :raises TypeError, ValueError: with the reason.
    """
    if scheduler is None:
        return
    if not isinstance(scheduler, LRScheduler):
        raise TypeError(f"scheduler is a {type(scheduler).__name__}; expected one of torch.optim.lr_scheduler.")
    if scheduler.optimizer is not optimizer:
        raise ValueError("scheduler updates another optimizer; expected one of the classifier's optimizer.")
    for part in _parts(scheduler):
        name = type(part).__name__
        if isinstance(part, PER_BATCH):
            raise ValueError(
                f"scheduler {name} is made to be stepped after each batch, but a training steps its scheduler after "
                "each epoch; expected one that counts epochs, such as CosineAnnealingLR."
            )
        if isinstance(part, ReduceLROnPlateau) and part.mode == "max" and not validated:
            raise ValueError('scheduler is ReduceLROnPlateau in mode "max", which needs validation_data to watch.')
    if not isinstance(scheduler, ReduceLROnPlateau):
        _rehearse(scheduler, nb_epochs)


def advance(scheduler: LRScheduler | None, record: EpochRecord) -> None:
    """Step the scheduler; ReduceLROnPlateau watches the loss in mode "min", validation's robust accuracy in "max"."""
    if isinstance(scheduler, ReduceLROnPlateau):
        metric = record["loss"] if scheduler.mode == "min" else record["robust_accuracy"]
        assert metric is not None
        scheduler.step(metric)
    elif scheduler is not None:
        scheduler.step()


def _parts(scheduler: Any) -> Iterator[Any]:
    """Yield the scheduler and those inside it (SequentialLR, ChainedScheduler)."""
    yield scheduler
    for part in getattr(scheduler, "_schedulers", ()):
        yield from _parts(part)


def _rehearse(scheduler: LRScheduler, nb_epochs: int) -> None:
    """Step a copy, on an optimizer that updates nothing, through all epochs: a list of rates may be too short.

    A scheduler that cannot be copied is left to fail when it fails.
    """
    groups = [{**group, "params": [torch.zeros(1)]} for group in scheduler.optimizer.param_groups]
    idle = torch.optim.SGD(groups, lr=0.1)
    try:
        rehearsed = copy.deepcopy(scheduler, {id(scheduler.optimizer): idle})
    except Exception:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the optimizer was not stepped before its scheduler
        for epoch in range(nb_epochs):
            try:
                rehearsed.step()
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                raise ValueError(f"scheduler fails after epoch {epoch} of {nb_epochs}: {reason}") from error
