"""What `fit` and `fit_generator` take beside the data, checked."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from art_gair.checks import require_int
from art_gair.engine.classifier import TensorClassifier
from art_gair.training.augment import Augment
from art_gair.training.settings import Settings, describe


@dataclass
class Options:
    """Arguments of a training, see `AdversarialTrainerGAIRAT.fit`.

    :raises TypeError, ValueError: if one is unusable, by its name.
    """

    nb_epochs: int
    scheduler: Any
    scheduler_step: str | None
    augment: Callable[[Tensor], Tensor] | None
    accumulate: int
    seed: int | None
    non_finite: str
    max_skipped: int
    resume: bool
    verbose: bool

    def __post_init__(self) -> None:
        self.nb_epochs = require_int(self.nb_epochs, "nb_epochs", at_least=1)
        self.accumulate = require_int(self.accumulate, "accumulate", at_least=1)
        self.max_skipped = require_int(self.max_skipped, "max_skipped", at_least=1)
        if self.seed is not None:
            self.seed = require_int(self.seed, "seed", at_least=0, at_most=2**32 - 1)  # as NumPy has it
        for name in ("resume", "verbose"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} is {getattr(self, name)!r}; expected True or False.")
        if not isinstance(self.non_finite, str) or self.non_finite not in ("stop", "skip"):
            raise ValueError(f"non_finite is {self.non_finite!r}; expected 'stop' or 'skip'.")

    def steps(self, batches: int | None) -> int | None:
        """Return the optimizer's steps an epoch of so many batches."""
        return None if batches is None else math.ceil(batches / self.accumulate)

    def augmentation(self, classifier: TensorClassifier) -> Augment | None:
        """Return what is applied to training inputs."""
        return None if self.augment is None else Augment(self.augment, classifier.box)

    def describe(self) -> Settings:
        """Return what decides the result of a training."""
        found = {"accumulate": str(self.accumulate), "seed": repr(self.seed), "non_finite": self.non_finite}
        if self.non_finite == "skip":
            found["max_skipped"] = str(self.max_skipped)
        return {**found, **describe("augment", self.augment)}
