"""What a user should know at once: each text is a UserWarning and stands in the report."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from art_gair.report.results import AttackResult


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
    sums = logits.double().sum(dim=1)
    if logits.min() >= 0.0 and logits.max() <= 1.0 and ((sums - 1.0).abs() < 1e-4).all():
        texts.append(
            "the model seems to return probabilities; expected logits. A softmax before the loss hides gradients from "
            "attacks: let the model return what it has before it."
        )
    if not correct.any():
        texts.append(
            "no sample is classified right to begin with, so there is nothing to attack: all accuracies are 0."
        )
    return warn(texts)


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
