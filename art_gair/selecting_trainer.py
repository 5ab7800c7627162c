"""A trainer that chooses by held-out data: the epoch, and the raw or the averaged model."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor

from art_gair.attacks.geometry_aware_pgd import GeometryAwarePGD
from art_gair.checks import is_real
from art_gair.distributed.start import is_first
from art_gair.plugins import EMA
from art_gair.trainer import AdversarialTrainerGAIRAT

logger = logging.getLogger(__name__)

VALIDATION_SHARE = 0.5
"""Passes of validation for each pass of training, at most, if nothing else is asked for."""

MOST_HELD_OUT = 1_000
"""Samples that are held out at most."""

FEW_LOOKS = 4
"""If fewer epochs than this are validated, a warning says so."""


class SelectingTrainer(AdversarialTrainerGAIRAT):
    """AdversarialTrainerGAIRAT whose `fit` ends with the model that withstands most on held-out data.

    It is a trainer with other defaults: `keep_best` is True, `validation_attack` is `judge`, once on the cross entropy
    and once on the margin, of which a sample must withstand both, and in `fit` validation comes every so many epochs
    that it takes at most half of the training's passes, the last epoch's on top, counting PGD that stops samples early
    as if it did not, and an attack without max_iter as one pass; in `fit_generator` after each epoch.
    Without `validation_data` a tenth of the labelled training data, at most 1,000 samples, is held out, drawn at
    random, but the same in each call, and a message says so. Few samples choose badly: below some thousand give
    `validation_data` of your own if you can. Give it too where samples come twice, or are augmented copies of each
    other: else some are held out and trained on as well, and their accuracy is too high.

    :param judge: the attack that models are held against; None: the training attack, with all its steps for each
        sample. It must be of one strength in all epochs.
    :param parts: the other arguments, as for `AdversarialTrainerGAIRAT`.
    :raises TypeError, ValueError: if judge, or the training attack in its place, is no GeometryAwarePGD on the same
        classifier, or has a schedule.
    """

    def __init__(
        self, classifier: PyTorchClassifier, *parts: Any, judge: GeometryAwarePGD | None = None, **named_parts: Any
    ) -> None:
        super().__init__(classifier, *parts, **named_parts)
        self.judge = judge
        self._judges()

    def fit(
        self,
        x: Any,
        y: Any,
        validation_data: tuple[Any, Any] | None = None,
        batch_size: int = 128,
        nb_epochs: int = 20,
        scheduler: Any = None,
        **settings: Any,
    ) -> None:
        """Train on arrays; arguments as for `AdversarialTrainerGAIRAT.fit`.

        :param validation_data: None: held out of x and y, of which the rest is copied then.
        :raises ValueError: if y has less than two labelled samples, of which one is held out; and as there.
        """
        if validation_data is None:
            x, y, validation_data = self._hold_out(x, y)
            if settings.get("verbose", True) is True and is_first():
                print(f"{len(validation_data[0])} samples are held out for validation.")  # noqa: T201 - as a recipe
        every = self._every(x, validation_data, settings)
        if (
            "validate_every" not in settings
            and is_real(nb_epochs)
            and math.ceil(nb_epochs / every) < min(FEW_LOOKS, nb_epochs)
        ):
            logger.warning(
                "Validation comes every %s epochs, since it would cost too much else, so of %s epochs few are "
                "validated, or the last alone. validate_on= with fewer samples brings it more often, and so does "
                "validate_every=.",
                *(every, nb_epochs),
            )
        settings = {**self._defaults(), "validate_every": every, **settings}
        super().fit(x, y, validation_data, batch_size, nb_epochs, scheduler, **settings)
        if self.best_epoch is not None and settings.get("verbose", True) is True and is_first():
            model = next(r["validated_model"] for r in self.history if r["epoch"] == self.best_epoch)
            print(f"The classifier holds the model {model!r} of epoch {self.best_epoch}, counted from 0.")  # noqa: T201

    def fit_generator(
        self,
        generator: Any,
        nb_epochs: int = 20,
        validation_data: tuple[Any, Any] | None = None,
        scheduler: Any = None,
        **settings: Any,
    ) -> None:
        """Train on batches; arguments as for `AdversarialTrainerGAIRAT.fit_generator`.

        :raises ValueError: if validation_data is None: batches cannot be held out; and as there.
        """
        if validation_data is None:
            raise ValueError("validation_data is None; expected (x, y): a generator's batches cannot be held out.")
        super().fit_generator(generator, nb_epochs, validation_data, scheduler, **{**self._defaults(), **settings})

    def _defaults(self) -> dict[str, Any]:
        """Return how a training is validated, if nothing else is asked for."""
        return {"validation_attack": self._judges(), "keep_best": True}

    def _judges(self) -> list[GeometryAwarePGD]:
        """Return the attacks that validation uses; the training attack may have been set since."""
        name = "judge" if self.judge is not None else "judge is None, and the training attack"
        judge = self.attack if self.judge is None else self.judge
        if not isinstance(judge, GeometryAwarePGD):
            raise TypeError(f"{name} is {judge!r}; expected a GeometryAwarePGD as judge.")
        judge = judge.with_all_steps()
        if judge.estimator is not self.classifier:
            raise ValueError(f"{name} is on another estimator; expected a judge on the classifier in training.")
        for setting in judge.schedules:
            if callable(getattr(judge, setting)):
                raise ValueError(f"{name} has a schedule as its {setting}; expected a judge of one strength.")
        return [judge.with_loss("ce"), judge.with_loss("margin")]

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, judge={self.judge!r})"

    def _every(self, x: Any, validation_data: Any, settings: Mapping[str, Any]) -> int:
        """Return after how many epochs to validate; nb_epochs has no say, since it may change at a resume."""
        held = validation_data[0] if isinstance(validation_data, (tuple, list)) and validation_data else ()
        size = min(_length(held), _size(settings.get("validate_on"), _length(held)))
        judges = settings.get("validation_attack", self._judges())
        judges = judges if isinstance(judges, (tuple, list)) else [self.attack if judges is None else judges]
        judges = [judge.with_all_steps() if isinstance(judge, GeometryAwarePGD) else judge for judge in judges]
        validation = size * self._models() * sum(_passes(judge) for judge in judges)
        training = max(1, _length(x)) * (_passes(self.attack) + 1)
        return max(1, math.ceil(validation / training / VALIDATION_SHARE))

    def _models(self) -> int:
        """Return how many models validation looks at: the raw one once, and averages."""
        looked_at = [plugin.validate for plugin in self.plugins if isinstance(plugin, EMA)]
        averages = sum(choice != "raw" for choice in looked_at)
        return averages + (averages == 0 or any(choice != "ema" for choice in looked_at))

    def _hold_out(self, x: Any, y: Any) -> tuple[Any, Any, tuple[Any, Any]]:
        """Split the data in training and validation data."""
        tensor_classifier = self._tensor_classifier()
        inputs = tensor_classifier.inputs(x)
        labels = tensor_classifier.labels(y, len(inputs), unlabelled=self.objective.unlabelled)
        labelled = (labels.cpu() >= 0).nonzero()[:, 0]
        if len(labelled) < 2:
            raise ValueError(f"y has {len(labelled)} labelled sample(s); expected two or more, one to be held out.")
        order = torch.randperm(len(labelled), generator=torch.Generator().manual_seed(0))
        held = labelled[order[: min(MOST_HELD_OUT, max(1, len(labelled) // 10))]].sort().values
        held = _sparing_classes(held, labels.cpu())
        kept = torch.ones(len(inputs), dtype=torch.bool).index_fill(0, held, False)
        logger.info("%s of %s labelled samples are held out for validation.", len(held), len(labelled))
        return inputs[kept], labels[kept], (inputs[held], labels[held])


def _length(data: Any) -> int:
    """Return the number of samples; what has none `fit` refuses."""
    return len(data) if hasattr(data, "__len__") else 0


def _size(on: Any, n: int) -> float:
    """Return how many of n samples `validate_on` leaves; what is no such number `fit` refuses."""
    if isinstance(on, float):
        return max(1, round(on * n)) if 0 < on <= 1 else n
    return on if is_real(on) and on > 0 else n


def _passes(attack: Any) -> float:
    """Return an attack's forward and backward passes for a sample, if none stops early but by a known budget."""
    return _number(attack, "max_iter") * max(1.0, _number(attack, "num_random_init")) * _number(attack, "budget")


def _number(attack: Any, name: str) -> float:
    """Return a setting of the attack, 1 if it is no number or there is none."""
    value: Any = getattr(attack, name, None)
    return float(value) if is_real(value) else 1.0


def _sparing_classes(held: Tensor, labels: Tensor) -> Tensor:
    """Leave out the samples of classes that would have none left to train on, as long as some are left to hold out."""
    kept = torch.ones(len(labels), dtype=torch.bool).index_fill(0, held, False)
    trained = torch.isin(labels[held], labels[kept])
    if not trained.any():
        logger.warning("The samples that are held out are the only ones of their classes; give validation_data.")
        return held
    return held[trained]
