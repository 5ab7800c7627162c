"""ARoW: TRADES whose divergence counts more where the model is less robust."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from art_gair.checks import require_number
from art_gair.engine.classifier import TensorClassifier
from art_gair.logits import kl_divergence, label_score
from art_gair.objectives.base import Batch, Objective, Terms
from art_gair.objectives.per_sample import PerSampleLoss


@dataclass(frozen=True)
class ARoW(Objective):
    """mean_i loss_LS(f(x_i), y_i) + beta * w_i * (1 - p_y(x_adv_i)) * KL(f(x_i) || f(x_adv_i)).

    Yang, Kong & Kim, ICML 2023 (arXiv 2206.03353), whose 2 lambda is beta. loss_LS is the classifier's loss with label
    smoothing, (1 - s) * loss(f(x), y) + s * mean_j -log p_j(x), for a loss that is a cross entropy; class weights
    scale both parts. For another loss the second part has its size at equal probabilities. The
    gradient flows through 1 - p_y(x_adv) too. The attack maximises the KL divergence from x + 0.001 N(0, 1),
    as TRADES' does.

    :param beta: weight of the divergence, >= 0; 7 on CIFAR-10.
    :param smoothing: s, 0..1; 0.2 in the paper. A classifier whose own loss smooths labels smooths them twice.
    :raises TypeError, ValueError: if a parameter is no finite number or out of range.
    """

    beta: float = 7.0
    smoothing: float = 0.2

    attack: ClassVar[dict[str, Any]] = {"loss": "kl", "num_random_init": 0}

    def __post_init__(self) -> None:
        require_number(self.beta, "beta", at_least=0.0)
        require_number(self.smoothing, "smoothing", at_least=0.0, at_most=1.0)

    def __call__(self, classifier: TensorClassifier, loss: PerSampleLoss, batch: Batch) -> Terms:
        """Two forwards, of x and then of x_adv; see `Objective`."""
        clean = classifier.training_logits(batch.x, batch.labels)
        logits = classifier.training_logits(batch.x_adv, batch.labels)
        uniform = loss_scale(loss, clean, batch.labels) * uniform_cross_entropy(clean)
        smoothed = (1.0 - self.smoothing) * loss(clean, batch.labels) + self.smoothing * uniform
        fragility = 1.0 - label_score(logits.softmax(dim=1), batch.labels)
        return Terms(logits, weighted=self.beta * fragility * kl_divergence(clean, logits), plain=smoothed)


def loss_scale(loss: PerSampleLoss, logits: Tensor, labels: Tensor) -> Tensor:
    """Return what the classifier's loss multiplies a sample's cross entropy by, (n,).

    It is 1, but with class weights; asked of the loss at equal probabilities, where the cross
    entropy is log(nb_classes).
    """
    nb_classes = logits.shape[1]
    with torch.no_grad():
        return loss(torch.full_like(logits, -math.log(nb_classes)), labels) / math.log(nb_classes)


def uniform_cross_entropy(logits: Tensor) -> Tensor:
    """Cross entropy against the uniform distribution, mean_j -log p_j, (n,): what label smoothing adds."""
    return -logits.log_softmax(dim=1).mean(dim=1)
