"""Records of epochs made by hand, for plugins that only look at them."""

from __future__ import annotations

from typing import Any

import torch

from art_gair.engine.classifier import TensorClassifier
from art_gair.plugins import Plugin
from art_gair.training.history import WEIGHT_EDGES, WatchedRecord
from tests.models import digits_classifier

KAPPA = [4, 0, 3, 5]
WEIGHTS = [0, 1, 0, 2, 3, 4, 1, 0, 0, 1]
assert len(WEIGHTS) == len(WEIGHT_EDGES) + 1


def record(epoch: int, **entries: Any) -> WatchedRecord:
    """Return a plausible record of an epoch, some entries replaced."""
    watched = WatchedRecord(
        epoch=epoch,
        burn_in=epoch == 0,
        loss=1.0 / (epoch + 3),
        unweighted_loss=0.1 + 0.2 / (epoch + 1),
        train_robust_accuracy=0.5,
        clean_accuracy=0.75,
        robust_accuracy=0.25,
        kappa_histogram=[*KAPPA],
        attack_passes=7.5,
        effective_sample_size=6.5,
        weight_histogram=[*WEIGHTS],
        skipped_batches=0,
        validated_model="raw",
        lr=0.05,
        lam=None if epoch == 0 else -1.0,
        seconds=1.5,
    )
    watched.update(entries)
    return watched


def begin(plugin: Plugin, state: dict[str, Any] | None = None, **kwargs: Any) -> None:
    """Begin a training as the trainer does, or go on with one from a plugin's state."""
    classifier = TensorClassifier(digits_classifier(**kwargs))
    plugin.start(classifier, torch.optim.SGD(classifier.module.parameters(), lr=0.1))
    if state is not None:
        plugin.load_state_dict(state)
