"""Signs of gradient masking: is the model robust, or are its gradients of no use to an attack?

Each sign is one function; its docstring is the rule it goes by, which a flag carries along. Where two attacks are
compared they are compared on the same samples, by an exact test on those where they disagree.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from art_gair.evaluation.runner import Runner
from art_gair.evaluation.threat import Threat
from art_gair.report.data import Flag
from art_gair.report.statistics import above_p, paired_p

ALPHA = 0.01
"""Chance of any false alarm of the tests of one report, shared out evenly among them (Bonferroni)."""

TESTS = 9
"""Tests at most: four scales, margin loss, black box, AutoAttack, growing eps, more effort."""

LEAST_GAP = next(gained for gained in count(1) if paired_p(gained, 0) < ALPHA / TESTS)
"""Samples that one attack must break and another not, at the least, for their paired test to tell."""

WELL_UNDER = 0.15
"""Share of PGD-20's survivors that AutoAttack breaks on models that hide nothing: at most 14 % in the published
figures for AT and TRADES (ResNet-18, CIFAR-10), 27 % and more for GAIRAT."""

KEEPS_HELPING = 0.05
"""Share of PGD-20's survivors that PGD+ breaks on models that hide nothing: 1.3 % for AT in the GAIRAT paper's Table 1,
4 % for GAIRAT, 10 % for FAT."""

FEW = 0.01
"""Share of samples whose gradient may be of no use."""

REPEATABLE = 1e-4
"""Largest difference of logits between two equal passes, relative to the largest logit: rounding on a GPU is less."""

CURVE = (0.25, 0.5, 1.0, 1.5, 2.0, 4.0)
"""Radii of the curve, as multiples of eps; the last one is then the radius that reaches all inputs."""

CURVE_SAMPLES = 200


@dataclass
class Evidence:
    """What the signs are read from.

    :param correct: bool (n,), classified right on two clean passes.
    :param useless: bool (n,), whether the cross entropy's gradient at x or at a random point of the ball is zero or not
        finite.
    :param differing: bool (n,), whether two clean passes gave different classes.
    :param noise: largest difference of their logits, relative to the largest logit.
    :param curve: (eps, samples still right, samples) in rising eps.
    :param chance: accuracy of guessing, 0..1.
    """

    runner: Runner
    correct: NDArray[np.bool_]
    useless: NDArray[np.bool_]
    differing: NDArray[np.bool_]
    noise: float
    curve: list[tuple[float, int, int]]
    chance: float

    def broken(self, name: str, attempt: str | None = None) -> NDArray[np.bool_]:
        """Which samples an attack broke, or one try of it."""
        result = self.runner.results[name]
        return result.broken if attempt is None else result.tries[attempt]

    def beats(self, name: str, other: str, attempt: str | None = None) -> tuple[int, int, float] | None:
        """Samples that `name` broke and `other` did not, the reverse, and the test's p; None where one was not run.

        In a cascade the later attack saw only what the earlier ones had left: if it could come out ahead, it is let
        loose on the rest now.
        """
        results = self.runner.results
        if name not in results or other not in results:
            return None
        unknown = self.correct & ~results[name].attacked
        gained = int((self.broken(name, attempt) & ~self.broken(other)).sum())
        at_best = gained + int((unknown & ~self.broken(other)).sum())
        if unknown.any() and paired_p(at_best, 0) < ALPHA / TESTS:
            self.runner.complete(name, self.correct)
        gained = int((self.broken(name, attempt) & ~self.broken(other)).sum())
        lost = int((self.broken(other) & ~self.broken(name, attempt) & results[name].attacked).sum())
        return gained, lost, paired_p(gained, lost)


Sign = Callable[[Evidence], "tuple[str, float | None] | None"]


def margin_loss(evidence: Evidence) -> tuple[str, float | None] | None:
    """Raised if PGD-20 on the margin loss breaks samples that PGD-20 on the cross entropy does not, more often than the
    reverse by more than chance (exact paired test). The two make the same steps; only a cross entropy whose gradient
    misleads should be the weaker one. On thousands of samples the test sees differences of a point or two that honest
    models show too: judge by the figures.
    """
    return _beats(evidence, "margin", None, "the margin loss")


def logit_scaling(evidence: Evidence) -> tuple[str, float | None] | None:
    """Raised if PGD-20 on logits multiplied by 0.01, 0.1, 10 or 100 breaks more samples than on the logits as they are,
    by more than chance (exact paired test for each factor). The factor moves no decision; it matters only where the
    softmax saturates (Hitaj et al. 2021, arXiv 2103.01914).
    """
    if "scaled" not in evidence.runner.results:
        return None
    found = [_beats(evidence, "scaled", a, f"PGD-20 on logits {a}") for a in evidence.runner.results["scaled"].tries]
    raised = [f for f in found if f is not None]
    return min(raised, key=lambda f: f[1] or 0.0, default=None)


def black_box(evidence: Evidence) -> tuple[str, float | None] | None:
    """Raised if Square, which asks for no gradient, breaks samples that PGD-20 does not, more often than the reverse by
    more than chance (exact paired test).
    """
    return _beats(evidence, "square", None, "the black-box attack Square")


def autoattack(evidence: Evidence) -> tuple[str, float | None] | None:
    """Raised if AutoAttack breaks more than 15 % of the samples that PGD-20 leaves, by more than chance (exact binomial
    test). On models that hide nothing it breaks up to 14 % of them, published for AT and TRADES.
    """
    return _of_survivors(evidence, "autoattack", WELL_UNDER)


def more_effort(evidence: Evidence) -> tuple[str, float | None] | None:
    """Raised if PGD+, ten times the steps over five restarts, breaks more than 5 % of the samples that PGD-20 leaves,
    by more than chance (exact binomial test): then more steps would help further, and no number of them is enough.
    """
    return _of_survivors(evidence, "pgd_plus", KEEPS_HELPING)


def growing_eps(evidence: Evidence) -> tuple[str, float | None] | None:
    """Raised if, in a ball that holds every possible input, PGD-20 leaves more samples than the most frequent class or
    guessing would get right, by more than chance (exact binomial test): such a ball holds a wrong answer for each.
    """
    if not evidence.curve:
        return None
    eps, right, n = evidence.curve[-1]
    p = above_p(right, n, evidence.chance)
    if p >= ALPHA / TESTS:
        return None
    return f"at eps {eps:.3g}, where every input can be reached, {right} of {n} samples are still classified right", p


def useless_gradients(evidence: Evidence) -> tuple[str, float | None] | None:
    """Raised if the gradient of the cross entropy is zero or not finite, at x or at a random point of its ball, for
    more than 1 % of the samples that are classified right: gradient attacks stand still there.
    """
    n, k = int(evidence.correct.sum()), int((evidence.useless & evidence.correct).sum())
    if k <= FEW * n:
        return None
    return f"the input gradient is zero or not finite for {k} of {n} samples classified right", None


def randomised(evidence: Evidence) -> tuple[str, float | None] | None:
    """Raised if two passes over the same samples give different classes, or logits that differ by more than rounding:
    single answers then say little, gradients are noisy; attacks must average (AutoAttack's version "rand" does).
    """
    if not evidence.differing.any() and evidence.noise <= REPEATABLE:
        return None
    k, n = int(evidence.differing.sum()), len(evidence.differing)
    return (
        f"two clean passes differ in the class of {k} of {n} samples, in logits by {evidence.noise:.2g} of their size",
        None,
    )


SIGNS: tuple[Sign, ...] = (
    *(randomised, useless_gradients, logit_scaling, margin_loss, black_box, autoattack, more_effort, growing_eps),
)


def find_flags(evidence: Evidence) -> list[Flag]:
    """Look for every sign."""
    flags = []
    for sign in SIGNS:
        found = sign(evidence)
        if found is not None:
            rule = " ".join((inspect.getdoc(sign) or "").split())
            flags.append(Flag(sign.__name__.replace("_", " "), found[0], rule, found[1]))
    return flags


def _beats(evidence: Evidence, name: str, attempt: str | None, called: str) -> tuple[str, float | None] | None:
    found = evidence.beats(name, "pgd_20", attempt)
    if found is None or found[2] >= ALPHA / TESTS:
        return None
    gained, lost, p = found
    return f"{called} breaks {gained} samples that PGD-20 does not, the reverse holds for {lost} (p = {p:.1g})", p


def _of_survivors(evidence: Evidence, name: str, share: float) -> tuple[str, float | None] | None:
    """Both are known in a cascade as well: the later attack is completed where it might have broken enough."""
    found = evidence.beats(name, "pgd_20")
    if found is None:
        return None
    left, gained = int((evidence.correct & ~evidence.broken("pgd_20")).sum()), found[0]
    p = above_p(gained, left, share)
    if p >= ALPHA / TESTS:
        return None
    title = evidence.runner.results[name].title
    return f"{title} breaks {gained} of the {left} samples that PGD-20 leaves, {gained / left:.0%} (p = {p:.1g})", p


def gradients_useless(threat: Threat, x: Tensor, labels: Tensor) -> NDArray[np.bool_]:
    """Whether the gradient at x, or at a random point of the ball around it, is zero or not finite: bool (n,)."""
    useless = torch.zeros(len(x), dtype=torch.bool)
    for points in (x, threat.random_points(x)):
        size = threat.gradients(points, labels).flatten(1).abs().sum(dim=1)
        useless |= (size == 0) | ~torch.isfinite(size)
    return useless.numpy()


def measure_curve(
    threat: Threat, x: Tensor, labels: Tensor, correct: NDArray[np.bool_]
) -> list[tuple[float, int, int]]:
    """Samples that PGD-20 leaves right at rising eps, each radius attacked afresh; the last ball holds every input.

    :param correct: bool (n,), right on the clean sample, which is the point at eps 0.
    """
    right = np.flatnonzero(correct)
    points = [(0.0, len(right), len(x))]
    for eps in (*(m * threat.eps for m in CURVE if m * threat.eps < reach(threat, x)), reach(threat, x)):
        if len(right) == 0:
            break
        own = threat.of_radius(eps)
        x_adv, _ = own.pgd(x[right].float(), labels[right], loss="ce", max_iter=20, step=0.25)
        points.append((eps, int((own.logits(x_adv).argmax(dim=1) == labels[right]).sum()), len(x)))
    return points


def reach(threat: Threat, x: Tensor) -> float:
    """Radius of a ball around any input that holds every other."""
    span = (threat.box.upper - threat.box.lower).cpu().expand(x.shape[1:]).double()
    return float(torch.linalg.vector_norm(span.flatten(), ord=float(threat.norm)))
