"""Adversarial training, the base objective of GAIRAT."""

from __future__ import annotations

from dataclasses import dataclass

from art_gair.engine.classifier import TensorClassifier
from art_gair.objectives.base import Batch, Objective, Terms
from art_gair.objectives.per_sample import PerSampleLoss


@dataclass(frozen=True)
class AT(Objective):
    """mean_i w_i * loss(f(x_adv_i), y_i), the classifier's loss on adversarial examples (Madry et al., ICLR 2018).

    Its attack maximises the cross entropy from a random start.
    """

    def __call__(self, classifier: TensorClassifier, loss: PerSampleLoss, batch: Batch) -> Terms:
        """One forward; see `Objective`."""
        logits = classifier.training_logits(batch.x_adv, batch.labels)
        return Terms(logits, weighted=loss(logits, batch.labels))
