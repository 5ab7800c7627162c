"""When the hooks of plugins are called."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

import torch

from art_gair.engine.classifier import TensorClassifier
from art_gair.plugins.base import Candidates, Plugin, Run, StopTraining
from art_gair.training.history import WatchedRecord

logger = logging.getLogger(__name__)


def runs_on_each_process(plugin: Plugin) -> bool:
    """Whether a plugin runs on all processes of a training, not on the first alone: it has a say in what they do."""
    hooks = ("around_loss", "around_validation", "candidates")
    return plugin.affects_training or any(getattr(type(plugin), name) is not getattr(Plugin, name) for name in hooks)


@contextmanager
def around_training(
    plugins: Sequence[Plugin], classifier: TensorClassifier, optimizer: torch.optim.Optimizer
) -> Iterator[None]:
    """Call `start` before a training, and `finish` or, for those that have started, `on_error` after it."""
    started: list[Plugin] = []
    try:
        for plugin in plugins:
            plugin.start(classifier, optimizer)
            started.append(plugin)
        yield
        for plugin in plugins:
            plugin.finish()
    except BaseException as error:
        for plugin in started:
            _tell(plugin, error)
        raise


def _tell(plugin: Plugin, error: BaseException) -> None:
    """Call `on_error`; what it raises must not hide the error itself, nor keep other plugins from hearing of it."""
    try:
        plugin.on_error(error)
    except Exception:
        logger.exception("on_error of plugin %r failed.", plugin)


@contextmanager
def around_validation(plugins: Sequence[Plugin]) -> Iterator[None]:
    """Nest the plugins' `around_validation`."""
    with ExitStack() as around:
        for plugin in plugins:
            around.enter_context(plugin.around_validation())
        yield


def find_candidates(plugins: Sequence[Plugin]) -> Candidates:
    """Return the models that plugins ask to be validated, under names of their own."""
    found: dict[str, AbstractContextManager[None]] = {}
    for plugin in plugins:
        for name, lent in plugin.candidates():
            if name not in found:
                found[name] = lent
            elif name != "raw":
                found[f"{name} {1 + sum(other.startswith(name) for other in found)}"] = lent
    return list(found.items())


def between_steps(plugins: Sequence[Plugin], run: Run) -> None:
    """Call `between_steps` of each plugin."""
    for plugin in plugins:
        plugin.between_steps(run)


def end_epoch(plugins: Sequence[Plugin], record: WatchedRecord) -> bool:
    """Call `end_epoch` of each plugin; return whether one of them stops the training."""
    stopped = False
    for plugin in plugins:
        try:
            plugin.end_epoch(record)
        except StopTraining as reason:
            stopped = True
            logger.info("Training stops after epoch %s: plugin %r. %s", record["epoch"], plugin, reason)
    return stopped
