"""The three norms of the attack: a random start in the ball, the direction of steepest ascent, the projection.

Every function works on a batch, (n, *shape), and treats each row for itself. `eps` broadcasts against the batch; for
the norms 1 and 2 it is one number a sample, shape (n, 1, ...) or a scalar.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from art_gair.checks import is_real
from art_gair.engine.inputs import Box


class Norm(Protocol):
    """What the attack asks of a norm; a new norm is one small class."""

    def sample(self, x: Tensor, eps: Tensor) -> Tensor:
        """Draw a perturbation uniformly from the ball of radius eps, in the shape of x."""
        ...

    def direction(self, grad: Tensor, x_adv: Tensor, box: Box | None) -> Tensor:
        """Return the unit step that raises the loss most to first order, zero where the gradient is zero."""
        ...

    def project(self, delta: Tensor, eps: Tensor) -> Tensor:
        """Return the nearest point (Euclidean) of the ball of radius eps."""
        ...

    def bounds(self, x: Tensor, eps: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return the least and the largest value of each feature, where these alone are the ball around x; else None.

        With them a step and its projection are one addition and one clamp.
        """
        ...


class Linf:
    """The maximum norm: sign steps, projection by clamping."""

    def sample(self, x: Tensor, eps: Tensor) -> Tensor:
        """Draw uniformly from [-eps, eps] for each feature."""
        return torch.empty_like(x).uniform_(-1.0, 1.0) * eps

    def direction(self, grad: Tensor, x_adv: Tensor, box: Box | None) -> Tensor:
        """Return the sign of the gradient."""
        return grad.sign()

    def project(self, delta: Tensor, eps: Tensor) -> Tensor:
        """Clamp each feature to [-eps, eps]."""
        return torch.clamp(delta, -eps, eps)

    def bounds(self, x: Tensor, eps: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return x - eps and x + eps: this ball is a box."""
        return x - eps, x + eps


class L2:
    """The Euclidean norm."""

    def sample(self, x: Tensor, eps: Tensor) -> Tensor:
        """Draw uniformly from the ball: a Gaussian direction, and a radius eps * u^(1/d)."""
        noise = torch.randn_like(x).flatten(1)
        radius = torch.pow(torch.rand_like(noise[:, :1]), 1.0 / noise.shape[1])
        inside: Tensor = radius * noise / torch.linalg.vector_norm(noise, dim=1, keepdim=True)
        return inside.view_as(x) * eps

    def direction(self, grad: Tensor, x_adv: Tensor, box: Box | None) -> Tensor:
        """Return grad / ||grad||_2; scaled by its largest entry first, so that a tiny gradient does not underflow."""
        flat = grad.flatten(1)
        flat = flat / _nonzero(flat.abs().amax(dim=1, keepdim=True))
        return (flat / _nonzero(torch.linalg.vector_norm(flat, dim=1, keepdim=True))).view_as(grad)

    def project(self, delta: Tensor, eps: Tensor) -> Tensor:
        """Shrink towards zero where the norm is larger than eps."""
        norm = torch.linalg.vector_norm(delta.flatten(1), dim=1).view(_per_sample(delta))
        return delta * torch.clamp(eps / _nonzero(norm), max=1.0)

    def bounds(self, x: Tensor, eps: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return None: this ball is no box."""
        return None


class L1:
    """The sum norm: the step goes along the one feature that raises the loss most."""

    def sample(self, x: Tensor, eps: Tensor) -> Tensor:
        """Draw uniformly from the ball: d + 1 exponentials, normalised, the last one dropped, random signs."""
        flat = x.flatten(1)
        share = flat.new_empty(len(flat), flat.shape[1] + 1).exponential_()
        share = (share / share.sum(dim=1, keepdim=True))[:, :-1]
        return (share * torch.empty_like(share).uniform_(-1.0, 1.0).sign()).view_as(x) * eps

    def direction(self, grad: Tensor, x_adv: Tensor, box: Box | None) -> Tensor:
        """Return the sign of the largest entry of the gradient, among the features the box still lets move.

        Without the box's say a feature at its bound would be picked at every step and the attack would stand still.
        """
        if box is not None:
            stuck = ((grad > 0) & (x_adv >= box.upper)) | ((grad < 0) & (x_adv <= box.lower))
            grad = torch.where(stuck, 0.0, grad)
        flat = grad.flatten(1)
        largest = flat.abs().argmax(dim=1, keepdim=True)
        return torch.zeros_like(flat).scatter_(1, largest, flat.gather(1, largest).sign()).view_as(grad)

    def project(self, delta: Tensor, eps: Tensor) -> Tensor:
        """Shrink every entry by the one amount that brings the norm to eps (Duchi et al., ICML 2008, Fig. 1)."""
        flat = delta.flatten(1).abs()
        radius = eps.expand(_per_sample(delta)).reshape(-1, 1)
        descending = flat.sort(dim=1, descending=True).values
        excess = descending.cumsum(dim=1) - radius
        rank = torch.arange(1, flat.shape[1] + 1, device=delta.device, dtype=delta.dtype)
        rho = (descending * rank > excess).sum(dim=1, keepdim=True).clamp(min=1)
        threshold = (excess.gather(1, rho - 1) / rho).clamp(min=0.0)
        return delta.sign() * (flat - threshold).clamp(min=0.0).view_as(delta)

    def bounds(self, x: Tensor, eps: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return None: this ball is no box."""
        return None


NORMS: dict[float, Norm] = {np.inf: Linf(), 2.0: L2(), 1.0: L1()}


def find_norm(norm: Any) -> Norm:
    """Look up ART's norm argument: "inf", np.inf, 1 or 2.

    :raises ValueError: for any other norm.
    """
    key = np.inf if isinstance(norm, str) and norm == "inf" else norm
    if is_real(key) and key in NORMS:
        return NORMS[key]
    raise ValueError(f'norm is {norm!r}; expected "inf", np.inf, 1 or 2.')


def _per_sample(x: Tensor) -> tuple[int, ...]:
    """Shape that holds one number a sample and broadcasts against x."""
    return (len(x),) + (1,) * (x.ndim - 1)


def _nonzero(x: Tensor) -> Tensor:
    """Put 1 in the place of 0: a divisor for rows that are zero throughout."""
    return torch.where(x == 0, 1.0, x)
