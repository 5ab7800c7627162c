"""What a plugin may do: every hook does nothing, override what you need."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from art_gair.engine.classifier import TensorClassifier


class Plugin:
    """Hooks around a training, called in the order the plugins are given in; `around_*` nest, the first outermost."""

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

    def finish(self) -> None:
        """End a training that came through."""
