"""The loop over epochs, one for arrays and for generators."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from tqdm.auto import trange

from art_gair import generators
from art_gair.plugins.base import Plugin
from art_gair.training.data import Epoch, merge_singles, on_device
from art_gair.training.history import EpochMeter, EpochRecord
from art_gair.training.step import TrainingStep

logger = logging.getLogger(__name__)

Validation = Callable[[TrainingStep], tuple[float, float]]
"""Called at the end of an epoch; returns clean and robust accuracy, 0..1."""


def train(
    make_step: Callable[[int], TrainingStep],
    batches: Epoch,
    nb_epochs: int,
    scheduler: LRScheduler | None,
    validation: Validation | None,
    history: list[EpochRecord],
) -> None:
    """Train for nb_epochs; append a record for each.

    :param make_step: gives the step as it stands in an epoch.
    :raises FloatingPointError: when a loss or gradient is not finite; the model keeps its last finite weights.
    :raises ValueError: when an epoch has no batch, or the weighting's weights are unusable.
    """
    for epoch in trange(nb_epochs, desc="Adversarial Training GAIRAT - Epochs"):
        step = make_step(epoch)
        device = step.classifier.device
        lr = float(step.optimizer.param_groups[0]["lr"])
        meter = EpochMeter(step.max_iter, device)
        step.guard.begin_epoch()
        for plugin in step.plugins:
            plugin.begin_epoch(epoch)
        for x, labels, some_missing in on_device(merge_singles(batches()), device):
            step(x, labels, meter, unlabelled=some_missing)
            step.guard.require_finite(epoch, lr)
        step.guard.require_finite(epoch, lr, now=True)
        if meter.batches == 0:
            raise ValueError(f"generator yielded no batch in epoch {epoch}.")
        accuracy = None if validation is None else _validate(validation, step)
        record = meter.record(epoch, step.in_burn_in, lr, _lam(step.weighting, epoch), accuracy)
        history.append(record)
        _advance(scheduler, record)
        _log(record)


def _lam(weighting: Any, epoch: int) -> float | None:
    lam: float | None = weighting.lam_at(epoch) if hasattr(weighting, "lam_at") else None
    return lam


def _validate(validation: Validation, step: TrainingStep) -> tuple[float, float]:
    """Validation draws random starts; training must go on as if it had not. ART's own attacks draw from all three."""
    with generators.restored(step.classifier.device), _around_validation(step.plugins):
        return validation(step)


@contextmanager
def _around_validation(plugins: Sequence[Plugin]) -> Iterator[None]:
    with ExitStack() as around:
        for plugin in plugins:
            around.enter_context(plugin.around_validation())
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
