"""Labelled and pseudo-labelled data in one training (robust self-training; Carmon et al., NeurIPS 2019)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from numpy.typing import NDArray
from torch import Tensor

from art_gair.checks import require_int, require_number
from art_gair.engine.classifier import TensorClassifier
from art_gair.engine.inputs import as_tensor


def pseudo_label(
    classifier: PyTorchClassifier, x: Any, threshold: float = 0.0, batch_size: int = 128
) -> NDArray[np.int64]:
    """Label samples by the model's own predictions.

    :param classifier: a trained classifier whose model returns logits.
    :param x: samples (n, *input_shape) inside clip_values.
    :param threshold: least confidence, the softmax of the predicted class, 0..1.
    :param batch_size: samples predicted at once.
    :return: classes, int64 (n,); -1 where the confidence is under the threshold. Drop those samples, or train with an
        objective that can use them.
    :raises TypeError, ValueError: if an argument is unusable, by its name.
    """
    require_number(threshold, "threshold", at_least=0.0, at_most=1.0)
    batch_size = require_int(batch_size, "batch_size", at_least=1)
    tensor_classifier = TensorClassifier(classifier)
    labels = []
    with tensor_classifier.evaluating(), torch.no_grad():
        for batch in tensor_classifier.inputs(x).split(batch_size):
            confidence, label = (
                tensor_classifier.logits(batch.to(tensor_classifier.device, torch.float32)).softmax(dim=1).max(dim=1)
            )
            labels.append(torch.where(confidence >= threshold, label, -1).cpu())
    return torch.cat(labels).numpy()


@dataclass
class SemiSupervisedBatches:
    """Batches for `fit_generator` with a fixed share from either set.

    An epoch is one pass through the labelled samples, in batches of `batch_size - round(share * batch_size)`; each is
    filled up with its share of unlabelled samples, which are gone through in passes of their own. Both are shuffled
    anew, by torch's generator. Labels of -1 reach the trainer, which refuses them unless its objective can use them.

    :param x: labelled samples (n, *input_shape).
    :param y: their classes, indices (n,).
    :param x_unlabelled: further samples (m, *input_shape).
    :param y_unlabelled: their pseudo-labels (m,), as `pseudo_label` gives them; -1 where there is none.
    :param batch_size: samples a batch, both sets together.
    :param share: of unlabelled samples in each batch, between 0 and 1; one half in GAIR-RST.
    :raises TypeError, ValueError: if lengths do not match, or a batch would lack one of the two kinds.
    """

    x: Any
    y: Any
    x_unlabelled: Any
    y_unlabelled: Any
    batch_size: int = 256
    share: float = 0.5

    def __post_init__(self) -> None:
        self.batch_size = require_int(self.batch_size, "batch_size", at_least=2)
        require_number(self.share, "share", above=0.0, below=1.0)
        self.unlabelled_each = round(self.share * self.batch_size)
        if not 0 < self.unlabelled_each < self.batch_size:
            raise ValueError(f"share is {self.share}; of a batch of {self.batch_size} it leaves one set nothing.")
        names = ("x", "y", "x_unlabelled", "y_unlabelled")
        x, y, x_more, y_more = (tuple(as_tensor(getattr(self, name), name).shape) for name in names)
        for samples, labels, suffix in ((x, y, ""), (x_more, y_more, "_unlabelled")):
            if len(samples) < 2 or samples[0] == 0:
                raise ValueError(f"x{suffix} has shape {samples}; expected (n, *input_shape), at least one sample.")
            if labels != samples[:1]:
                raise ValueError(f"y{suffix} has shape {labels}; expected indices, {samples[:1]}, at least one.")
        if x[1:] != x_more[1:]:
            raise ValueError(f"x_unlabelled has samples of shape {x_more[1:]}; expected {x[1:]}, as in x.")

    def __len__(self) -> int:
        """Return the batches of an epoch."""
        return -(-len(as_tensor(self.x, "x")) // (self.batch_size - self.unlabelled_each))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Draw the order of the epoch, all at once: so a training that is resumed within it can draw it again."""
        names = ("x", "y", "x_unlabelled", "y_unlabelled")
        x, y, x_more, y_more = (as_tensor(getattr(self, name), name) for name in names)
        labelled_each = self.batch_size - self.unlabelled_each
        rows = torch.randperm(len(x)).split(labelled_each)
        fills = [max(1, round(len(part) * self.unlabelled_each / labelled_each)) for part in rows]
        passes = [torch.randperm(len(x_more)) for _ in range(-(-sum(fills) // len(x_more)))]
        others = torch.cat(passes)[: sum(fills)].split(fills)
        return ((torch.cat([x[a], x_more[b]]), torch.cat([y[a], y_more[b]])) for a, b in zip(rows, others, strict=True))
