"""Gradient clipping."""

from __future__ import annotations

import torch

from art_gair.checks import require_number
from art_gair.engine.classifier import TensorClassifier
from art_gair.plugins.base import Plugin


class ClipGradients(Plugin):
    """Scales the gradient of all parameters the optimizer drives, together, down to a norm of max_norm, if larger.

    :param max_norm: > 0.
    :raises TypeError, ValueError: if max_norm is no finite number or not positive.
    """

    def __init__(self, max_norm: float) -> None:
        self.max_norm = require_number(max_norm, "max_norm", above=0.0)

    def start(self, classifier: TensorClassifier, optimizer: torch.optim.Optimizer) -> None:
        """Take hold of the parameters that the optimizer drives."""
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def after_backward(self) -> None:
        """Clip; on the device, without waiting for the norm."""
        torch.nn.utils.clip_grad_norm_(self.parameters, self.max_norm)

    def __repr__(self) -> str:
        return f"ClipGradients(max_norm={self.max_norm})"
