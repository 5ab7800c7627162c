"""The loop over epochs, one for arrays and for generators."""

from __future__ import annotations

import logging
from typing import Any

from torch.optim.lr_scheduler import LRScheduler
from tqdm.auto import trange

from art_gair import generators
from art_gair.training.data import Epoch, merge_singles, on_device
from art_gair.training.history import EpochMeter, EpochRecord
from art_gair.training.hooks import around_training, around_validation, end_epoch
from art_gair.training.plan import TrainingPlan
from art_gair.training.schedulers import advance
from art_gair.training.step import TrainingStep
from art_gair.training.validation import Validation

logger = logging.getLogger(__name__)


def train(
    plan: TrainingPlan,
    batches: Epoch,
    scheduler: LRScheduler | None,
    validation: Validation | None,
    history: list[EpochRecord],
) -> None:
    """Train through the plan's epochs, or until a plugin stops; append a record for each.

    An epoch ends in this order: validation, record, scheduler, log, the plugins' `end_epoch`.

    :raises FloatingPointError: when a step is not finite; the model and the optimizer are as they were before it.
    :raises ValueError: when an epoch has no batch, or the weighting's weights are unusable.
    """
    with around_training(plan.plugins, plan.classifier, plan.optimizer):
        # disable=None: a bar is for terminals and notebooks; a file gets the line that each epoch logs.
        for epoch in trange(len(plan.burn_in), desc="Adversarial Training GAIRAT - Epochs", disable=None):
            record = _train_epoch(plan.make_step(epoch), batches, validation)
            history.append(record)
            advance(scheduler, record)
            _log(record)
            if end_epoch(plan.plugins, record):
                break


def _train_epoch(step: TrainingStep, batches: Epoch, validation: Validation | None) -> EpochRecord:
    epoch, device = step.epoch, step.classifier.device
    meter = EpochMeter(step.max_iter, device)
    for plugin in step.plugins:
        plugin.begin_epoch(epoch)
    lr = float(step.optimizer.param_groups[0]["lr"])
    for x, labels, some_missing in on_device(merge_singles(batches()), device):
        step(x, labels, meter, unlabelled=some_missing)
        step.guard.require_finite(epoch, lr)
    step.guard.require_finite(epoch, lr, now=True)
    if meter.batches == 0:
        raise ValueError(f"generator yielded no batch in epoch {epoch}.")
    accuracies = None
    if validation is not None:
        # Validation draws random starts; training must go on as if it had not. ART's own attacks draw from all three.
        with generators.restored(device), around_validation(step.plugins):
            accuracies = validation(step)
    return meter.record(epoch, step.in_burn_in, lr, _lam(step.weighting, epoch), accuracies)


def _lam(weighting: Any, epoch: int) -> float | None:
    lam: float | None = weighting.lam_at(epoch) if hasattr(weighting, "lam_at") else None
    return lam


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
