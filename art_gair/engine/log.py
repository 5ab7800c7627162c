"""What the engine tells the user: why a model cannot have the fast path, or lost it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import nn

logger = logging.getLogger(__name__)

UNCHANGED = "Your model runs unchanged"

_logged: WeakKeyDictionary[nn.Module, set[str]] = WeakKeyDictionary()


def log_once(module: nn.Module, subject: str, reasons: Sequence[str], consequence: str) -> None:
    """Log why a model cannot have the fast path, if there are reasons, once a model and subject."""
    logged = _logged.setdefault(module, set())
    if reasons and subject not in logged:
        logged.add(subject)
        logger.warning("Fast path off for %s: %s. %s.", type(module).__name__, "; ".join(reasons), consequence)


def log_rounding(module: nn.Module, dtype: torch.dtype, share: float) -> None:
    """Log that a precision is too short for the model, once a model."""
    logged = _logged.setdefault(module, set())
    if "rounding" not in logged:
        logged.add("rounding")
        logger.warning(
            "%s rounds too much for %s: on the first samples it moves logits by %.0f %% of their distances within a "
            'sample, so kappa and gradients follow the rounding, not the model. precision="fp32" has them right.',
            *(str(dtype).removeprefix("torch."), type(module).__name__, 100 * share),
        )


def log_stale(module: nn.Module, reason: str, batches: int) -> None:
    """Log that batches may have been attacked wrongly, each time it happens."""
    logger.warning(
        "Fast path off for %s: %s, though none of its attributes changed; it may read a clock, a file, a random "
        "generator or a global variable. Up to %d batches since the last comparison were attacked on a stale copy of "
        "the model: their adversarial examples and kappa may be wrong. %s from here on.",
        *(type(module).__name__, reason, batches, UNCHANGED),
    )
