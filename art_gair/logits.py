"""Arithmetic on logits and probabilities that attacks, weightings and objectives share."""

from __future__ import annotations

import torch
from torch import Tensor

PROBABILITIES = (
    "the model seems to return probabilities; expected logits. A softmax before the loss hides gradients from attacks: "
    "let the model return what it has before it."
)
"""What is said of a model whose logits `seem_probabilities`."""


def seem_probabilities(logits: Tensor) -> Tensor:
    """Whether all rows of logits (n, nb_classes) lie in 0..1 and add up to 1, a bool on their device."""
    sums = logits.double().sum(dim=1)
    return (logits.min() >= 0.0) & (logits.max() <= 1.0) & ((sums - 1.0).abs() < 1e-4).all()


def best_other(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the best score among the wrong classes, (n,), and its class, (n,), of scores (n, nb_classes)."""
    values, classes = scores.scatter(1, labels[:, None], -torch.inf).max(dim=1)
    return values, classes


def label_score(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the score of each sample's label, (n,)."""
    return scores.gather(1, labels[:, None])[:, 0]


def margin(scores: Tensor, labels: Tensor) -> Tensor:
    """Score of the label less the best other score, (n,): positive where scores (n, nb_classes) classify rightly."""
    return label_score(scores, labels) - best_other(scores, labels)[0]


def is_right(logits: Tensor, labels: Tensor) -> Tensor:
    """Whether each sample's class is found, bool (n,); logits with NaN find none."""
    return (logits.argmax(dim=1) == labels) & ~logits.isnan().any(dim=1)


def kl_divergence(clean_logits: Tensor, adversarial_logits: Tensor) -> Tensor:
    """KL(f(x) || f(x_adv)) of each sample, (n,); the gradient flows through both."""
    log_p, log_q = clean_logits.log_softmax(dim=1), adversarial_logits.log_softmax(dim=1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=1)


def probability_margins(logits: Tensor, labels: Tensor) -> Tensor:
    """Margin of the probabilities, p_y less the largest other, float64 (n,): -1 lost, 0 on the boundary, 1 safe."""
    return margin(logits.double().softmax(dim=1), labels)
