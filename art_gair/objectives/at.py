"""Adversarial training, the base objective of GAIRAT."""

from __future__ import annotations

from torch import Tensor

from art_gair.classifier import TensorClassifier
from art_gair.objectives.per_sample import PerSampleLoss


class AT:
    """mean_i w_i * loss(f(x_adv_i), y_i): the classifier's loss on adversarial examples (Madry et al., ICLR 2018)."""

    def __call__(
        self, classifier: TensorClassifier, loss: PerSampleLoss, x: Tensor, x_adv: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One forward in train mode.

        :param classifier: the model, with its fit-time preprocessing.
        :param loss: the classifier's loss, one value a sample.
        :param x: natural inputs (n, *input_shape); not used here.
        :param x_adv: adversarial inputs, the same shape.
        :param labels: classes, int64 (n,).
        :return: logits of x_adv (n, nb_classes), and the losses to weigh (n,).
        """
        logits = classifier.training_logits(x_adv, labels)
        return logits, loss(logits, labels)
