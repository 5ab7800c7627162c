"""What a weighting is, and what all of the package's share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from art_gair.checks import require_int

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


class Weighting(Protocol):
    """What the training step asks of a scheme; any callable of this signature works."""

    def __call__(self, *, kappa: Tensor, max_iter: int, logits: Tensor, labels: Tensor, epoch: int) -> Tensor:
        """Weigh a batch.

        :param kappa: looks survived, int64 (n,), 0..max_iter; None under an attack that does not count it.
        :param max_iter: K of the attack.
        :param logits: f(x_adv) of the update's forward, detached, (n, nb_classes).
        :param labels: classes, int64 (n,).
        :param epoch: epoch of the training, counted from 0.
        :return: weights (n,), >= 0, mean 1.
        """
        ...


class InstanceWeighting(ABC):
    """Base of the package's schemes: it normalises the raw weights whose logarithms a scheme gives."""

    needs_kappa = False
    needs_logits = True
    """Whether the weights depend on the logits; without them gradients are accumulated in one forward pass a part."""

    def lam_at(self, epoch: int) -> float | None:
        """Return lam in an epoch, for a scheme that has one."""
        return None

    def __call__(
        self,
        *,
        kappa: Tensor | None = None,
        max_iter: int = 0,
        logits: Tensor | None = None,
        labels: Tensor | None = None,
        epoch: int = 0,
    ) -> Tensor:
        """Weigh a batch; a scheme on kappa needs no logits and labels, a scheme on logits no kappa.

        :param kappa: looks survived, int64 (n,), 0..max_iter.
        :param max_iter: K of the attack that counted kappa, at least 1.
        :param logits: f(x_adv), (n, nb_classes).
        :param labels: classes, int64 (n,).
        :param epoch: epoch of the training, counted from 0, for schemes with a schedule.
        :return: float32 (n,), >= 0, mean 1.
        :raises TypeError, ValueError: if what the scheme needs is not given or is unusable, by its name.
        """
        require_int(epoch, "epoch", at_least=0)
        with torch.no_grad():
            log_weights = self._raw(kappa, max_iter, logits, labels, epoch)
            return _normalisers[-1](log_weights)

    @abstractmethod
    def _raw(
        self, kappa: Tensor | None, max_iter: int, logits: Tensor | None, labels: Tensor | None, epoch: int
    ) -> Tensor:
        """Return the logarithms of the raw weights, float64 (n,)."""


class KappaWeighting(InstanceWeighting):
    """A scheme on kappa alone."""

    needs_kappa = True
    needs_logits = False

    @abstractmethod
    def log_weights(self, kappa: Tensor, max_iter: int, epoch: int) -> Tensor:
        """Map kappa, float64 (n,), to the logarithms of the raw weights, float64 (n,)."""

    def _raw(
        self, kappa: Tensor | None, max_iter: int, logits: Tensor | None, labels: Tensor | None, epoch: int
    ) -> Tensor:
        if kappa is None:
            raise ValueError(f"{type(self).__name__} weighs by kappa, which is None; the attack must count it.")
        require_int(max_iter, "max_iter", at_least=1)
        require_tensor(kappa, "kappa", INTEGERS, ndim=1)
        _require_range(kappa, "kappa", max_iter)
        return self.log_weights(kappa.double(), max_iter, epoch)


class LogitsWeighting(InstanceWeighting):
    """A scheme on the logits of the adversarial examples."""

    @abstractmethod
    def log_weights(self, log_p: Tensor, labels: Tensor) -> Tensor:
        """Map log-probabilities of x_adv, float64 (n, nb_classes), to logarithms of the raw weights, float64 (n,)."""

    def _raw(
        self, kappa: Tensor | None, max_iter: int, logits: Tensor | None, labels: Tensor | None, epoch: int
    ) -> Tensor:
        if logits is None or labels is None:
            raise ValueError(f"{type(self).__name__} weighs by logits and labels; both must be given.")
        require_tensor(logits, "logits", FLOATS, ndim=2)
        require_tensor(labels, "labels", (torch.int64,), ndim=1)
        n, nb_classes = logits.shape
        if nb_classes < 2:
            raise ValueError(f"logits have shape {tuple(logits.shape)}; expected those of at least two classes.")
        if len(labels) != n:
            raise ValueError(f"labels are {len(labels)} for logits of {n} samples; expected one each.")
        _require_range(labels, "labels", nb_classes - 1)
        return self.log_weights(logits.double().log_softmax(dim=1), labels)


def normalise(log_weights: Tensor) -> Tensor:
    """Turn logarithms of weights, float64 (n,), into float32 weights of mean 1.

    The largest is made 1 before the mean is taken, so the mean is at least 1/n and there is no 0/0; equal logarithms
    give equal weights, and all equal ones exactly 1.

    >>> normalise(torch.tensor([0.0, -torch.inf, 1.0986123]))
    tensor([0.7500, 0.0000, 2.2500])

    :raises TypeError, ValueError: if they are no tensor of floats, (n,), of at least one sample.
    """
    require_tensor(log_weights, "log_weights", FLOATS, ndim=1)
    log_weights = log_weights.double().clamp(-1e300, 1e300)  # infinities compare, and differ by 0 from each other
    weights = torch.exp(log_weights - log_weights.max())
    return (weights / weights.mean()).to(torch.float32)


Normalise = Callable[[Tensor], Tensor]
"""Turns logarithms of weights, float64 (n,), into float32 weights (n,)."""

_normalisers: list[Normalise] = [normalise]


@contextmanager
def normalised_by(normaliser: Normalise) -> Iterator[None]:
    """Let the package's schemes normalise otherwise for a time: over a batch of which they see a part."""
    _normalisers.append(normaliser)
    try:
        yield
    finally:
        _normalisers.pop()


def sees_parts(weighting: Any) -> bool:
    """Whether a scheme can weigh a part of a batch under `normalised_by`: it looks at each sample for itself.

    So do the package's own. Any other must see the whole batch, unless its attribute `sees_parts` is True, and only
    `InstanceWeighting` normalises.
    """
    if isinstance(weighting, InstanceWeighting):
        own = type(weighting).__module__.startswith("art_gair.") or getattr(weighting, "sees_parts", False) is True
        return own and type(weighting).__call__ is InstanceWeighting.__call__
    return getattr(weighting, "sees_parts", False) is True


def require_tensor(value: Any, name: str, dtypes: Sequence[torch.dtype], *, ndim: int) -> None:
    """Refuse what is no tensor of a batch, of so many dimensions and one of the types; waits for no device."""
    expected = f"a tensor of {' or '.join(str(dtype).removeprefix('torch.') for dtype in dtypes)}"
    if not isinstance(value, Tensor) or value.dtype not in dtypes or value.layout != torch.strided or value.is_meta:
        tensor = isinstance(value, Tensor)
        received = f"{value.dtype}, {value.layout}, on {value.device}" if tensor else f"a {type(value).__name__}"
        raise TypeError(f"{name} is {received}; expected {expected}.")
    if value.ndim != ndim or len(value) == 0:
        raise ValueError(f"{name} has shape {tuple(value.shape)}; expected {ndim} dimensions, at least one sample.")


def _require_range(value: Tensor, name: str, most: int) -> None:
    """Refuse whole numbers on the host that are not 0 to most; a GPU would be waited for."""
    if value.is_cpu:
        least, largest = int(value.numpy().min()), int(value.numpy().max())
        if least < 0 or largest > most:
            raise ValueError(f"{name} holds {least} to {largest}; expected 0 to {most}.")
