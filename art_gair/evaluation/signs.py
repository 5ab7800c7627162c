"""Signs of gradient masking: is the model robust, or are its gradients of no use to an attack?

Each sign is a pure function of what is recorded in a report, so a saved report can be judged again. Where two attacks
are compared they are compared on the same samples. A gap raises a flag if it is larger than chance **and** larger than
honest models show; if it is larger than chance alone, it is a note.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from art_gair.evaluation.attacks import AUTOATTACK, MARGIN, PGD_20, PGD_PLUS, SCALED, SQUARE
from art_gair.evaluation.gaps import find_gaps
from art_gair.evaluation.measure import REPEATABLE
from art_gair.report.data import RobustnessReport, require_report
from art_gair.report.results import SMALLER_EPS, Flag
from art_gair.report.statistics import above_p

ALPHA = 0.01
"""Chance of any false alarm of the tests of one report, shared out evenly among them (Bonferroni)."""

HONEST_SHARES = {MARGIN.name: 0.16, SCALED.name: 0.16, SQUARE.name: 0.10, PGD_PLUS.name: 0.10, AUTOATTACK.name: 0.20}
"""Net share of PGD-20's survivors that another attack breaks on models that hide nothing, at most.

Our own models are small networks on 10,000 images (benchmarks/results/false_alarms.md); published shares are of ResNets
and WideResNets, computed from accuracies under PGD-20 and under the other attack.

- Margin loss: published at most 6 % for AT, TRADES and AWP on CIFAR-10, 10 % for MART, 14 % for TRADES-AWP on
  CIFAR-100; our TRADES models up to 15 %. GAIRAT on CIFAR-10: 24 % published, about 40 % ours.
- Scaled logits: no figures published for honest models; ours up to 15 % (TRADES on CIFAR-10). GAIRAT: 18 to 20 %
  published (Hitaj et al. 2021, arXiv 2103.01914), about 40 % ours.
- Square: published at most 5 % (MNIST); ours up to 8 %. GAIRAT: over 30 % ours.
- PGD+: published at most 4 % for AT and 10 % for FAT (GAIRAT paper, Table 1); GAIRAT 4 to 6 %, so this sign finds
  other kinds of masking.
- AutoAttack: published at most 11 % for AT, TRADES and AWP on CIFAR-10, 14 % for MART, 17 % for TRADES-AWP on
  CIFAR-100; ours up to 19 % on 1,000 images. GAIRAT: 27 % published, over 40 % ours.
