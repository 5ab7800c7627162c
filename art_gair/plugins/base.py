"""What a plugin may do: every hook does nothing, override what you need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from art_gair.engine.classifier import TensorClassifier


class StopTraining(Exception):  # noqa: N818 - a request, no error
    """Raised by a plugin's `end_epoch`: the training ends after this epoch as if it had been the last."""


class BatchLoss(Protocol):
    """The weighted loss of a step's batch, in train mode; each call takes it anew."""

    def __call__(self) -> Tensor:
        """Return the loss of the whole batch, a scalar with its graph.

        On several processes all must take it together. The value is the same on each; the graph is that of the
        process's own samples, so that a gradient of the whole batch is one of `gradients`.
        """
        ...

    def parts(self) -> Iterator[Tensor]:
        """Yield it in parts whose sum is the whole: with `accumulate`, so that one part's graph is held at a time.

        On several processes each has the loss of its own samples; the mean over the processes is the whole.
        """
        ...

    def gradients(self, parameters: Sequence[Tensor]) -> list[Tensor | None]:
        """Return the gradient of the whole batch's loss to each parameter, on all processes the same.

        Where the loss does not depend on a parameter: None, or on several processes zeros.
        """
        ...


class Run(Protocol):
    """A training between two steps, as `between_steps` sees it."""

    epoch: int
    """The epoch in training, or to be trained next, counted from 0."""

    batch: int
    """Steps taken in it; 0 between two epochs."""

    resumed: bool
    """Whether the training goes on from a checkpoint."""

    leaving: bool
    """Whether it ends here, since a signal asked for it: what is not saved now is lost."""

    notes: list[str]
    """What the message about leaving says beside the place."""

    @property
    def done(self) -> bool:
        """Whether no epoch is left."""
        ...

    def state(self) -> dict[str, Any]:
        """Return all that the training needs to go on from here, as `art_gair.storage` saves it."""
        ...


Candidates = Sequence[tuple[str, AbstractContextManager[None]]]
"""Names of models, and for each what lends it to the classifier."""


class Plugin:
    """Hooks around a training, called in the order of the plugins; `around_*` nest, the first outermost.

    `start`, `between_steps`, then for each epoch `begin_epoch`, for each batch `around_loss`, `after_backward`,
    `after_step` and `between_steps`, then `around_validation`, `end_epoch` and `between_steps`. Last comes `finish`, or
    `on_error` if an exception ends the training. A training that is resumed gives each plugin its `start`, then its
    `load_state_dict`, and a second `begin_epoch` of the epoch that it goes on with.
    """

    affects_training: ClassVar[bool] = True
    """Whether the trained model may depend on this plugin. One that only watches may be added, removed or changed when
    a training is resumed."""

    needs_validation: bool = False
    """Whether a training without validation_data is refused."""

    def start(self, classifier: TensorClassifier, optimizer: torch.optim.Optimizer) -> None:
        """Begin a training of the classifier by its optimizer."""

    def begin_epoch(self, epoch: int) -> None:
        """Begin an epoch, counted from 0."""

    def around_loss(self, loss: BatchLoss) -> AbstractContextManager[None]:
        """Surround the update's forward and backward; `loss` takes the batch's weighted loss in train mode."""
        return nullcontext()

    def after_backward(self) -> None:
        """Gradients are in place, the weights as before the batch."""

    def after_step(self) -> None:
        """The optimizer's step is done."""

    def between_steps(self, run: Run) -> None:
        """All is at rest: after `start`, after each step, and after each epoch's `end_epoch`."""

    def state_dict(self) -> dict[str, Any]:
        """Return what this plugin must keep to go on after a kill: tensors and plain values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what an earlier `state_dict` returned; its tensors lie on the host. Called after `start`."""

    def around_validation(self) -> AbstractContextManager[None]:
        """Surround the validation at the end of an epoch."""
        return nullcontext()

    def candidates(self) -> Candidates:
        """Return models to validate beside the one that is trained, or in its place; empty: nothing to say.

        Each is validated by itself; the epoch is judged by the best of them, and `keep_best` keeps that one.
        """
        return ()

    def end_epoch(self, record: Mapping[str, Any]) -> None:
        """End an epoch: its record is the last of `history`, and the scheduler has been stepped.

        :param record: an `art_gair.training.history.EpochRecord`; its attribute `examples` holds some samples of the
            epoch and their adversarial examples.
        :raises StopTraining: to make this epoch the last. Later plugins still get their `end_epoch`, then all `finish`.
        """

    def on_error(self, error: BaseException) -> None:
        """End a training that an exception stopped, an interrupt (Ctrl-C) too; called once, if `start` came through.

        The model and the optimizer are as they were before the batch that failed. With `keep_best` the trainer then
        puts the best epoch's weights in place. The exception is raised again; one that this hook raises is logged.
        """

    def finish(self) -> None:
        """End a training that came through, or that a plugin stopped."""
