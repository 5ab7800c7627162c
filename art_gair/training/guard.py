"""Keeps a diverged step from reaching the model, without making any step wait for the device."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from art_gair.distributed.group import ALONE, Group, flags_of
from art_gair.engine.classifier import TensorClassifier
from art_gair.engine.model_state import State, alike, copied, live_state, put_back
from art_gair.training.finite import all_finite, are_finite
from art_gair.training.snapshot import OptimizerCopy, Snapshot, keep_if
from art_gair.training.weights import UNSOUND, are_sound, look_sound

logger = logging.getLogger(__name__)

LAST_LOSSES = 5
"""How many losses an error names."""

DIVERGED = (
    "the loss, the model or the state of the optimizer",
    "The likely cause is a learning rate that is too high (it was {lr}); if it happens at once, a loss that does not "
    "fit the model's output.",
)
NO_INPUT_GRADIENT = (
    "the attack's gradient to the inputs",
    "The likely cause is an operation of the model without a derivative at some input, such as the square root at 0 or "
    "0 / 0: the attack cannot move such a sample. The learning rate was {lr}.",
)
"""What was not finite, and why it may be."""


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
    :param group: the processes that take the step together, and judge it alike.
    :param max_skipped: steps of an epoch that may be undone and passed over before `require_finite` raises. Above 0
        each step waits for the device.
    """

    READ_EVERY = 64
    """Steps between two looks at the flag on a device that runs ahead of the host."""

    def __init__(
        self,
        classifier: TensorClassifier,
        optimizer: torch.optim.Optimizer,
        max_skipped: int = 0,
        group: Group = ALONE,
    ) -> None:
        self.max_skipped, self.skipped, self.group = max_skipped, 0, group
        self.losses: deque[Tensor] = deque(maxlen=LAST_LOSSES + self.READ_EVERY)
        self.module, self.optimizer = classifier.module, optimizer
        self.buffers: State = {}
        self.excepted: set[str] = set()
        live = live_state(self.module)
        self.excepted_parameters = {id(live[name]) for name in _not_finite(live)}
        device = classifier.device
        self.finite = torch.ones((), dtype=torch.bool, device=device)
        self.sound_weights = torch.ones((), dtype=torch.bool, device=device)
        self.finite_gradients = torch.ones((), dtype=torch.bool, device=device)
        self.finite_steps = torch.zeros((), dtype=torch.int64, device=device)
        self.interval = 1 if device.type == "cpu" or max_skipped else self.READ_EVERY
        self.steps = self.read_steps = self.taken = 0
        self.host_states: list[OptimizerCopy] = []

    def begin_epoch(self, taken: int = 0, skipped: int = 0) -> None:
        """Count batches from 0 again, or, in an epoch that is gone on with, from those it has had."""
        self.finite_steps.fill_(taken - skipped)
        self.read_steps, self.taken, self.skipped = taken - skipped, taken, skipped

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
            self.put_back_buffers()
            raise

    def put_back_buffers(self) -> None:
        """Undo what a forward has done to the model's buffers."""
        put_back(self.module, self.buffers, parameters=False)

    @torch.no_grad()
    def step(
        self,
        loss: Tensor,
        weights: Tensor,
        seen: Sequence[Tensor],
        gradients: Sequence[Tensor] = (),
        whole: Tensor | None = None,
    ) -> bool:
        """Take the optimizer's step if all stays finite and the weights are >= 0, mean 1; else put all back.

        Returns whether the step counts: False only for one that is skipped.

        :param loss: what was minimised, a scalar.
        :param weights: of the batch, (n,).
        :param seen: what the weights were made from; if that is not finite, they are not to blame.
        :param gradients: of the attack, to the inputs.
        :param whole: on several processes the weights of the whole batch, empty where these have mean 1 by the way they
            are made; `weights` and the rest are then this process's own, but for the loss.
        """
        before = Snapshot(self.module, self.optimizer, self.buffers)
        try:
            self.optimizer.step()
            if self.group.size > 1:
                self._judge_together(weights if whole is None else whole, weights, seen, gradients)
            else:
                self._judge_weights(weights, seen)
                self._judge_gradients(gradients, [*seen, loss.detach()])
            self._judge(before, loss.detach())
        except BaseException:
            before.restore()
            raise
        self.losses.append(loss.detach())
        self.steps += 1
        self.taken += 1
        if self.max_skipped and not self.finite.item() and self.sound_weights.item():
            return self._skip()
        self.finite_steps += self.finite
        return True

    def _skip(self) -> bool:
        """Pass over a step that was undone, unless there have been too many."""
        self.skipped += 1
        if self.skipped <= self.max_skipped:
            self.finite.fill_(True)
            self.finite_gradients.fill_(True)
            logger.warning("Batch %d was not finite; its step is undone and skipped.", self.taken - 1)
        return False

    def _judge_weights(self, weights: Tensor, seen: Sequence[Tensor]) -> None:
        if self.interval > 1 or not look_sound(weights):
            self.sound_weights &= are_sound(weights) | ~self.finite | ~all_finite(seen)

    def _judge_gradients(self, gradients: Sequence[Tensor], seen: Sequence[Tensor]) -> None:
        """Look at the attack's gradients; where the loss is not finite either, they are not to blame."""
        if not gradients:
            return
        if self.interval > 1:
            self.finite_gradients &= all_finite(gradients) | ~self.finite | ~all_finite(seen)
        elif not are_finite(gradients) and are_finite(seen):
            self.finite_gradients.fill_(False)

    def _judge_together(self, whole: Tensor, own: Tensor, seen: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Look at weights and gradients, and agree with the other processes on what they are."""
        sound = are_sound(whole) if len(whole) else (own >= 0).all()
        buffers = [t for t in self._judged_buffers() if t.device == self.finite.device]
        finite = [_all_finite(tensors, sound) for tensors in (gradients, seen, buffers)]
        flags = self.group.all_true(flags_of([sound, *finite], self.finite.device))
        sound, finite_gradients, finite_seen, finite_buffers = flags
        self.finite &= finite_buffers
        self.sound_weights &= sound | ~self.finite | ~finite_seen
        self.finite_gradients &= finite_gradients | ~self.finite | ~finite_seen

    def _judge(self, before: Snapshot, loss: Tensor) -> None:
        """Look at what the step left, and put back what was there before if it is not finite."""
        looked_at = self._judged_buffers()
        looked_at += [p for p in before.parameters if id(p) not in self.excepted_parameters]
        looked_at += [loss, *before.optimizer.tensors()]
        pairs = None if self.interval == 1 else before.pairs()
        if pairs is None:
            if not (self._is_sound() and are_finite(looked_at)):
                self.finite.fill_(False)
                before.restore()
        else:
            self.finite &= self.sound_weights & self.finite_gradients & all_finite(looked_at)
            keep_if(self.finite, [pair for pair in pairs if pair[0].device == self.finite.device])
        if self.interval > 1:
            self.host_states.append(before.optimizer.on_host())

    def _judged_buffers(self) -> list[Tensor]:
        buffers = live_state(self.module, parameters=False)
        passed_over = self.excepted.union(_of_new_form(buffers, self.buffers))
        return [t for name, t in buffers.items() if t is not None and name not in passed_over]

    @property
    def has_waited(self) -> bool:
        """Whether the last `require_finite` has read from the device."""
        return self.steps % self.interval == 0

    def _is_sound(self) -> bool:
        return all(bool(flag) for flag in (self.finite, self.sound_weights, self.finite_gradients))

    def require_finite(
        self,
        epoch: int,
        lr: float,
        *,
        samples: Callable[[int], list[int] | None] = lambda step: None,
        now: bool = False,
    ) -> None:
        """Raise once a step was not finite.

        :param samples: returns the rows of the training arrays that a step of the epoch took, where that is known.
        :raises FloatingPointError: with the epoch, the batch, its samples and the likely cause; the model and the
            optimizer are as they were before that batch.
        :raises ValueError: if it was the weights that were not finite, negative, or not of mean 1.
        """
        if not (now or self.steps % self.interval == 0):
            return
        if bool(self.finite):
            self.host_states, self.read_steps = [], int(self.finite_steps)
            return
        finite_steps = int(self.finite_steps)
        if self.host_states:
            self.host_states[finite_steps - self.read_steps].restore()
        batch = finite_steps + max(0, self.skipped - 1)
        where = f"in epoch {epoch}, batch {batch} (both counted from 0)"
        if not bool(self.sound_weights):
            raise ValueError(f"weighting returned {UNSOUND} {where}.")
        raise FloatingPointError(self._report(where, batch, lr, samples(batch)))

    def _report(self, where: str, batch: int, lr: float, rows: list[int] | None) -> str:
        what, cause = DIVERGED if bool(self.finite_gradients) else NO_INPUT_GRADIENT
        losses = list(self.losses)[: len(self.losses) - (self.taken - batch - 1)][-LAST_LOSSES:]
        sentences = [f"{what} became non-finite {where}; that batch was undone."]
        if self.skipped:
            sentences.append(f"It was the {self.skipped}. of this epoch; max_skipped is {self.max_skipped}.")
        if rows is not None:
            sentences.append(f"Its samples were {str(rows[:32])[1:-1]}{', ...' if len(rows) > 32 else ''}.")
        sentences.append(f"The last losses were {', '.join(f'{loss.item():g}' for loss in losses)}.")
        return " ".join([*sentences, cause.format(lr=f"{lr:g}")])


def _all_finite(tensors: Sequence[Tensor], like: Tensor) -> Tensor:
    filled = [t for t in tensors if t.numel()]
    return all_finite(filled) if filled else torch.ones_like(like, dtype=torch.bool)


def _of_new_form(state: State, earlier: State) -> State:
    return {name: t for name, t in state.items() if not alike(t, earlier.get(name))}


def _not_finite(state: State) -> set[str]:
    return {name for name, t in state.items() if t is not None and not are_finite([t])}
