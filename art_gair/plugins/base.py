"""What a plugin may do: every hook does nothing, override what you need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from art_gair.engine.classifier import TensorClassifier


class StopTraining(Exception):  # noqa: N818 - a request, no error
    """Raised by a plugin's `end_epoch`: the training ends after this epoch as if it had been the last."""


class Plugin:
    """Hooks around a training, called in the order of the plugins; `around_*` nest, the first outermost.

    `start`, then for each epoch `begin_epoch`, for each batch `around_loss`, `after_backward` and `after_step`, then
    `around_validation` and `end_epoch`. Last comes `finish`, or `on_error` if an exception ends the training.
    """

    def start(self, classifier: TensorClassifier, optimizer: torch.optim.Optimizer) -> None:
        """Begin a training of the classifier by its optimizer."""

    def begin_epoch(self, epoch: int) -> None:
        """Begin an epoch, counted from 0."""

    def around_loss(self, loss: Callable[[], Tensor]) -> AbstractContextManager[None]:
        """Surround the update's forward and backward; `loss` takes the batch's weighted loss in train mode."""
        return nullcontext()

    def after_backward(self) -> None:
        """Gradients are in place, the weights as before the batch."""

    def after_step(self) -> None:
        """The optimizer's step is done."""

    def around_validation(self) -> AbstractContextManager[None]:
        """Surround the validation at the end of an epoch."""
        return nullcontext()

    def end_epoch(self, record: Mapping[str, Any]) -> None:
        """End an epoch: its record is the last of `history`, and the scheduler has been stepped.

        :param record: an `art_gair.training.history.EpochRecord`.
        :raises StopTraining: to make this epoch the last. Later plugins still get their `end_epoch`, then all `finish`.
        """

    def on_error(self, error: BaseException) -> None:
        """End a training that an exception stopped, an interrupt (Ctrl-C) too; called once, if `start` came through.

        The model and the optimizer are as they were before the batch that failed. With `keep_best` the trainer then
        puts the best epoch's weights in place. The exception is raised again; one that this hook raises is logged.
        """

    def finish(self) -> None:
        """End a training that came through, or that a plugin stopped."""