"""

FEW = 0.01
"""Share of samples whose gradient may be of no use."""


@dataclass(frozen=True)
class Finding:
    """What a sign saw; a note if it is no flag."""

    evidence: str
    p_value: float | None
    is_flag: bool = True


@dataclass(frozen=True)
class Sign:
    """A sign of gradient masking.

    :param name: of the sign.
    :param rule: when it is raised, for the reader of a report.
    :param test: looks for it in a report, at a level of significance.
    :param tests: how many tests of that level it makes.
    """

    name: str
    rule: str
    test: Callable[[RobustnessReport, float], Finding | None]
    tests: int = 0


def compare_with_pgd(report: RobustnessReport, level: float, *, name: str, honest: float | None) -> Finding | None:
    """Judge the most significant gap of an attack to PGD-20.

    :param honest: net share of the survivors that honest models lose at most; None if nobody knows: never a flag.
    """
    gaps = find_gaps(report, name)
    gap = min(gaps, key=lambda g: g.p_value, default=None)
    if gap is None or gap.p_value >= level:
        return None
    share = gap.net / gap.survivors if gap.survivors else 0.0
    if honest is not None and above_p(max(gap.net, 0), gap.survivors, honest) < level:
        return Finding(
            f"{gap.title} breaks {gap.gained} samples that PGD-20 does not, the reverse holds for {gap.lost}: a net "
            f"{share:.0%} of the {gap.survivors} that PGD-20 leaves (p = {gap.p_value:.1g})",
            gap.p_value,
        )
    points = 100 * gap.net / report.n
    return Finding(
        f"{gap.title} is the stronger attack here, by {points:.1f} points (p = {gap.p_value:.1g}); the worst case "
        "counts it. Honest models show such gaps as well.",
        gap.p_value,
        is_flag=False,
    )


def check_growing_eps(report: RobustnessReport, level: float) -> Finding | None:
    """Judge whether PGD-20 finds a wrong answer where every input can be reached."""
    if not report.curve:
        return None
    eps, right, n = report.curve[-1]
    p = above_p(right, n, report.measurements.chance)
    if p >= level:
        return None
    return Finding(
        f"at eps {eps:.3g}, where every input can be reached, {right} of {n} samples are still classified right", p
    )


def check_gradients(report: RobustnessReport, level: float) -> Finding | None:
    """Judge whether gradients are zero or not finite."""
    correct = report.clean.correct
    n, useless = int(correct.sum()), int((report.measurements.useless & correct).sum())
    if useless <= FEW * n:
        return None
    return Finding(f"the input gradient is zero or not finite for {useless} of {n} samples classified right", None)


def check_randomness(report: RobustnessReport, level: float) -> Finding | None:
    """Judge whether two clean passes agree."""
    differing, noise = report.measurements.differing, report.measurements.noise
    if not differing.any() and noise <= REPEATABLE:
        return None
    return Finding(
        f"two clean passes differ in the class of {int(differing.sum())} of {len(differing)} samples, in logits by "
        f"{noise:.2g} of their size",
        None,
    )


def _comparison(name: str, attack: str, why: str, tests: int = 1) -> Sign:
    honest = HONEST_SHARES[attack]
    rule = (
        "Raised if it breaks samples that PGD-20 does not more often than the reverse, by more than chance (exact "
        f"paired test), and by more than the {honest:.0%} of PGD-20's survivors that honest models lose at most (exact "
        f"binomial test on the net number). {why}"
    )
    return Sign(name, rule, partial(compare_with_pgd, name=attack, honest=honest), tests)


SIGNS: tuple[Sign, ...] = (
    Sign(
        "randomised",
        "Raised if two passes over the same samples give different classes, or logits that differ by more than "
        'rounding. Single answers then say little; attacks must average, as AutoAttack\'s version "rand" does.',
        check_randomness,
    ),
    Sign(
        "useless gradients",
        "Raised if the gradient of the cross entropy is zero or not finite, at x or at a random point of its ball, for "
        f"more than {FEW:.0%} of the samples that are classified right. Gradient attacks stand still there.",
        check_gradients,
    ),
    _comparison(
        "logit scaling",
        SCALED.name,
        "Each factor is tested. A factor moves no decision; it matters only where the softmax saturates.",
        tests=len(SCALED.scales),
    ),
    _comparison(
        "margin loss", MARGIN.name, "The two make the same steps; a cross entropy that misleads is the weaker one."
    ),
    _comparison("black box", SQUARE.name, "Square asks for no gradient."),
    _comparison("autoattack", AUTOATTACK.name, "AutoAttack adapts its steps and its losses."),
    _comparison("more effort", PGD_PLUS.name, "If ten times the steps help so much, no number of them is enough."),
    Sign(
        "growing eps",
        "Raised if, in a ball that holds every possible input, PGD-20 leaves more samples than the most frequent class "
        "or guessing would get right, by more than chance (exact binomial test). Such a ball holds a wrong answer for "
        "each.",
        check_growing_eps,
        tests=1,
    ),
)


def significance(extra_attacks: int = 0) -> float:
    """Return the level of each test, so that a report's chance of any false alarm is ALPHA.

    :param extra_attacks: attacks of the user's, each compared with PGD-20 once.
    """
    return ALPHA / (sum(sign.tests for sign in SIGNS) + extra_attacks)


def judge(report: RobustnessReport) -> tuple[list[Flag], list[Flag]]:
    """Look for every sign in what a report recorded.

    :return: flags, signs of gradient masking; and notes, gaps larger than chance that honest models show as well.
    """
    require_report(report)
    known = {PGD_20.name, SMALLER_EPS, *HONEST_SHARES}
    extra = tuple(
        Sign(
            attack.name,
            "A note if it breaks more samples than PGD-20 by more than chance (exact paired test).",
            partial(compare_with_pgd, name=attack.name, honest=None),
        )
        for attack in report.attacks
        if attack.name not in known
    )
    flags: list[Flag] = []
    notes: list[Flag] = []
    for sign in (*SIGNS, *extra):
        finding = sign.test(report, report.significance)
        if finding is not None:
            (flags if finding.is_flag else notes).append(Flag(sign.name, finding.evidence, sign.rule, finding.p_value))
    return flags, notes
