"""The loop over epochs, one for arrays and for generators."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from tqdm.auto import trange

from art_gair.training.data import Epoch, merge_singles
from art_gair.training.history import EpochMeter, EpochRecord
from art_gair.training.step import TrainingStep
from art_gair.weighting.base import Weighting
from art_gair.weighting.geometry import UniformWeighting

logger = logging.getLogger(__name__)

Validation = Callable[[], tuple[float, float]]
"""Called at the end of an epoch; returns clean and robust accuracy, 0..1."""


def train(
    step: TrainingStep,
    batches: Epoch,
    nb_epochs: int,
    burn_in: int,
    weighting: Weighting,
    scheduler: LRScheduler | None,
    validation: Validation | None,
    history: list[EpochRecord],
) -> None:
    """Train for nb_epochs, the first burn_in of them with weight 1 for every sample; append a record for each.

    :raises FloatingPointError: when a loss or gradient is not finite; the model keeps its last finite weights.
    :raises ValueError: when an epoch has no batch.
    """
    device = step.classifier.device
    for epoch in trange(nb_epochs, desc="Adversarial Training GAIRAT - Epochs"):
        in_burn_in = epoch < burn_in
        scheme: Weighting = UniformWeighting() if in_burn_in else weighting
        lr = float(step.optimizer.param_groups[0]["lr"])
        meter = EpochMeter(step.max_iter, device)
        step.guard.begin_epoch()
        for x, labels in merge_singles(batches()):
            step(x.to(device, torch.float32), labels.to(device), scheme, epoch, meter)
            step.guard.require_finite(epoch, lr)
        step.guard.require_finite(epoch, lr, now=True)
        if meter.batches == 0:
            raise ValueError(f"generator yielded no batch in epoch {epoch}.")
        with _generators_restored(device):
            accuracy = None if validation is None else validation()
        record = meter.record(epoch, in_burn_in, lr, _lam(scheme, epoch), accuracy)
        history.append(record)
        _advance(scheduler, record)
        _log(record)


def _lam(weighting: Any, epoch: int) -> float | None:
    return float(weighting.lam_at(epoch)) if hasattr(weighting, "lam_at") else None


@contextmanager
def _generators_restored(device: torch.device) -> Iterator[None]:
    """Validation draws random starts; training must go on as if it had not."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def _advance(scheduler: LRScheduler | None, record: EpochRecord) -> None:
    """Step the scheduler; ReduceLROnPlateau watches the loss in mode "min", validation's robust accuracy in "max"."""
    if isinstance(scheduler, ReduceLROnPlateau):
        metric = record["loss"] if scheduler.mode == "min" else record["robust_accuracy"]
        assert metric is not None
        scheduler.step(metric)
    elif scheduler is not None:
        scheduler.step()


def _log(record: EpochRecord) -> None:
    logger.info(
        "epoch: %s time(s): %.1f loss: %.4f acc(tr, adv): %.4f acc(val): %s acc(val, adv): %s ess: %.1f lr: %g",
        record["epoch"],
        record["seconds"],
        record["loss"],
        record["train_robust_accuracy"],
        *("-" if a is None else f"{a:.4f}" for a in (record["clean_accuracy"], record["robust_accuracy"])),
        record["effective_sample_size"],
        record["lr"],
    )
