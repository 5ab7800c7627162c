"""Keeps a diverged step from reaching the model, without making any step wait for the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from art_gair.engine.classifier import TensorClassifier
from art_gair.engine.model_state import State, alike, copied, live_state, put_back
from art_gair.training.finite import all_finite, are_finite
from art_gair.training.snapshot import OptimizerCopy, Snapshot, keep_if
from art_gair.training.weights import UNSOUND, are_sound, look_sound


class FiniteGuard:
    """Undoes a step that leaves anything not finite, and every later one.

    Before the forward it copies the model's buffers; for the length of the optimizer's step, when the batch's
    activations no longer take memory, the parameters and the state of the optimizer. If the loss, or a parameter,
    buffer or tensor of that state is not finite after the step, all of them are put back: by the host on a CPU, where
    a look at the device costs nothing, elsewhere on the device, by multi-tensor operations under a flag that lies
    there. `require_finite` reads the flag once in a while. A step that adds or resizes a tensor, as the first step of
    most optimizers does, is judged at once.

    Not looked at are tensors that were not finite when they were first seen, such as an attention mask of -inf.

    :param classifier: whose model to guard.
    :param optimizer: of the training.
    """

    READ_EVERY = 64
    """Steps between two looks at the flag on a device that runs ahead of the host."""

    def __init__(self, classifier: TensorClassifier, optimizer: torch.optim.Optimizer) -> None:
        self.module, self.optimizer = classifier.module, optimizer
        self.buffers: State = {}
        self.excepted: set[str] = set()
        live = live_state(self.module)
        self.excepted_parameters = {id(live[name]) for name in _not_finite(live)}
        device = classifier.device
        self.finite = torch.ones((), dtype=torch.bool, device=device)
        self.sound_weights = torch.ones((), dtype=torch.bool, device=device)
        self.finite_steps = torch.zeros((), dtype=torch.int64, device=device)
        self.interval = 1 if device.type == "cpu" else self.READ_EVERY
        self.steps = self.read_steps = 0
        self.host_states: list[OptimizerCopy] = []

    def begin_epoch(self) -> None:
        """Count batches from 0 again."""
        self.finite_steps.zero_()
        self.read_steps = 0

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Copy the buffers, before the forward in train mode moves BatchNorm's.

        An exception on the way, an interrupt too, puts them back.
        """
        live = live_state(self.module, parameters=False)
        new = _of_new_form(live, self.buffers)
        self.excepted = (self.excepted - new.keys()) | _not_finite(new)
        self.buffers = copied(live)
        try:
            yield
        except BaseException:
            put_back(self.module, self.buffers, parameters=False)
            raise

    @torch.no_grad()
    def step(self, loss: Tensor, weights: Tensor, seen: Sequence[Tensor]) -> None:
        """Take the optimizer's step if all stays finite and the weights are >= 0, mean 1; else put all back.

        :param loss: what was minimised, a scalar.
        :param weights: of the batch, (n,).
        :param seen: what the weights were made from; if that is not finite, they are not to blame.
        """
        before = Snapshot(self.module, self.optimizer, self.buffers)
        try:
            self.optimizer.step()
            self._judge_weights(weights, seen)
            self._judge(before, loss.detach())
        except BaseException:
            before.restore()
            raise
        self.finite_steps += self.finite
        self.steps += 1

    def _judge_weights(self, weights: Tensor, seen: Sequence[Tensor]) -> None:
        if self.interval > 1 or not look_sound(weights):
            self.sound_weights &= are_sound(weights) | ~self.finite | ~all_finite(seen)

    def _judge(self, before: Snapshot, loss: Tensor) -> None:
        """Look at what the step left, and put back what was there before if it is not finite."""
        buffers = live_state(self.module, parameters=False)
        passed_over = self.excepted.union(_of_new_form(buffers, self.buffers))
        looked_at = [t for name, t in buffers.items() if t is not None and name not in passed_over]
        looked_at += [p for p in before.parameters if id(p) not in self.excepted_parameters]
        looked_at += [loss, *before.optimizer.tensors()]
        pairs = None if self.interval == 1 else before.pairs()
        if pairs is None:
            if not (self.finite.item() and self.sound_weights.item() and are_finite(looked_at)):
                self.finite.fill_(False)
                before.restore()
        else:
            self.finite &= self.sound_weights & all_finite(looked_at)
            keep_if(self.finite, [pair for pair in pairs if pair[0].device == self.finite.device])
        if self.interval > 1:
            self.host_states.append(before.optimizer.on_host())

    def require_finite(self, epoch: int, lr: float, *, now: bool = False) -> None:
        """Raise once a step was not finite.

        :raises FloatingPointError: with the epoch, the batch and the likely cause; the model and the optimizer are as
            they were before that batch.
        :raises ValueError: if it was the weights that were not finite, negative, or not of mean 1.
        """
        if not (now or self.steps % self.interval == 0):
            return
        if bool(self.finite):
            self.host_states, self.read_steps = [], int(self.finite_steps)
            return
        batch = int(self.finite_steps)
        if self.host_states:
            self.host_states[batch - self.read_steps].restore()
        where = f"in epoch {epoch}, batch {batch} (both counted from 0)"
        if not bool(self.sound_weights):
            raise ValueError(f"weighting returned {UNSOUND} {where}.")
        raise FloatingPointError(
            f"the loss, the model or the state of the optimizer became non-finite {where}; that batch was undone. "
            f"The likely cause is a learning rate that is too high (it was {lr:g}); if it happens at once, a loss that "
            "does not fit the model's output."
        )


def _of_new_form(state: State, earlier: State) -> State:
    return {name: t for name, t in state.items() if not alike(t, earlier.get(name))}


def _not_finite(state: State) -> set[str]:
    return {name for name, t in state.items() if t is not None and not are_finite([t])}
