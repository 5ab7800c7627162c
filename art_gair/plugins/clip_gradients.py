"""Gradient clipping."""

from __future__ import annotations

import torch

from art_gair.checks import require_number
from art_gair.engine.classifier import TensorClassifier
from art_gair.plugins.base import Plugin


class ClipGradients(Plugin):
    """Scales the gradient of all parameters the optimizer updates, together, down to a norm of max_norm, if larger.

    A gradient whose norm is not finite counts as divergence, also where its entries are: scaled by max_norm over
    infinity it would be zero, and the step lost without a word.

    :param max_norm: > 0.
    :raises TypeError, ValueError: if max_norm is no finite number or not positive.
    """

    def __init__(self, max_norm: float) -> None:
        self.max_norm = require_number(max_norm, "max_norm", above=0.0)

    def start(self, classifier: TensorClassifier, optimizer: torch.optim.Optimizer) -> None:
        """Note the optimizer, whose parameters are clipped."""
        self.optimizer = optimizer

    def after_backward(self) -> None:
        """Clip; on the device, without waiting for the norm."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.max_norm)
        for parameter in parameters[:1]:
            parameter.grad.mul_(torch.where(torch.isfinite(norm), 1.0, torch.nan))

    def __repr__(self) -> str:
        return f"ClipGradients(max_norm={self.max_norm})"
