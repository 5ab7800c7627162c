"""Whether a sample's logits depend on the samples beside it."""

from __future__ import annotations

from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from art_gair.engine.classifier import TensorClassifier
from art_gair.engine.compare import LOGITS_TOLERANCE, PROBE, Comparison, distance
from art_gair.engine.form import PLAIN

APART = [2, 3], [1, 2], [0, 3]
"""Rows of the probe that are run apart: without the first, and out of the pairs that they were in."""


def mixes_samples(classifier: TensorClassifier) -> bool:
    """Whether logits in eval mode depend on a sample's company, so that none may leave the computation.

    So does a BatchNorm without running statistics. What else does is tried out: the model is run on random inputs
    inside clip_values, the first ones larger or farther out than the others, on some of them once more, and left as it
    was, but for what hooks gather. A model that draws random numbers or cannot take random inputs counts as one: if no
    sample leaves, it is slower, and right.
    """
    if any(isinstance(m, _BatchNorm) and m.running_mean is None for m in classifier.module.modules()):
        return True
    return any(_mixes(classifier, classifier.random_inputs(PROBE, around=around)) for around in (0.0, 0.5))


def _mixes(classifier: TensorClassifier, probe: Tensor) -> bool:
    comparison = Comparison(classifier)
    with comparison.traceless(), classifier.evaluating():
        try:
            together = comparison.logits(classifier.module, PLAIN, probe)
            apart = [comparison.logits(classifier.module, PLAIN, probe[rows]) for rows in APART]
        except Exception:
            return True
    return any(not distance(a, together[rows]) <= LOGITS_TOLERANCE for a, rows in zip(apart, APART, strict=True))
