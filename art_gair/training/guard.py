"""Keeps a diverged step from reaching the model, without making any step wait for the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from art_gair.engine.classifier import TensorClassifier, assign

MEAN_TOLERANCE = 1e-3
"""How far from 1 the mean of a batch's weights may lie."""


class FiniteGuard:
    """Gates the optimizer's step on a flag that lives on the device.

    It keeps a copy of the model's buffers before the forward, and of its parameters, which nothing else may change, for
    the length of the optimizer's step, when the batch's activations no longer take memory. After a step whose loss or
    gradients are not finite, or that leaves a parameter or buffer not finite, it puts them back. Gradients that are not
    finite reach the optimizer as zero, so that its momentum takes in no NaN. From the first such step on, every later
    one is undone too. `require_finite` reads the flag, which waits for the device: each time on a CPU, where waiting
    costs nothing, once in a while on a GPU.

    :param classifier: whose model to guard.
    """

    READ_EVERY = 64
    """Steps between two looks at the flag on a device that runs ahead of the host."""

    def __init__(self, classifier: TensorClassifier) -> None:
        self.module = classifier.module
        self.kept = [b.clone() for b in self.module.buffers()]
        # A mask of -inf, as attention layers keep one in a buffer, is no divergence.
        self.watched = [bool(torch.isfinite(t).all()) for t in classifier.state()]
        device = classifier.device
        self.finite = torch.ones((), dtype=torch.bool, device=device)
        self.sound_weights = torch.ones((), dtype=torch.bool, device=device)
        self.finite_steps = torch.zeros((), dtype=torch.int64, device=device)
        self.steps = 0
        self.interval = 1 if device.type == "cpu" else self.READ_EVERY

    def begin_epoch(self) -> None:
        """Count batches from 0 again."""
        self.finite_steps.zero_()

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Keep the buffers as they stand, before the forward in train mode moves BatchNorm's.

        An exception on the way, an interrupt too, puts them back.
        """
        assign(self.kept, self.module.buffers())
        try:
            yield
        except BaseException:
            assign(list(self.module.buffers()), self.kept)
            raise

    @torch.no_grad()
    def step(self, optimizer: torch.optim.Optimizer, loss: Tensor, weights: Tensor, seen: Sequence[Tensor]) -> None:
        """Take the optimizer's step if all is finite and the weights are >= 0, mean 1; else leave the model as kept.

        :param loss: what was minimised, a scalar.
        :param weights: of the batch, (n,).
        :param seen: what the weights were made from; if that is not finite, they are not to blame.
        """
        sound = (weights >= 0).all() & ((weights.mean() - 1).abs() < MEAN_TOLERANCE)
        self.sound_weights &= sound | ~self.finite | ~_all_finite(seen)
        grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        self.finite &= _all_finite([loss.detach(), *grads]) & self.sound_weights
        for grad in grads:
            grad.copy_(torch.where(self.finite, grad, 0.0))
        parameters = list(self.module.parameters())
        before = [p.clone() for p in parameters]
        try:
            optimizer.step()
        except BaseException:
            assign(parameters, before)
            raise
        state = [*parameters, *self.module.buffers()]
        self.finite &= _all_finite([t for t, watched in zip(state, self.watched, strict=True) if watched])
        assign(state, (torch.where(self.finite, *pair) for pair in zip(state, [*before, *self.kept], strict=True)))
        self.finite_steps += self.finite
        self.steps += 1

    def require_finite(self, epoch: int, lr: float, *, now: bool = False) -> None:
        """Raise once a step was not finite.

        :raises FloatingPointError: with the epoch, the batch and the likely cause; the model holds its last finite
            state.
        :raises ValueError: if it was the weights that were not finite, negative, or not of mean 1.
        """
        if not (now or self.steps % self.interval == 0) or bool(self.finite):
            return
        where = f"in epoch {epoch}, batch {int(self.finite_steps)} (both counted from 0)"
        if not bool(self.sound_weights):
            raise ValueError(f"weighting returned weights that are negative, not finite or not of mean 1 {where}.")
        raise FloatingPointError(
            f"the loss, its gradient or the weights became non-finite {where}; the model keeps its weights from before "
            f"that batch. The likely cause is a learning rate that is too high (it was {lr:g}); if it happens at once, "
            "a loss that does not fit the model's output."
        )


def _all_finite(tensors: Sequence[Tensor]) -> Tensor:
    """Whether every entry is finite, a bool on the device.

    By one sum over everything: it is finite if all entries are, short of an overflow, which is divergence as well.
    """
    return torch.isfinite(torch.stack([t.abs().sum().double() for t in tensors if t.is_floating_point()]).sum())
