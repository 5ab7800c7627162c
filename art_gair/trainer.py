"""ART's door to training: AdversarialTrainerGAIRAT."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from art.defences.trainer import AdversarialTrainer
from art.estimators.classification import PyTorchClassifier
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from art_gair.attacks.geometry_aware_pgd import GeometryAwarePGD
from art_gair.checks import require_int
from art_gair.classifier import TensorClassifier
from art_gair.objectives.at import AT
from art_gair.objectives.per_sample import per_sample
from art_gair.training.data import Epoch, epochs_of_arrays, epochs_of_generator
from art_gair.training.guard import FiniteGuard
from art_gair.training.history import EpochRecord
from art_gair.training.loop import Validation, train
from art_gair.training.step import TrainingStep
from art_gair.training.validation import accuracy_of
from art_gair.weighting.base import Weighting
from art_gair.weighting.geometry import TanhWeighting

logger = logging.getLogger(__name__)

BURN_IN_SHARE = 0.3
"""The paper's 30 of 100 epochs (ResNet-18)."""


class AdversarialTrainerGAIRAT(AdversarialTrainer):
    """Geometry-aware instance-reweighted adversarial training (Zhang et al., ICLR 2021, arXiv 2010.01736, Alg. 2).

    Each batch is attacked by GA-PGD, which counts kappa; each sample's loss on its adversarial example is weighted by
    kappa; the weighted mean of the classifier's own loss is minimised by the classifier's own optimizer.

    **Read its robust accuracy with care.** GAIRAT largely masks gradients: accuracy under PGD with the cross entropy
    rises while accuracy under stronger attacks falls. Judge a model by the worst of several attacks, at the least
    `GeometryAwarePGD(..., loss="margin")` beside "ce", better AutoAttack; never by `history` alone.

    Training follows torch's generator: `torch.manual_seed` before `fit` makes it repeatable. BatchNorm sees only the
    update's forward. A batch of one sample is merged into the larger one before it. After `fit` the model is in eval
    mode.

    :param classifier: an ART PyTorchClassifier with an optimizer and a loss that has a per-sample form.
    :param attack: the inner attack on the same classifier. None: L-inf with eps 8/255 and eps_step 2/255 of the range
        of the classifier's clip_values, 10 steps, one random start.
    :param weighting: scheme of the weights; None is TanhWeighting(-1).
    :param burn_in: first epochs in which all weights are 1; None is 30 % of nb_epochs, rounded.
    :raises EstimatorError: if the classifier is no PyTorchClassifier.
    :raises TypeError, ValueError, NotImplementedError: if an argument cannot work, by its name.
    """

    def __init__(
        self,
        classifier: PyTorchClassifier,
        attack: GeometryAwarePGD | None = None,
        weighting: Weighting | None = None,
        burn_in: int | None = None,
    ) -> None:
        view = TensorClassifier(classifier)
        if classifier.optimizer is None:
            raise ValueError("classifier has no optimizer; training needs one: PyTorchClassifier(..., optimizer=...).")
        per_sample(classifier.loss, view.nb_classes, view.device)
        attack = _default_attack(classifier) if attack is None else attack
        if not isinstance(attack, GeometryAwarePGD):
            raise TypeError(
                f"attack is a {type(attack).__name__}; expected a GeometryAwarePGD, whose kappa weighs samples."
            )
        if attack.estimator is not classifier:
            raise ValueError("attack is on another estimator; kappa must be counted on the classifier that is trained.")
        attack.on_batches(view)
        if weighting is not None and not callable(weighting):
            raise TypeError(f"weighting is {weighting!r}; expected a scheme such as TanhWeighting(-1.0).")
        super().__init__(classifier, attacks=attack, ratio=1.0)
        self.attack = attack
        self.weighting: Weighting = TanhWeighting(-1.0) if weighting is None else weighting
        self.burn_in = None if burn_in is None else require_int(burn_in, "burn_in", at_least=0)
        self.history: list[EpochRecord] = []

    def fit(
        self,
        x: Any,
        y: Any,
        validation_data: tuple[Any, Any] | None = None,
        batch_size: int = 128,
        nb_epochs: int = 20,
        scheduler: LRScheduler | None = None,
        **kwargs: Any,
    ) -> None:
        """Train on arrays, shuffled anew in each epoch.

        :param x: samples (n, *input_shape) inside clip_values; float32 in the computation, as in ART.
        :param y: classes, indices (n,) or one-hot (n, nb_classes).
        :param validation_data: (x, y) for clean and robust accuracy after each epoch; robust is the training attack.
        :param batch_size: samples a step.
        :param nb_epochs: epochs to train.
        :param scheduler: a torch scheduler of the classifier's optimizer, stepped after each epoch; ReduceLROnPlateau
            gets the epoch's loss in mode "min", validation's robust accuracy in mode "max".
        :raises TypeError, ValueError: if an argument is unusable, by its name, before any training.
        :raises FloatingPointError: if the loss turns non-finite; the model keeps its last finite weights.
        """
        _refuse(kwargs, "fit", "x, y, validation_data, batch_size, nb_epochs, scheduler")
        view = TensorClassifier(self.classifier)
        batch_size = require_int(batch_size, "batch_size", at_least=1)
        self._train(view, epochs_of_arrays(view, x, y, batch_size), nb_epochs, validation_data, scheduler)

    def fit_generator(
        self,
        generator: Any,
        nb_epochs: int = 20,
        validation_data: tuple[Any, Any] | None = None,
        scheduler: LRScheduler | None = None,
        **kwargs: Any,
    ) -> None:
        """Train on batches as a generator yields them; everything else as in `fit`.

        :param generator: an ART DataGenerator, a torch DataLoader, or another iterable of batches (x, y) that starts
            afresh in each epoch. An ART generator that is no iterable gives ceil(size / batch_size) batches an epoch.
        """
        _refuse(kwargs, "fit_generator", "generator, nb_epochs, validation_data, scheduler")
        view = TensorClassifier(self.classifier)
        self._train(view, epochs_of_generator(view, generator), nb_epochs, validation_data, scheduler)

    def _train(
        self,
        view: TensorClassifier,
        batches: Epoch,
        nb_epochs: int,
        validation_data: tuple[Any, Any] | None,
        scheduler: LRScheduler | None,
    ) -> None:
        nb_epochs = require_int(nb_epochs, "nb_epochs", at_least=1)
        burn_in = round(BURN_IN_SHARE * nb_epochs) if self.burn_in is None else self.burn_in
        if burn_in > nb_epochs:
            raise ValueError(f"burn_in is {burn_in} epochs; expected at most nb_epochs, {nb_epochs}.")
        self._check_schedules(nb_epochs, scheduler, validation_data)
        validation = self._validation(view, validation_data)
        step = TrainingStep(
            classifier=view,
            attack=self.attack.on_batches(view),
            max_iter=self.attack.max_iter,
            objective=AT(),
            loss=per_sample(self.classifier.loss, view.nb_classes, view.device),
            optimizer=self.classifier.optimizer,
            guard=FiniteGuard(view.module, view.device),
        )
        logger.info(
            "Performing adversarial training with GAIRAT: %s, %s, burn-in %i", self.attack, self.weighting, burn_in
        )
        self.history = []
        try:
            train(step, batches, nb_epochs, burn_in, self.weighting, scheduler, validation, self.history)
        finally:
            view.module.eval()

    def _check_schedules(self, nb_epochs: int, scheduler: Any, validation_data: Any) -> None:
        """Refuse what would fail in a later epoch."""
        if hasattr(self.weighting, "lam_at"):
            for epoch in range(nb_epochs):
                self.weighting.lam_at(epoch)
        if scheduler is None:
            return
        if not isinstance(scheduler, LRScheduler):
            raise TypeError(f"scheduler is a {type(scheduler).__name__}; expected one of torch.optim.lr_scheduler.")
        if scheduler.optimizer is not self.classifier.optimizer:
            raise ValueError("scheduler drives another optimizer; expected one of the classifier's optimizer.")
        if isinstance(scheduler, ReduceLROnPlateau) and scheduler.mode == "max" and validation_data is None:
            raise ValueError('scheduler is ReduceLROnPlateau in mode "max", which needs validation_data to watch.')

    def _validation(self, view: TensorClassifier, data: tuple[Any, Any] | None) -> Validation | None:
        if data is None:
            return None
        if not isinstance(data, (tuple, list)) or len(data) != 2:
            raise ValueError(f"validation_data is a {type(data).__name__}; expected a pair (x, y).")
        x = view.inputs(data[0], "validation_data's x")
        labels = view.labels(data[1], len(x), "validation_data's y")
        return lambda: accuracy_of(view, self.attack.on_batches(view), x, labels, self.attack.batch_size)


def _default_attack(classifier: PyTorchClassifier) -> GeometryAwarePGD:
    """Return the paper's attack, in units of the classifier's range."""
    if classifier.clip_values is None or not np.isfinite(classifier.clip_values).all():
        raise ValueError(
            "classifier has no finite clip_values, from which the default attack takes its eps; give the classifier "
            "clip_values, or the trainer an attack: attack=GeometryAwarePGD(classifier, eps=..., eps_step=...)."
        )
    low, high = (np.asarray(c, dtype=np.float64) for c in classifier.clip_values)
    span = high - low
    return GeometryAwarePGD(classifier, norm=np.inf, eps=8 / 255 * span, eps_step=2 / 255 * span, max_iter=10)


def _refuse(unknown: dict[str, Any], method: str, allowed: str) -> None:
    if unknown:
        raise TypeError(f"{method} got unknown arguments {sorted(unknown)}; it takes {allowed}.")
