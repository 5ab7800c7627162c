"""What a user should know at once: each text is a UserWarning and stands in the report."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from art_gair.logits import PROBABILITIES, seem_probabilities
from art_gair.report.results import AttackResult

SAMPLES = 1000
"""Samples whose distances are looked at."""


def warn(texts: list[str]) -> list[str]:
    """Warn of each text, and return them."""
    for text in texts:
        warnings.warn(text, UserWarning, stacklevel=5)
    return texts


def warn_of_model(logits: Tensor, correct: NDArray[np.bool_]) -> list[str]:
    """Warn of a model that returns probabilities, or that classifies nothing right.

    :param logits: of the samples, (n, nb_classes).
    :param correct: bool (n,).
    """
    texts = []
    if seem_probabilities(logits):
        texts.append(PROBABILITIES)
    if not correct.any():
        texts.append(
            "no sample is classified right to begin with, so there is nothing to attack: all accuracies are 0."
        )
    return warn(texts)


def warn_of_radius(x: Tensor, labels: Tensor, norm: float | str, eps: float) -> list[str]:
    """Warn of a ball that reaches from a sample to those of other classes, as it does in other units than x's.

    :param x: samples, (n, *shape), of which SAMPLES are looked at.
    :param labels: int64 (n,).
    """
    x, labels = x[:SAMPLES], labels[:SAMPLES]
    pairs = (labels[1:] != labels[:-1]).nonzero()[:, 0].tolist()
    if not pairs:
        return []
    differences = ((x[i + 1].double() - x[i].double()).flatten() for i in pairs)
    distances = [float(torch.linalg.vector_norm(difference, ord=float(norm))) for difference in differences]
    distance = sum(distances) / len(distances)
    if eps < distance:
        return []
    return warn(
        [
            f"eps is {eps:.4g}, and two samples of different classes lie {distance:.4g} apart in this norm, in the "
            "mean: a model can hardly be robust in such balls. Is eps in the units of x?"
        ]
    )


def warn_of_attack(result: AttackResult) -> list[str]:
    """Warn of examples that were projected back or discarded; what the attack's own code said goes into the report."""
    texts = []
    if result.projected:
        texts.append(
            f"{result.title}: {result.projected} examples lay outside the ball or clip_values; they were projected "
            "back before they were judged."
        )
    if result.discarded:
        texts.append(
            f"{result.title}: {result.discarded} examples were NaN or infinite; the samples themselves were judged in "
            "their place, so the attack may be stronger than it seems."
        )
    return [*warn(texts), *(f"{result.title}: {note}" for note in dict.fromkeys(result.notes))]
