"""GA-PGD as Algorithm 1 writes it: one sample, one step at a time, plain Python and float64. Slow and obvious."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

Bounds = tuple[float, float] | None


def attack_one(
    model: nn.Module,
    x: Tensor,
    y: int,
    *,
    norm: float,
    eps: float,
    eps_step: float,
    max_iter: int,
    start: Tensor,
    bounds: Bounds,
    loss: Callable[[Tensor, int], Tensor],
    mask: Tensor | None = None,
) -> tuple[Tensor, int]:
    """Return the adversarial example and kappa of one sample x, from a given start; only features of mask 1 move."""
    free = torch.ones_like(x) if mask is None else mask
    x_adv = _back_to_valid(x + free * (start - x), x, norm, eps, bounds)
    kappa = 0
    for _ in range(max_iter):
        leaf = x_adv.clone().requires_grad_(True)
        logits = model(leaf[None])[0]
        if int(logits.argmax()) == y:
            kappa += 1
        loss(logits, y).backward()
        assert leaf.grad is not None
        step = eps_step * _ascent(free * leaf.grad, x_adv, norm, bounds)
        x_adv = _back_to_valid(x_adv + step, x, norm, eps, bounds)
    return x_adv, kappa


def cross_entropy(logits: Tensor, y: int) -> Tensor:
    return torch.logsumexp(logits, 0) - logits[y]


def margin(logits: Tensor, y: int) -> Tensor:
    others = [logits[j] for j in range(len(logits)) if j != y]
    return torch.stack(others).max() - logits[y]


def kl_from(clean_logits: Tensor) -> Callable[[Tensor, int], Tensor]:
    p = torch.softmax(clean_logits, 0)

    def kl(logits: Tensor, y: int) -> Tensor:
        q = torch.softmax(logits, 0)
        return sum((p[j] * (p[j].log() - q[j].log()) for j in range(len(p))), torch.zeros((), dtype=p.dtype))

    return kl


def _ascent(grad: Tensor, x_adv: Tensor, norm: float, bounds: Bounds) -> Tensor:
    flat, at = grad.flatten(), x_adv.flatten()
    if norm == math.inf:
        return grad.sign()
    if norm == 2:
        length = float(flat.norm())
        return grad / length if length > 0 else torch.zeros_like(grad)
    best, best_size = None, 0.0
    for i in range(len(flat)):
        g = float(flat[i])
        free = bounds is None or (g > 0 and float(at[i]) < bounds[1]) or (g < 0 and float(at[i]) > bounds[0])
        if free and abs(g) > best_size:
            best, best_size = i, abs(g)
    step = torch.zeros_like(flat)
    if best is not None:
        step[best] = flat[best].sign()
    return step.view_as(grad)


def _back_to_valid(point: Tensor, x: Tensor, norm: float, eps: float, bounds: Bounds) -> Tensor:
    """Clip to the valid inputs, then project onto the ball around x."""
    if bounds is not None:
        point = point.clamp(*bounds)
    delta = point - x
    if norm == math.inf:
        delta = delta.clamp(-eps, eps)
    elif norm == 2:
        length = float(delta.norm())
        delta = delta * min(1.0, eps / length) if length > 0 else delta
    else:
        delta = _onto_l1_ball(delta, eps)
    point = x + delta
    return point if bounds is None else point.clamp(*bounds)


def _onto_l1_ball(delta: Tensor, eps: float) -> Tensor:
    """Find by bisection the amount that all entries shrink by; nothing in common with the sort of the fast one."""
    sizes = [abs(float(d)) for d in delta.flatten()]
    if sum(sizes) <= eps:
        return delta
    low, high = 0.0, max(sizes)
    for _ in range(200):
        middle = (low + high) / 2
        if sum(max(s - middle, 0.0) for s in sizes) > eps:
            low = middle
        else:
            high = middle
    return delta.sign() * (delta.abs() - high).clamp(min=0.0)
