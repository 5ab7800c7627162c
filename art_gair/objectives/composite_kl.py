"""The composite objective of GAIR-RST: two attacks, mixed by the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from art_gair.checks import require_number
from art_gair.engine.classifier import TensorClassifier
from art_gair.logits import kl_divergence
from art_gair.objectives.base import Batch, Objective, Terms
from art_gair.objectives.per_sample import PerSampleLoss


@dataclass(frozen=True)
class CompositeKL(Objective):
    """mean_i loss(f(x_i), y_i) + beta * (m_i KL(f(x_i) || f(x_pgd_i)) + (1 - m_i) KL(f(x_i) || f(x_cw_i))).

    The loss that comes with GAIR-RST (Zhang et al., ICLR 2021, CIFAR-10 with extra data): x_pgd maximises the KL
    divergence from x + 0.001 N(0, 1) and counts kappa, x_cw maximises the margin loss. The release mixes by w itself;
    weights reach an objective with mean 1, so that 1 - w could be negative, and here m_i = w_i / max_j w_j: the sample
    of the batch that matters most, and every sample of a batch whose weights are equal, is trained on x_pgd alone.
    Samples of label -1 take part in the divergences, as in TRADES.

    :param beta: weight of the divergences, >= 0; 6 on CIFAR-10.
    :raises TypeError, ValueError: if beta is no finite number or negative.
    """

    beta: float = 6.0

    attack: ClassVar[dict[str, Any]] = {"loss": "kl", "num_random_init": 0}
    second_attack: ClassVar[str | None] = "margin"
    unlabelled: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_number(self.beta, "beta", at_least=0.0)

    def __call__(self, classifier: TensorClassifier, loss: PerSampleLoss, batch: Batch) -> Terms:
        """Three forwards, of x, x_pgd and x_cw; `weighted` is what m scales, `plain` what stays at m = 0."""
        assert batch.x_second is not None
        clean = classifier.training_logits(batch.x, batch.labels)
        logits = classifier.training_logits(batch.x_adv, batch.labels)
        second = classifier.training_logits(batch.x_second, batch.labels)
        by_pgd, by_cw = kl_divergence(clean, logits), kl_divergence(clean, second)
        plain = loss(clean, batch.labels) + self.beta * by_cw
        return Terms(logits, weighted=self.beta * (by_pgd - by_cw), plain=plain)

    def scaled(self, weights: Tensor) -> Tensor:
        """Mix with m = w / max w."""
        return weights / weights.max()
