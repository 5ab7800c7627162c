"""The weights as Eq. 6 writes them, one sample at a time, then normalised to mean 1. float64, no care for 0/0."""

from __future__ import annotations

import math
from collections.abc import Callable


def tanh(kappa: int, max_iter: int, lam: float) -> float:
    return (1 + math.tanh(lam + 5 * (1 - 2 * kappa / max_iter))) / 2


def sigmoid(kappa: int, max_iter: int, lam: float) -> float:
    return 1 / (1 + math.exp(-(lam + 5 * (1 - 2 * kappa / max_iter))))


def discrete(kappa: int, max_iter: int, lam: float) -> float:
    return 1 - kappa / (max_iter + 1)


def weights(formula: Callable[[int, int, float], float], kappas: list[int], max_iter: int, lam: float) -> list[float]:
    raw = [formula(kappa, max_iter, lam) for kappa in kappas]
    return [w * len(raw) / sum(raw) for w in raw]
