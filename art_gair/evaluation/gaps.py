"""Gaps between PGD-20 and other attacks, on the same samples."""

from __future__ import annotations

from dataclasses import dataclass

from art_gair.evaluation.attacks import PGD_20, SCALED
from art_gair.report.data import RobustnessReport
from art_gair.report.results import SMALLER_EPS
from art_gair.report.statistics import paired_p


@dataclass(frozen=True)
class Gap:
    """Samples that an attack broke and PGD-20 did not, the reverse, and the survivors of PGD-20."""

    title: str
    gained: int
    lost: int
    survivors: int

    @property
    def net(self) -> int:
        """How many samples more the attack broke."""
        return self.gained - self.lost

    @property
    def p_value(self) -> float:
        """Chance of such a gap if both attacks were equally strong (McNemar's test, exact)."""
        return paired_p(self.gained, self.lost)


def find_gaps(report: RobustnessReport, name: str) -> list[Gap]:
    """Return the gap of each try of an attack to PGD-20, or of the attack as a whole; none where not all is known."""
    names = [attack.name for attack in report.attacks]
    if PGD_20.name not in names or name not in names or not (report.complete(name) and report.complete(PGD_20.name)):
        return []
    attack, first = report.attack(name), report.attack(PGD_20.name).broken
    survivors = int((report.clean.correct & ~first).sum())
    tries = attack.tries if name == SCALED.name else {"": attack.broken}
    return [
        Gap(
            f"PGD-20 on logits {attempt}" if attempt else attack.title,
            *(int((broken & ~first).sum()), int((first & report.clean.correct & ~broken).sum()), survivors),
        )
        for attempt, broken in tries.items()
    ]


def find_incomplete(report: RobustnessReport) -> list[str]:
    """Return the attacks of a cascade that could be found stronger than PGD-20 if they attacked all samples."""
    first = report.attack(PGD_20.name).broken if report.attacks else None
    names = []
    for attack in report.attacks:
        unknown = report.clean.correct & ~attack.attacked
        if first is None or attack.name in (PGD_20.name, SMALLER_EPS) or not unknown.any():
            continue
        at_best = int(((attack.broken | unknown) & ~first).sum())
        if paired_p(at_best, 0) < report.significance:
            names.append(attack.name)
    return names
