"""Geometry-aware PGD on tensors: one loop for every norm, loss and number of restarts; it counts kappa."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from art_gair import whole_batch
from art_gair.attacks.losses import LOSSES, AttackLoss, kl
from art_gair.attacks.norms import Norm
from art_gair.attacks.rows import Samples
from art_gair.engine.classifier import Model
from art_gair.engine.inputs import Box

KL_START_STD = 0.001
"""Standard deviation of TRADES' Gaussian start, as a share of the input range, which is 1 in the paper."""


@dataclass(frozen=True)
class PGD:
    """GA-PGD (Zhang et al., ICLR 2021, Alg. 1) as a function of tensors; every setting is checked at ART's door.

    :param norm: the norm of the ball.
    :param loss: "ce", "margin" or "kl".
    :param max_iter: K, the number of steps and so of looks at the iterate.
    :param num_random_init: 0 starts at x; R >= 1 runs R times from uniform points of the ball.
    :param box: the valid inputs, or None.
    :param note_gradient: is given each gradient, (n, *shape), before NaN in it counts as zero.
    """

    norm: Norm
    loss: str
    max_iter: int
    num_random_init: int
    box: Box | None
    note_gradient: Callable[[Tensor], None] = field(default=lambda gradient: None, kw_only=True)

    def __call__(
        self, model: Model, x: Tensor, labels: Tensor, eps: Tensor, eps_step: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Attack a batch. A sample keeps its first success over the restarts; its kappa is the least over them.

        :param model: maps a batch to logits (n, nb_classes); in eval mode, its parameters are left alone.
        :param x: inputs, floating point (n, *shape); never written to.
        :param labels: classes, int64 (n,).
        :param eps: radius of the ball, broadcastable against x.
        :param eps_step: length of a step, broadcastable against x.
        :param mask: bool, broadcastable against x; features where it is False keep their value.
        :return: adversarial examples like x, in the ball but for the rounding of x + delta to x's dtype, and kappa,
            int64 (n,), 0..max_iter.
        """
        x, eps, eps_step = x.detach(), eps.to(x), eps_step.to(x)
        with torch.no_grad():
            clean_logits = model(x) if LOSSES[self.loss] is kl else None
        samples = Samples(x, labels, eps, eps_step, mask, clean_logits, *self._bounds(x, eps))
        best, kappa = self._run(model, samples)
        for _ in range(self.num_random_init - 1):
            with torch.no_grad():
                fooled = model(best).argmax(dim=1) != labels
            x_adv, looks = self._run(model, samples)
            best = select_samples(fooled, best, x_adv)
            kappa = torch.minimum(kappa, looks)
        return best, kappa

    def _run(self, model: Model, samples: Samples) -> tuple[Tensor, Tensor]:
        """One start and K steps: before each step look whether the iterate is still classified as y."""
        x_adv = self._begin(samples)
        kappa = torch.zeros_like(samples.labels)
        for _ in range(self.max_iter):
            logits, step = self._look(model, samples, x_adv)
            kappa = kappa + (logits.argmax(dim=1) == samples.labels)
            x_adv = self._move(samples, x_adv, step)
        return x_adv, kappa

    def _begin(self, samples: Samples) -> Tensor:
        """Return the first iterate: x, a uniform point of the ball, or TRADES' small noise where KL would not move."""
        x = samples.x
        if self.num_random_init > 0:
            start = whole_batch.draw(x, lambda like: self.norm.sample(like, samples.eps))
        elif LOSSES[self.loss] is kl:
            start = self._kl_start_std() * whole_batch.draw(x, torch.randn_like)
        else:
            start = torch.zeros_like(x)
        return self._move(samples, x, start)

    def _look(self, model: Model, samples: Samples, x_adv: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits at the iterate, and the step that raises the loss most: one forward and one backward pass.

        A NaN in the gradient counts as zero, as in ART's PGD: no step is taken along it.
        """
        logits, grad = input_gradient(model, x_adv, samples.labels, LOSSES[self.loss], samples.clean_logits)
        self.note_gradient(grad)
        grad = torch.nan_to_num(grad, nan=0.0)
        return logits, samples.eps_step * self.norm.direction(_mask(grad, samples.mask), x_adv, self.box)

    def _move(self, samples: Samples, x_adv: Tensor, step: Tensor) -> Tensor:
        """Take the step, then return to the box and to the ball around x.

        The projection only shrinks the perturbation, feature by feature, so a point in the box stays in it but for
        rounding, which the last clip takes care of.
        """
        moved = x_adv + _mask(step, samples.mask)
        if samples.lower is not None:
            return torch.clamp(moved, samples.lower, samples.upper)
        return self._clip(samples.x + self.norm.project(self._clip(moved) - samples.x, samples.eps))

    def _bounds(self, x: Tensor, eps: Tensor) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """Return the bounds of each feature where ball and box together are a box."""
        bounds = self.norm.bounds(x, eps)
        if bounds is None:
            return None, None
        lower, upper = bounds
        return self._clip(lower), self._clip(upper)

    def _clip(self, x: Tensor) -> Tensor:
        return x if self.box is None else self.box.clip(x)

    def _kl_start_std(self) -> Tensor | float:
        if self.box is None:
            return KL_START_STD
        span = self.box.upper - self.box.lower
        return KL_START_STD * torch.where(torch.isfinite(span), span, 1.0)


def input_gradient(
    model: Model, x: Tensor, labels: Tensor, loss: AttackLoss, clean_logits: Tensor | None
) -> tuple[Tensor, Tensor]:
    """One forward and one backward pass, to the input alone: logits (n, nb_classes) and the gradient, like x.

    The losses of the batch are summed, so that a sample's gradient does not depend on its company.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        logits = model(x)
        (grad,) = torch.autograd.grad(loss(logits, labels, clean_logits).sum(), x)
    return logits.detach(), grad


def select_samples(rows: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Take whole samples from a where rows, bool (n,), is True, else from b."""
    return torch.where(rows.view(-1, *[1] * (a.ndim - 1)), a, b)


def _mask(values: Tensor, mask: Tensor | None) -> Tensor:
    return values if mask is None else torch.where(mask, values, 0.0)
