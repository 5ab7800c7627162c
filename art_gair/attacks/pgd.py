"""Geometry-aware PGD on tensors: one loop for every norm, loss and number of restarts; it counts kappa."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from art_gair.attacks.losses import LOSSES, AttackLoss, kl
from art_gair.attacks.norms import Norm
from art_gair.attacks.rows import Finished, Samples
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
    :param tau: None, or how many steps a sample still takes once it is found misclassified (FAT).
    :param compact: whether samples that have stopped leave the computation, which asks the device which they are.
    """

    norm: Norm
    loss: str
    max_iter: int
    num_random_init: int
    box: Box | None
    tau: int | None = None
    compact: bool = False

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
        :return: adversarial examples like x, and kappa, int64 (n,), 0..max_iter.
        """
        x, eps, eps_step = x.detach(), eps.to(x), eps_step.to(x)
        with torch.no_grad():
            clean_logits = model(x) if LOSSES[self.loss] is kl else None
        samples = Samples(x, labels, eps, eps_step, mask, clean_logits)
        best, kappa = self._run(model, samples)
        for _ in range(self.num_random_init - 1):
            with torch.no_grad():
                fooled = model(best).argmax(dim=1) != labels
            x_adv, looks = self._run(model, samples)
            best = _where(fooled, best, x_adv)
            kappa = torch.minimum(kappa, looks)
        return best, kappa

    def _run(self, model: Model, samples: Samples) -> tuple[Tensor, Tensor]:
        """One start and K steps: before each step look whether the iterate is still classified as y."""
        x_adv = self._move(samples, samples.x, self._start(samples.x, samples.eps))
        kappa = torch.zeros_like(samples.labels)
        finished = Finished(x_adv, kappa)
        for look in range(self.max_iter):
            logits, grad = input_gradient(model, x_adv, samples.labels, LOSSES[self.loss], samples.clean_logits)
            kappa = kappa + (logits.argmax(dim=1) == samples.labels)
            step = samples.eps_step * self.norm.direction(_masked(grad, samples.mask), x_adv, self.box)
            moved = self._move(samples, x_adv, step)
            if self.tau is None:
                x_adv = moved
                continue
            goes_on = look + 1 - kappa <= self.tau
            x_adv = _where(goes_on, moved, x_adv)
            if self.compact and not goes_on.all():
                finished.put(x_adv, kappa)
                finished.leave(goes_on)
                samples, x_adv, kappa = samples.where(goes_on), x_adv[goes_on], kappa[goes_on]
                if len(kappa) == 0:
                    break
        return finished.put(x_adv, kappa)

    def _start(self, x: Tensor, eps: Tensor) -> Tensor:
        """Return the first perturbation: none, uniform in the ball, or TRADES' small noise where KL would not move."""
        if self.num_random_init > 0:
            return self.norm.sample(x, eps)
        if LOSSES[self.loss] is kl:
            return self._kl_start_std() * torch.randn_like(x)
        return torch.zeros_like(x)

    def _kl_start_std(self) -> Tensor | float:
        if self.box is None:
            return KL_START_STD
        span = self.box.upper - self.box.lower
        return KL_START_STD * torch.where(torch.isfinite(span), span, 1.0)

    def _move(self, samples: Samples, x_adv: Tensor, step: Tensor) -> Tensor:
        """Take the step, then return to the box and to the ball around x.

        The projection only shrinks the perturbation, feature by feature, so a point in the box stays in it but for
        rounding, which the last clip takes care of.
        """
        clip = self.box.clip if self.box is not None else _identity
        x, moved = samples.x, clip(x_adv + _masked(step, samples.mask))
        return clip(x + self.norm.project(moved - x, samples.eps))


def input_gradient(
    model: Model, x: Tensor, labels: Tensor, loss: AttackLoss, clean_logits: Tensor | None
) -> tuple[Tensor, Tensor]:
    """One forward and one backward pass, to the input alone: logits (n, nb_classes) and the gradient, like x.

    The losses of the batch are summed, so that a sample's gradient does not depend on its company. A NaN in
    the gradient counts as zero, as in ART's PGD: no step is taken along it.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        logits = model(x)
        (grad,) = torch.autograd.grad(loss(logits, labels, clean_logits).sum(), x)
    return logits.detach(), torch.nan_to_num(grad, nan=0.0)


def _where(rows: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Take whole samples from a where rows, (n,), is True, else from b."""
    return torch.where(rows.view(-1, *[1] * (a.ndim - 1)), a, b)


def _masked(values: Tensor, mask: Tensor | None) -> Tensor:
    return values if mask is None else torch.where(mask, values, 0.0)


def _identity(x: Tensor) -> Tensor:
    return x
