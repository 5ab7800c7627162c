"""Makes a run of the parts of a training: what cannot work is refused before it begins."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import torch
from torch import Tensor

from art_gair.distributed.group import require_same
from art_gair.engine.model_state import extra_state, live_state
from art_gair.hashing import hash_tensor
from art_gair.plugins.checkpoint import Checkpoint
from art_gair.training.data import Source
from art_gair.training.interrupts import Interrupts
from art_gair.training.options import Options
from art_gair.training.plan import TrainingPlan
from art_gair.training.requirements import check_schedules, check_validated
from art_gair.training.run import TrainingRun
from art_gair.training.schedulers import Scheduler
from art_gair.training.settings import Settings, describe, describe_model, settings_made_with
from art_gair.training.validation import Validation


def make_run(
    plan: TrainingPlan,
    source: Source,
    validation: Validation | None,
    options: Options,
    classifier: Any,
    checkpoint: Checkpoint | None,
) -> tuple[TrainingRun, Settings]:
    """Return a training at its beginning, and the settings that its optimizer was made with.

    :param classifier: the user's PyTorchClassifier.
    :param checkpoint: the first of the training's plugins that saves it.
    :raises TypeError, ValueError: if the parts do not go together, by the name of the argument.
    """
    if options.resume and checkpoint is None:
        raise ValueError("resume is True, but no Checkpoint is among the plugins; expected one, with the folder.")
    check_schedules(options.nb_epochs, plan.attack, plan.weighting)
    check_validated(plan.plugins, validated=validation is not None)
    scheduler = Scheduler(
        *(options.scheduler, plan.optimizer),
        steps=options.steps(source.length),
        when=options.scheduler_step,
        validated=validation is not None,
    )
    if checkpoint is not None:
        scheduler.require_resumable()
    if not options.resume:
        scheduler.rehearse(0, options.nb_epochs)
    made_with = settings_made_with(plan.optimizer, classifier.loss, classifier.model)
    run = TrainingRun(
        plan=plan,
        source=source,
        scheduler=scheduler,
        validation=validation,
        nb_epochs=options.nb_epochs,
        accumulate=options.accumulate,
        settings={},
        interrupts=Interrupts(plan.group),
    )
    if checkpoint is not None or plan.group.size > 1:
        run.settings = {**made_with, **_describe(run, options, classifier)}
    if plan.group.size > 1:
        require_same(plan.group, _must_be_alike(run, options), "the training")
    return run, made_with


def _must_be_alike(run: TrainingRun, options: Options) -> Settings:
    """Return what must be the same on each process: all that decides the result, but for data that each has itself."""
    own = [name for name in run.settings if run.source.sharded and name.startswith("generator's")]
    weights = {f"values of the model's {name}": _hash(t) for name, t in live_state(run.plan.classifier.module).items()}
    alike = {name: value for name, value in run.settings.items() if name not in own}
    also = {"nb_epochs": str(run.nb_epochs), "burn_in": str(run.plan.burn_in), "precision": str(run.plan.environment)}
    moving = {
        "optimizer's state": run.plan.optimizer.state_dict(),
        "scheduler's state": run.scheduler.state(),
        "model's extra state": extra_state(run.plan.classifier.module),
        **{f"state of the {name}": part.state_dict() for name, part in run.plan.stateful().items()},
    }
    also |= {name: _hash(state) for name, state in moving.items()} | {"resume": str(options.resume)}
    found = {**alike, **weights, **also, "version of torch": torch.__version__}
    return {name: re.sub(r"cuda:\d+", "cuda", text) for name, text in found.items()}


def _hash(state: Any) -> str:
    """Return a hash of tensors, in whatever holds them; other values count by what they print."""
    if isinstance(state, Tensor):
        return hash_tensor(state)
    if isinstance(state, dict):
        state = [(repr(key), _hash(value)) for key, value in state.items()]
    elif isinstance(state, (list, tuple)):
        state = [_hash(value) for value in state]
    return hashlib.sha256(repr(state).encode()).hexdigest()[:16]


def _describe(run: TrainingRun, options: Options, classifier: Any) -> Settings:
    """Return what decides the result of the training, by name."""
    plan = run.plan
    found = {
        **describe_model(classifier.model),
        **run.scheduler.describe(),
        "submodules in eval mode": ", ".join(plan.train_mode.frozen) or "none",
        **run.source.content(),
        **options.describe(),
        **({} if run.validation is None else run.validation.describe()),
    }
    parts = {
        "clip_values": classifier.clip_values,
        "preprocessing": classifier.preprocessing_operations,
        "attack": plan.attack,
        "weighting": plan.weighting,
        "objective": plan.objective,
        "plugins": [plugin for plugin in plan.plugins if plugin.affects_training],
    }
    for name, part in parts.items():
        found |= describe(name, part)
    found.pop("attack.batch_size", None)  # a training attacks whole batches; validation tells it
    return found
