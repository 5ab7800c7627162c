"""The few tests and intervals that a report rests on, all exact, all from scipy."""

from __future__ import annotations

from scipy.stats import binomtest

CONFIDENCE = 0.95


def interval(count: int, n: int) -> tuple[float, float]:
    """Clopper-Pearson interval of a share, 95 %: 0..1, 0..1."""
    bounds = binomtest(count, n).proportion_ci(CONFIDENCE, method="exact")
    return float(bounds.low), float(bounds.high)


def paired_p(gained: int, lost: int) -> float:
    """Probability of so many gains or more if gains and losses were equally likely (McNemar's test, exact).

    :param gained: samples on which the one attack succeeded and the other did not.
    :param lost: samples on which the other succeeded and the one did not.
    """
    return 1.0 if gained == 0 else float(binomtest(gained, gained + lost, 0.5, alternative="greater").pvalue)


def above_p(count: int, n: int, share: float) -> float:
    """Probability of so many of n or more if each had the chance `share` (binomial test, exact)."""
    return 1.0 if count == 0 else float(binomtest(count, n, share, alternative="greater").pvalue)
