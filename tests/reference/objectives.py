"""TRADES, MART, their attacks' loss and MAIL's weights as the papers write them: one sample at a time, float64."""

from __future__ import annotations

import math


def softmax(logits: list[float]) -> list[float]:
    raw = [math.exp(z) for z in logits]
    return [r / sum(raw) for r in raw]


def cross_entropy(logits: list[float], y: int) -> float:
    return -math.log(softmax(logits)[y])


def kl(clean: list[float], adversarial: list[float]) -> float:
    return sum(p * math.log(p / q) for p, q in zip(softmax(clean), softmax(adversarial), strict=True))


def trades(clean: list[float], adversarial: list[float], y: int, beta: float, w_ce: float, w_kl: float) -> float:
    return w_ce * cross_entropy(clean, y) + beta * w_kl * kl(clean, adversarial)


def mart(clean: list[float], adversarial: list[float], y: int, beta: float, w: float) -> float:
    p = softmax(adversarial)
    best_other = max(p[j] for j in range(len(p)) if j != y)
    boosted = -math.log(p[y]) - math.log(1 - best_other)
    return w * boosted + beta * kl(clean, adversarial) * (1 - softmax(clean)[y])


def arow(clean: list[float], adversarial: list[float], y: int, beta: float, s: float, w: float) -> float:
    smoothed = sum((s / len(clean) + (1 - s) * (j == y)) * cross_entropy(clean, j) for j in range(len(clean)))
    return smoothed + w * beta * (1 - softmax(adversarial)[y]) * kl(clean, adversarial)


def margin(adversarial: list[float], y: int) -> float:
    """MAIL's own sign: p_y - max_{j != y} p_j, large for safe samples."""
    p = softmax(adversarial)
    return p[y] - max(p[j] for j in range(len(p)) if j != y)


def mail(adversarial: list[float], y: int, slope: float, bias: float) -> float:
    """sigmoid(-slope (PM - bias)) in the paper's sign, where MAIL-AT has bias -0.5."""
    return 1 / (1 + math.exp(slope * (margin(adversarial, y) - bias)))


def wmmr(adversarial: list[float], y: int, alpha: float) -> float:
    return math.exp(-alpha * margin(adversarial, y))


def entropy(adversarial: list[float], y: int) -> float:
    return -sum(p * math.log(p) for p in softmax(adversarial))


def kl_dro(adversarial: list[float], y: int, temperature: float) -> float:
    return math.exp(cross_entropy(adversarial, y) / temperature)


def boundary(adversarial: list[float], y: int, slope: float, floor: float) -> float:
    return floor + (1 - floor) * math.exp(-slope * abs(margin(adversarial, y)))


def mean_one(raw: list[float]) -> list[float]:
    return [r * len(raw) / sum(raw) for r in raw]
