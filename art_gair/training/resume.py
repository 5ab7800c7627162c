"""Goes on with a training from a checkpoint, if it is the same training.

May differ, without a word: the number of epochs, plugins that only watch, `verbose`. With a warning: what is validated
as long as it steers nothing (`keep_best` is off, and neither the scheduler nor a plugin watches it), device, precision,
`compile`, threads, workers of a loader, versions of packages.
All else must be what it was: model, optimizer as it was made, scheduler, loss, data and batches, attack, weighting,
objective, augmentation, plugins that change the model, seed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from art_gair.engine.precision import precision_on
from art_gair.plugins.base import Plugin
from art_gair.plugins.checkpoint import Checkpoint
from art_gair.training.optimizer_state import describe_groups
from art_gair.training.progress import Progress
from art_gair.training.run import TrainingRun
from art_gair.training.settings import Settings

logger = logging.getLogger(__name__)

SHOWN = 10
"""Differences that a message lists."""

VALIDATION = "validation"
"""Beginning of the names that tell what is validated; where it steers nothing they may differ."""

WHEN = {f"{VALIDATION}.{name}" for name in ("every", "from", "keep_best")}
"""Those of them that say which epochs are validated and kept, not how."""


def find_checkpoint(plugins: Sequence[Plugin]) -> Checkpoint | None:
    """Return the first Checkpoint among the plugins."""
    return next((plugin for plugin in plugins if isinstance(plugin, Checkpoint)), None)


def resume(run: TrainingRun, checkpoint: Checkpoint, progress: Progress) -> None:
    """Put the run where the newest whole checkpoint stands; without one it begins, saying so.

    :raises ValueError: if that is another training, with what differs; nothing is changed then.
    """
    found = run.group.from_first(checkpoint.load() if run.group.rank == 0 else None)
    if found is None:
        logger.warning("resume=True: %s holds no checkpoint; the training begins.", checkpoint.folder)
        return
    path, state = found
    if not isinstance(state, dict) or "settings" not in state:
        raise ValueError(f"{path} is no training of this version of art_gair.")
    _require_place(run, state, path)
    require_same(run, state, f"{path} is of another training")
    run.scheduler.rehearse(state["epoch"], run.nb_epochs, state["batch"], state["scheduler"])
    run.load(state)
    place = f"epoch {run.epoch}, batch {run.batch}" if run.batch else f"epoch {run.epoch}"
    if run.stopped:
        logger.warning("resume=True: a plugin ended the training of %s; with another nb_epochs it goes on.", path)
    elif run.done:
        logger.warning("resume=True: %s has %d trained epochs, and no more are to be trained.", path, run.epoch)
    else:
        progress.say(f"Training goes on at {place} (counted from 0), from {path}.")


def _require_place(run: TrainingRun, state: dict[str, Any], path: Path) -> None:
    """Refuse a save at which this run cannot go on."""
    if state["batch"] and state["epoch"] >= run.nb_epochs:
        raise ValueError(
            f"nb_epochs is {run.nb_epochs}, and {path} stands within epoch {state['epoch']}, counted from 0; expected "
            f"at least {state['epoch'] + 1}."
        )
    groups = [len(group["params"]) for group in state["optimizer"]["param_groups"]]
    if groups != describe_groups(run.plan.optimizer):
        raise ValueError(
            f"{path} has an optimizer with groups of {groups} parameters, the classifier's has "
            f"{describe_groups(run.plan.optimizer)}: give it the groups that were added in training before fit."
        )


def require_same(run: TrainingRun, state: dict[str, Any], what: str) -> None:
    """Hold a saved training against the run.

    :raises ValueError: if they differ in what decides the result.
    """
    before, now = state["settings"], run.settings
    differing = {name: (before.get(name, "-"), now.get(name, "-")) for name in sorted({*before, *now})}
    differing = {name: pair for name, pair in differing.items() if pair[0] != pair[1]}
    validation: dict[str, tuple[str, str]] = {}
    if not _steered_by_validation(run, state):
        validation = {name: pair for name, pair in differing.items() if name.startswith(VALIDATION)}
        differing = {name: pair for name, pair in differing.items() if name not in validation}
    trained = state["epoch"] + (state["batch"] > 0)
    burn_ins = state["burn_in"][:trained], run.plan.burn_in[:trained]
    if burn_ins[0] != burn_ins[1] and len(run.plan.burn_in) >= trained:
        lengths = [f"{sum(epochs)} of {trained} epochs trained" for epochs in burn_ins]
        differing["burn_in"] = (lengths[0], f"{lengths[1]}; give it as a number of epochs")
    if differing:
        raise ValueError(f"{what}; resume=True needs the same, or an empty folder. Then -> now: {_listed(differing)}.")
    _warn_of_validation(validation)
    _warn_of_environment(run, state["environment"])


def _steered_by_validation(run: TrainingRun, state: dict[str, Any]) -> bool:
    """Whether what is validated decides which epoch is kept, or has a say in the learning rate or the end so far."""
    kept = "True" in (settings.get("validation.keep_best") for settings in (state["settings"], run.settings))
    saved = {name for name, *_ in state["plugins"]}
    watching = [p for p in run.plan.plugins if p.needs_validation and type(p).__name__ in saved]
    validated_before = "validation.x" in state["settings"]
    return kept or (validated_before and (run.scheduler.watches_validation or bool(watching)))


def _warn_of_validation(changed: dict[str, tuple[str, str]]) -> None:
    """Say it where an epoch's accuracies are others than those of an epoch before would have been."""
    others = {name: pair for name, pair in changed.items() if name not in WHEN}
    if others and "-" not in others.get("validation.x", ()):
        logger.warning("From here on other accuracies are measured, not to be compared: %s.", _listed(others))


def _warn_of_environment(run: TrainingRun, before: Settings) -> None:
    now = run.environment()
    if "processor" not in before:  # a save of an earlier version, which did not note it
        now.pop("processor", None)
    if before.get("precision") == "auto":  # nor what that meant: it is taken to be what it means here
        before = {**before, "precision": precision_on("auto", run.device)}
    changed = {k: (before.get(k, "-"), now.get(k, "-")) for k in sorted({*before, *now}) if before.get(k) != now.get(k)}
    if changed:
        logger.warning("Training goes on under other conditions, and no longer bit for bit: %s.", _listed(changed))


def _listed(differing: dict[str, tuple[str, str]]) -> str:
    shown = [f"{name}: {_short(a)} -> {_short(b)}" for name, (a, b) in list(differing.items())[:SHOWN]]
    return "; ".join(shown) + (f"; and {len(differing) - SHOWN} more" if len(differing) > SHOWN else "")


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
