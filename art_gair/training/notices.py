"""What a training warns of, once: signs in the records that its user should know of."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

from art_gair.logits import PROBABILITIES
from art_gair.training.history import EpochMeter, EpochRecord
from art_gair.weighting.base import Weighting
from art_gair.weighting.uniform import UniformWeighting

logger = logging.getLogger(__name__)

SMALL_SHARE = 0.1
"""Share of the batch under which the effective sample size is called small."""

OVERFITTING_EPOCHS = 3
"""Validated epochs in a row that must lie under the best one."""

Notice = Callable[[Sequence[EpochRecord], EpochMeter], "str | None"]


class Notices:
    """Looks at each epoch; each kind of warning is logged once a training.

    :param validated: samples of the validation, 0 without.
    """

    def __init__(self, validated: int) -> None:
        self.validated = validated
        self.given: set[str] = set()

    def look(self, history: Sequence[EpochRecord], meter: EpochMeter) -> None:
        """Warn of what the last epoch shows."""
        notices: dict[str, Notice] = {
            "weights": _few_samples_count,
            "kappa": _kappa_says_nothing,
            "attack": _attack_moves_nothing,
            "distance": _attack_moves_too_far,
            "probabilities": _probabilities,
            "overfitting": lambda history, meter: _overfits(history, self.validated),
        }
        for kind, notice in notices.items():
            message = None if kind in self.given else notice(history, meter)
            if message is not None:
                self.given.add(kind)
                logger.warning("Epoch %d, counted from 0: %s", history[-1]["epoch"], message)


def note_never_weighted(burn_in: Sequence[bool], weighting: Weighting) -> None:
    """Warn of a burn-in that leaves no epoch to a weighting."""
    if all(burn_in) and not isinstance(weighting, UniformWeighting):
        logger.warning(
            "burn_in takes all %d epochs, so %s is never used: this is training without weights. A smaller burn_in, or "
            "more epochs, would use it.",
            *(len(burn_in), weighting),
        )


def _few_samples_count(history: Sequence[EpochRecord], meter: EpochMeter) -> str | None:
    effective, batch = history[-1]["effective_sample_size"], meter.samples / meter.batches
    if effective >= SMALL_SHARE * batch:
        return None
    return (
        f"the effective sample size of the weights is {effective:.1f} of {batch:.0f} samples a batch: few samples "
        "decide each step. A larger lam, or `art_gair.weighting.floored`, spreads the weights."
    )


def _kappa_says_nothing(history: Sequence[EpochRecord], meter: EpochMeter) -> str | None:
    counts = history[-1]["kappa_histogram"]
    if len(counts) < 2 or sum(counts) not in (counts[0], counts[-1]):
        return None
    if counts[0]:
        found = "kappa is 0 for each sample: all are misclassified before the first step"
        hint = "The model is untrained, or eps too large."
    else:
        found = f"kappa is {len(counts) - 1} for each sample: none is misclassified on the way"
        hint = "The model is untrained, eps or eps_step too small, or the data are easy."
    return f"{found}, so weights by kappa would all be 1. {hint}"


def _attack_moves_nothing(history: Sequence[EpochRecord], meter: EpochMeter) -> str | None:
    if bool(meter.moved):
        return None
    return (
        "the attack changed no sample that was looked at: the gradient is zero everywhere, or eps and eps_step are "
        "lost in the rounding of x to float32. This is no adversarial training."
    )


def _attack_moves_too_far(history: Sequence[EpochRecord], meter: EpochMeter) -> str | None:
    if meter.distances is None:
        return None
    moved, between = meter.distances.tolist()
    if not moved >= between > 0:
        return None
    return (
        f"an adversarial example lies {moved:.3g} from its sample, two samples {between:.3g} from each other (means of "
        "the first batch, Euclidean): eps is too large for these data, or in other units, or clip_values are not their "
        "range."
    )


def _probabilities(history: Sequence[EpochRecord], meter: EpochMeter) -> str | None:
    return PROBABILITIES if meter.probabilities is not None and bool(meter.probabilities) else None


def _overfits(history: Sequence[EpochRecord], n: int) -> str | None:
    """Robust overfitting: validation falls by more than two standard errors while training rises."""
    validated = [(r, r["robust_accuracy"]) for r in history if r["robust_accuracy"] is not None]
    if len(validated) <= OVERFITTING_EPOCHS or n == 0:
        return None
    best, top = max(validated, key=lambda pair: pair[1])
    last = validated[-OVERFITTING_EPOCHS:]
    fallen = sum(accuracy for _, accuracy in last) / len(last)
    chance = 2 * math.sqrt(top * (1 - top) / n)
    rises = history[-1]["train_robust_accuracy"] > best["train_robust_accuracy"]
    if best["epoch"] >= last[0][0]["epoch"] or fallen >= top - chance or not rises:
        return None
    return (
        f"robust overfitting: robust accuracy on validation_data fell from {top:.1%}, its best, in epoch "
        f"{best['epoch']}, to {fallen:.1%}, the mean of the last {len(last)}, while on the training data it rose. "
        "keep_best=True keeps the best epoch; EarlyStopping, AWP or EMA may help."
    )
