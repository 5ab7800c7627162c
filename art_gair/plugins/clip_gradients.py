"""Gradient clipping."""

from __future__ import annotations

import torch

from art_gair.checks import require_number
from art_gair.classifier import TensorClassifier
from art_gair.plugins.base import Plugin


class ClipGradients(Plugin):
    """Scales the gradient of all parameters together down to a norm of max_norm, if it is larger.

    :param max_norm: > 0.
    :raises TypeError, ValueError: if max_norm is no finite number or not positive.
    """

    def __init__(self, max_norm: float) -> None:
        self.max_norm = require_number(max_norm, "max_norm", above=0.0)

    def start(self, classifier: TensorClassifier) -> None:
        """Take hold of the parameters."""
        self.parameters = [p for p in classifier.module.parameters() if p.requires_grad]

    def after_backward(self) -> None:
        """Clip; on the device, without waiting for the norm."""
        torch.nn.utils.clip_grad_norm_(self.parameters, self.max_norm)

    def __repr__(self) -> str:
        return f"ClipGradients(max_norm={self.max_norm})"
