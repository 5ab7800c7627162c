"""MART, and with weights GAIR-MART."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from art_gair.checks import require_number
from art_gair.engine.classifier import TensorClassifier
from art_gair.logits import best_other, kl_divergence, label_score
from art_gair.objectives.base import Batch, Objective, Terms
from art_gair.objectives.per_sample import PerSampleLoss


@dataclass(frozen=True)
class MART(Objective):
    """mean_i w_i * BCE(f(x_adv_i), y_i) + beta * KL(f(x_i) || f(x_adv_i)) * (1 - p_y(x_i)).

    Wang et al., ICLR 2020, Eq. 10; the boosted cross entropy BCE = -log p_y - log(1 - max_{j != y} p_j), Eq. 8, takes
    the classifier's loss for its first part; if that is of `reduction="sum"`, all is summed. The weight goes on BCE
    alone, MAIL's choice. The attack maximises the cross entropy from a random start.

    :param beta: weight of the divergence, >= 0; 5 on CIFAR-10.
    :raises TypeError, ValueError: if beta is no finite number or negative.
    """

    beta: float = 5.0

    def __post_init__(self) -> None:
        require_number(self.beta, "beta", at_least=0.0)

    def __call__(self, classifier: TensorClassifier, loss: PerSampleLoss, batch: Batch) -> Terms:
        """Two forwards, of x and then of x_adv; see `Objective`."""
        clean = classifier.training_logits(batch.x, batch.labels)
        logits = classifier.training_logits(batch.x_adv, batch.labels)
        missed = 1.0 - label_score(clean.softmax(dim=1), batch.labels)
        boosted = loss(logits, batch.labels) - log_one_minus_best_other(logits, batch.labels)
        return Terms(logits, weighted=boosted, plain=self.beta * kl_divergence(clean, logits) * missed)


def log_one_minus_best_other(logits: Tensor, labels: Tensor) -> Tensor:
    """log(1 - max_{j != y} p_j), (n,): the log of what all classes but the best wrong one share; never -inf."""
    _, rival = best_other(logits, labels)
    return logits.scatter(1, rival[:, None], -torch.inf).logsumexp(dim=1) - logits.logsumexp(dim=1)
