"""What is measured beside the attacks: two clean passes, gradients, and accuracy as eps grows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from art_gair.evaluation.threat import Threat
from art_gair.logits import is_right, probability_margins
from art_gair.report.results import Clean, Measurements

CURVE = (0.25, 0.5, 1.0, 1.5, 2.0, 4.0)
"""Radii of the curve, as multiples of eps; the last one is then the radius that reaches all inputs."""

CURVE_SAMPLES = 200

REPEATABLE = 1e-4
"""Largest difference of logits between two equal passes, relative to the largest logit: rounding on a GPU is less."""

COMPARED = 4
"""Samples on which `classifier.predict` is held against the logits that are attacked."""


@dataclass(frozen=True)
class CleanPasses:
    """Logits of two passes over the samples, float32 (n, nb_classes) on the CPU."""

    first: Tensor
    second: Tensor
    labels: Tensor

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Which samples both passes classify right, bool (n,)."""
        right = [logits.argmax(dim=1) == self.labels for logits in (self.first, self.second)]
        correct: NDArray[np.bool_] = (right[0] & right[1]).numpy()
        return correct

    @property
    def noise(self) -> float:
        """Largest difference of their logits, relative to the largest logit."""
        return float((self.first - self.second).abs().max() / self.first.abs().max().clamp_min(1e-30))

    @property
    def differing(self) -> NDArray[np.bool_]:
        """Samples of which the two passes give different classes, bool (n,)."""
        differing: NDArray[np.bool_] = (self.first.argmax(dim=1) != self.second.argmax(dim=1)).numpy()
        return differing

    def clean(self) -> Clean:
        """Return what the report keeps of the first pass."""
        margins = probability_margins(self.first, self.labels).numpy()
        return Clean(self.correct, self.first.argmax(dim=1).numpy(), margins)


def run_clean_passes(threat: Threat, x: Tensor, labels: Tensor) -> CleanPasses:
    """Run the model twice on the samples.

    :raises ValueError: if logits are not finite.
    """
    first, second = threat.logits(x), threat.logits(x)
    if not torch.isfinite(first).all():
        bad = int((~torch.isfinite(first)).any(dim=1).sum())
        raise ValueError(f"the classifier's model returned NaN or infinite logits for {bad} of {len(x)} samples of x.")
    return CleanPasses(first, second, labels)


def run_measurements(threat: Threat, x: Tensor, passes: CleanPasses, subset: Tensor) -> Measurements:
    """Measure gradients and the curve.

    :param subset: rows of the curve, int64.
    """
    labels, correct = passes.labels, passes.correct
    return Measurements(
        useless=find_useless_gradients(threat, x, labels, correct),
        differing=passes.differing,
        noise=passes.noise,
        curve=run_curve(threat, x, labels, correct, subset),
        chance=max(1.0 / threat.classifier.nb_classes, float(labels.bincount().max()) / len(labels)),
    )


def find_useless_gradients(threat: Threat, x: Tensor, labels: Tensor, correct: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether the gradient at x, or at a random point of the ball around it, is zero or not finite: bool (n,).

    :param correct: bool (n,): the others are left out, and False.
    """
    useless = torch.zeros(len(x), dtype=torch.bool)
    for rows in torch.from_numpy(np.flatnonzero(correct)).split(threat.batch_size):
        for points in (x[rows], threat.random_points(x[rows])):
            size = threat.gradients(points, labels[rows]).flatten(1).abs().sum(dim=1)
            useless[rows] |= (size == 0) | ~torch.isfinite(size)
    return useless.numpy()


def run_curve(
    threat: Threat, x: Tensor, labels: Tensor, correct: NDArray[np.bool_], subset: Tensor
) -> list[tuple[float, int, int]]:
    """Count samples that PGD-20 leaves right at rising eps, each radius attacked afresh; the last reaches every input.

    :param correct: bool (n,), right on the clean sample, which is the point at eps 0.
    :param subset: rows to attack, int64.
    """
    right = subset[torch.from_numpy(correct)[subset]]
    points = [(0.0, len(right), len(subset))]
    radii = [m * threat.eps for m in CURVE if m * threat.eps < full_radius(threat, x)]
    for eps in (*radii, full_radius(threat, x)) if len(right) else ():
        wider, left = threat.of_radius(eps), 0
        for rows in right.split(threat.batch_size):
            x_adv, _ = wider.pgd(x[rows], labels[rows], loss="ce", max_iter=20, step=0.25)
            left += int(is_right(wider.logits(x_adv), labels[rows]).sum())
        points.append((eps, left, len(subset)))
    return points


def full_radius(threat: Threat, x: Tensor) -> float:
    """Return the radius of a ball around any input that holds every other."""
    span = (threat.box.upper - threat.box.lower).cpu().expand(x.shape[1:]).double()
    return float(torch.linalg.vector_norm(span.flatten(), ord=float(threat.norm)))


def require_predict(classifier: Any, threat: Threat, passes: CleanPasses, x: Tensor) -> None:
    """Hold `classifier.predict` against the logits that are attacked; a randomised model differs from itself."""
    if threat.classifier.postprocessing:
        raise ValueError(
            f"classifier has postprocessing_defences {threat.classifier.postprocessing}, which change what predict "
            "returns. What is attacked are the logits of its model; evaluate a classifier without them."
        )
    if passes.noise > REPEATABLE:
        return
    samples = threat.classifier.batch(x[:COMPARED])
    with threat.classifier.evaluating(), torch.no_grad():  # predict leaves the model in eval mode
        predicted = torch.from_numpy(np.asarray(classifier.predict(samples.cpu().numpy()), dtype=np.float32))
        expected = threat.classifier.logits(samples).to("cpu", torch.float32)  # TF32 and bfloat16 round by the batch
    if predicted.shape == expected.shape and torch.allclose(predicted, expected, rtol=1e-2, atol=1e-3):
        return
    raise ValueError(
        "classifier.predict does not return the logits of the classifier's model. What is attacked are those logits, "
        "so the report would be about another classifier."
    )
