"""What an objective is: which losses it takes of a batch, and which of them are weighted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from art_gair.engine.classifier import TensorClassifier
from art_gair.objectives.per_sample import PerSampleLoss


@dataclass(frozen=True)
class Batch:
    """What an objective sees of a batch; n samples on the device.

    :param x: natural inputs (n, *input_shape).
    :param x_adv: adversarial inputs, the same shape.
    :param labels: classes, int64 (n,); -1 for an unlabelled sample, where the objective can use it.
    :param x_second: adversarial inputs of the objective's second attack, if it asks for one.
    """

    x: Tensor
    x_adv: Tensor
    labels: Tensor
    x_second: Tensor | None = None


@dataclass(frozen=True)
class Terms:
    """Losses of a batch, one value a sample, (n,): total = mean_i (w_i * weighted_i + plain_i).

    :param logits: f(x_adv), (n, nb_classes), which margin-based weightings look at.
    """

    logits: Tensor
    weighted: Tensor
    plain: Tensor | None = None


class Objective(ABC):
    """A base objective; the step calls it with the model in train mode."""

    attack: ClassVar[dict[str, Any]] = {"loss": "ce", "num_random_init": 1}
    """What the default attack maximises, and from which start."""

    second_attack: ClassVar[str | None] = None
    """Loss of a second attack on the same samples, if the objective needs one."""

    unlabelled: ClassVar[bool] = False
    """Whether samples of label -1 can be used."""

    @abstractmethod
    def __call__(self, classifier: TensorClassifier, loss: PerSampleLoss, batch: Batch) -> Terms:
        """Take the losses of a batch.

        :param classifier: the model; `training_logits` is its forward.
        :param loss: the classifier's own loss, one value a sample.
        """

    def scaled(self, weights: Tensor) -> Tensor:
        """Return what multiplies the weighted terms, (n,), from the weights of the whole batch, (n,)."""
        return weights

    def total(self, weights: Tensor, terms: Terms) -> Tensor:
        """Return what is minimised, a scalar: a mean over the samples at hand, which may be a part of the batch.

        If the classifier's loss is of `reduction="sum"`, this mean is multiplied by the samples of the whole batch.

        :param weights: their part of `scaled`.
        """
        weighted = weights * terms.weighted
        return (weighted if terms.plain is None else weighted + terms.plain).mean()
