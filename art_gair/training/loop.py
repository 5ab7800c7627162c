"""The loop over epochs, one for arrays and for generators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

from art_gair.plugins.checkpoint import Checkpoint
from art_gair.training.data import Batch
from art_gair.training.history import Accuracies, EpochMeter, WatchedRecord
from art_gair.training.hooks import around_training, around_validation, between_steps, end_epoch, find_candidates
from art_gair.training.interrupts import LeavingError
from art_gair.training.meeting import LostSourceError
from art_gair.training.progress import Progress
from art_gair.training.resume import resume
from art_gair.training.run import TrainingRun
from art_gair.training.step import TrainingStep


def train(run: TrainingRun, progress: Progress, resume_from: Checkpoint | None = None) -> None:
    """Train through the epochs of a run, or until a plugin stops; append a record for each.

    An epoch ends in this order: validation, record, scheduler, log, the plugins' `end_epoch`.

    :param resume_from: whose newest save to go on from, if it has one.
    :raises FloatingPointError: when a step is not finite; the model and the optimizer are as they were before it.
    :raises ValueError: when an epoch has no batch, the weighting's weights are unusable, or the save is of another
        training.
    :raises KeyboardInterrupt, SystemExit: when Ctrl-C or SIGTERM asks for it, after the batch and the plugins' save.
    """
    plan = run.plan
    with run.interrupts, around_training(plan.plugins, plan.classifier, plan.optimizer):
        try:
            if resume_from is not None:
                _resume(run, resume_from, progress)
            run.begun = True
            run.source.note_generators()
            _rest(run)
            while not run.done:
                _train_epoch(run, progress)
                _rest(run)
        except RuntimeError as error:
            if run.interrupts.received is None or "DataLoader worker" not in str(error):
                raise
            message = f"{run.interrupts.name} ended workers of a DataLoader that epoch {run.epoch} needed"
            raise run.interrupts.error(f"{message}: the training goes on from its last save, if it has one.") from error
        finally:
            progress.close()
            run.source.close()


def _resume(run: TrainingRun, checkpoint: Checkpoint, progress: Progress) -> None:
    """Go through the epoch's batches up to the save; a signal does not wait for that."""
    try:
        resume(run, checkpoint, progress)
    except (LeavingError, LostSourceError) as error:
        if not run.interrupts.agree():
            raise
        message = f"{run.interrupts.name} stopped the training while it was resumed; its save is as it was."
        raise run.interrupts.error(message) from error.__cause__  # what the source failed with, if it did


def _train_epoch(run: TrainingRun, progress: Progress) -> None:
    step, meter, groups = run.begin_epoch()
    progress.begin_epoch(run.epoch, run.batch, run.history)
    with closing(groups):
        for group in _uninterrupted(run, groups):
            step(group, meter)
            run.require_finite()
            run.scheduler.end_batch()
            run.batch += 1
            progress.step(meter, waited=step.guard.has_waited)
            _rest(run)
    run.require_finite(now=True)
    _require_batches(run, meter)
    run.plan.streams.seed_alike(run.epoch, -2)
    if run.plan.replicas is not None:
        run.plan.replicas.require_alike(run.epoch)
        run.plan.replicas.settle_buffers()
    accuracies = _validate(run, step, progress)
    record = meter.record(run.epoch, step.in_burn_in, _lam(step.weighting, run.epoch), accuracies)
    run.end_epoch(record)
    if run.group.rank == 0:
        run.notices.look(run.history, meter)
    run.scheduler.end_epoch(record)
    progress.end_epoch(record, run.history)
    stopped = end_epoch(run.plan.plugins, WatchedRecord.of(record, meter.examples))
    run.stopped = any(numbers[0] for numbers in run.group.gather_numbers([stopped]))


def _rest(run: TrainingRun) -> None:
    """Let plugins look at a run at rest, and save it; leave if a signal asked for it."""
    run.leaving = run.interrupts.agree()
    between_steps(run.plan.plugins, run)
    if run.leaving:
        place = f"in epoch {run.epoch} after batch {run.batch - 1}" if run.batch else f"before epoch {run.epoch}"
        notes = run.notes or ["No Checkpoint saved it; the classifier holds its weights."]
        raise run.interrupts.error(" ".join([f"{run.interrupts.name} stopped the training {place}.", *notes]))


def _uninterrupted(run: TrainingRun, groups: Iterator[list[Batch]]) -> Iterator[list[Batch]]:
    """Yield the groups; if their source fails because the signal has reached its workers too, leave."""
    while True:
        try:
            group = next(groups, None)
        except Exception as error:
            if run.group.size > 1 and not isinstance(error, LostSourceError):
                raise
            if run.group.size == 1 and run.interrupts.received is None:
                raise
            _rest(run)
        if group is None:
            return
        yield group


def _require_batches(run: TrainingRun, meter: EpochMeter) -> None:
    if run.batch == 0:
        raise ValueError(f"generator yielded no batch in epoch {run.epoch}.")
    if meter.batches == 0:
        raise FloatingPointError(f"none of the {run.batch} steps of epoch {run.epoch} was finite; all were skipped.")


def _validate(run: TrainingRun, step: TrainingStep, progress: Progress) -> Accuracies | None:
    validation = run.validation
    if validation is None or not run.validated[run.epoch]:
        return None
    progress.validate()
    try:
        with around_validation(step.plugins):
            return validation(step, find_candidates(step.plugins))
    except LeavingError:
        _rest(run)
        raise


def _lam(weighting: Any, epoch: int) -> float | None:
    lam: float | None = weighting.lam_at(epoch) if hasattr(weighting, "lam_at") else None
    return lam
