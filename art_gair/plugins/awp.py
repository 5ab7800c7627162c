"""Adversarial weight perturbation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from art_gair.checks import require_int, require_number
from art_gair.engine.classifier import TensorClassifier
from art_gair.engine.model_state import clones, copied, copy_all, live_state, put_back
from art_gair.plugins.base import BatchLoss, Plugin


class AWP(Plugin):
    """Takes the update's gradient at weights moved against the model: w + gamma ||w|| g / ||g||, layer by layer.

    g is the gradient of the batch's weighted loss at w. Biases and BatchNorm's one-dimensional parameters stay. After
    the backward pass weights, and BatchNorm's buffers as the extra forward moved them, are put back bit for bit (Wu et
    al., NeurIPS 2020, Eq. 10 and Alg. 1).

    :param gamma: size of the perturbation relative to each layer's weights, >= 0; 0 does nothing. The paper's is 0.01
        for AT and 0.005 for TRADES.
    :param start_epoch: the first epoch that is perturbed, counted from 0.
    :raises TypeError, ValueError: if an argument is of the wrong type or negative.
    """

    def __init__(self, gamma: float = 0.01, start_epoch: int = 0) -> None:
        self.gamma = require_number(gamma, "gamma", at_least=0.0)
        self.start_epoch = require_int(start_epoch, "start_epoch", at_least=0)
        self.active = False

    def start(self, classifier: TensorClassifier, optimizer: torch.optim.Optimizer) -> None:
        """Note the weights that are perturbed."""
        self.module = classifier.module
        self.weights = [p for p in self.module.parameters() if p.requires_grad and p.ndim > 1]

    def begin_epoch(self, epoch: int) -> None:
        """Perturb from start_epoch on."""
        self.active = self.gamma > 0 and epoch >= self.start_epoch and bool(self.weights)

    @contextmanager
    def around_loss(self, loss: BatchLoss) -> Iterator[None]:
        """Perturb, and put back whatever happens."""
        if not self.active:
            yield
            return
        buffers = copied(live_state(self.module, parameters=False))
        grads = loss.gradients(self.weights)
        put_back(self.module, buffers, parameters=False)
        before = clones(self.weights)
        try:
            self._perturb(grads)
            yield
        finally:
            copy_all(self.weights, before)

    @torch.no_grad()
    def _perturb(self, grads: Sequence[Tensor | None]) -> None:
        """Move each layer by gamma times its norm along its gradient; a layer without a gradient stays."""
        for weight, grad in zip(self.weights, grads, strict=True):
            if grad is not None:
                length = grad.norm()
                weight.add_(self.gamma * weight.norm() * torch.where(length > 0, grad / length, 0.0))

    def __repr__(self) -> str:
        return f"AWP(gamma={self.gamma}, start_epoch={self.start_epoch})"
