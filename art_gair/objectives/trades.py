"""TRADES, and with weights GAIR-TRADES and MAIL-TRADES."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from art_gair.checks import require_number
from art_gair.engine.classifier import TensorClassifier
from art_gair.logits import kl_divergence
from art_gair.objectives.base import Batch, Objective, Terms
from art_gair.objectives.per_sample import PerSampleLoss


@dataclass(frozen=True)
class TRADES(Objective):
    """mean_i loss(f(x_i), y_i) + beta * w_i * KL(f(x_i) || f(x_adv_i)) (Zhang et al., ICML 2019, Eq. 5).

    Its attack maximises the KL divergence from x + 0.001 N(0, 1). The divergence needs no label, so samples of label -1
    take part in it; the mean of the classifier's loss is then over the labelled samples. A loss of `reduction="sum"`
    sums the divergence too.

    :param beta: weight of the divergence, >= 0; 6 on CIFAR-10.
    :param weigh: which term w goes on: "kl" as in GAIR-TRADES, "ce" the clean loss, or "both".
    :raises TypeError, ValueError: if beta is no finite number or negative, or weigh is another word.
    """

    beta: float = 6.0
    weigh: str = "kl"

    attack: ClassVar[dict[str, Any]] = {"loss": "kl", "num_random_init": 0}
    unlabelled: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_number(self.beta, "beta", at_least=0.0)
        if not isinstance(self.weigh, str) or self.weigh not in ("kl", "ce", "both"):
            raise ValueError(f"weigh is {self.weigh!r}; expected 'kl', 'ce' or 'both'.")

    def __call__(self, classifier: TensorClassifier, loss: PerSampleLoss, batch: Batch) -> Terms:
        """Two forwards, of x and then of x_adv; see `Objective`."""
        clean = classifier.training_logits(batch.x, batch.labels)
        logits = classifier.training_logits(batch.x_adv, batch.labels)
        ce = loss(clean, batch.labels)
        divergence = self.beta * kl_divergence(clean, logits)
        if self.weigh == "kl":
            return Terms(logits, weighted=divergence, plain=ce)
        if self.weigh == "ce":
            return Terms(logits, weighted=ce, plain=divergence)
        return Terms(logits, weighted=torch.add(ce, divergence))
