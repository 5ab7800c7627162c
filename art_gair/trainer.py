"""ART's door to training: AdversarialTrainerGAIRAT."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from art.attacks.attack import EvasionAttack
from art.defences.trainer import AdversarialTrainer
from art.estimators.classification import PyTorchClassifier
from torch.optim.lr_scheduler import LRScheduler

from art_gair.attacks.art_attack import as_inner_attack
from art_gair.attacks.base import InnerAttack
from art_gair.attacks.default import default_attack
from art_gair.checks import require_int
from art_gair.engine.classifier import TensorClassifier
from art_gair.engine.fast import FastClassifier
from art_gair.objectives.at import AT
from art_gair.objectives.base import Objective
from art_gair.objectives.per_sample import per_sample
from art_gair.plugins.base import Plugin
from art_gair.training.data import Epoch, epochs_from_arrays, epochs_from_generator
from art_gair.training.history import EpochRecord
from art_gair.training.loop import train
from art_gair.training.plan import TrainingPlan
from art_gair.training.requirements import (
    BurnIn,
    burn_in_epochs,
    check_burn_in,
    check_model,
    check_optimizer,
    check_parts,
    check_schedules,
)
from art_gair.training.schedulers import check_scheduler
from art_gair.training.train_mode import TrainMode
from art_gair.training.validation import Validation, ending_with, make_validation
from art_gair.weighting.base import Weighting
from art_gair.weighting.geometry import TanhWeighting

logger = logging.getLogger(__name__)


class AdversarialTrainerGAIRAT(AdversarialTrainer):
    """Geometry-aware instance-reweighted adversarial training (Zhang et al., ICLR 2021, arXiv 2010.01736, Alg. 2).

    Each batch is attacked by GA-PGD, which counts kappa; each sample's loss on its adversarial example is weighted by
    kappa; the weighted mean of the classifier's own loss is minimised by the classifier's own optimizer.

    **Read its robust accuracy with care.** GAIRAT largely masks gradients: accuracy under PGD with the cross entropy
    rises while accuracy under stronger attacks falls. Judge a model by the worst of several attacks, at the least
    `GeometryAwarePGD(..., loss="margin")` beside "ce", better AutoAttack; never by `history` alone.

    Training follows torch's generator: `torch.manual_seed` before `fit` makes it repeatable. BatchNorm sees only the
    update's forward. A batch of one sample is merged into its larger neighbour. After `fit` the model is in eval mode.

    :param classifier: an ART PyTorchClassifier with an optimizer and a loss that has a per-sample form.
    :param attack: the inner attack: a GeometryAwarePGD or FriendlyPGD on the same classifier, or any other untargeted
        ART evasion attack, which counts no kappa and so works with weightings that do not need it. None:
        GeometryAwarePGD with the loss and the start that the objective asks for, L-inf, eps 8/255 and eps_step 2/255 of
        the range of the classifier's clip_values, 10 steps.
    :param weighting: scheme of the weights; None is TanhWeighting(-1). Any callable of the signature of
        `art_gair.weighting.Weighting` is one.
    :param objective: AT(), TRADES() or MART(), or another `art_gair.objectives.Objective`; None is AT().
    :param burn_in: first epochs in which all weights are 1: an int, their number; a float between 0 and 1, their share
        of nb_epochs, rounded; or a function of the epoch that says whether it is one. 0.3 is the paper's 30 of 100
        epochs. On the first batch of a burn-in the weighting is tried once, so that one that cannot work fails early.
    :param precision: of the attack and of the update's passes: "fp32"; "bf16", with weights, gradients and optimizer
        state still in float32; or "auto", bf16 on a device with instructions for it, else fp32.
    :param compile: whether attacks run through torch.compile, which needs a C++ compiler and half a minute at the
        start. On two CPU cores (AVX2) it gained 4 to 11 % a pass on a ResNet-18 and lost a third on a small CNN, batch
        64, float32: measure before you use it. Not measured on a GPU.
    :param plugins: such as AWP() and EMA(); hooks are called in this order.
    :raises EstimatorError: if the classifier is no PyTorchClassifier.
    :raises TypeError, ValueError, NotImplementedError: if an argument cannot work, by its name.
    """

    def __init__(
        self,
        classifier: PyTorchClassifier,
        attack: EvasionAttack | InnerAttack | None = None,
        weighting: Weighting | None = None,
        *,
        objective: Objective | None = None,
        burn_in: BurnIn = 0.3,
        precision: str = "fp32",
        compile: bool = False,
        plugins: Sequence[Plugin] = (),
    ) -> None:
        tensor_classifier = FastClassifier(classifier, type(self), precision=precision, compiled=compile)
        check_model(tensor_classifier)
        check_optimizer(classifier.optimizer, tensor_classifier)
        per_sample(classifier.loss, tensor_classifier.nb_classes, tensor_classifier.device)
        self.objective = AT() if objective is None else objective
        self.weighting: Weighting = TanhWeighting(-1.0) if weighting is None else weighting
        self.precision = precision
        self.compile = compile
        self.plugins = plugins
        if attack is None:
            attack = default_attack(classifier, **getattr(self.objective, "attack", {}))
        check_parts(classifier, attack, self.weighting, self.objective, self.plugins)
        super().__init__(classifier, attacks=attack if isinstance(attack, EvasionAttack) else [attack], ratio=1.0)
        self.attack: Any = attack
        as_inner_attack(attack).on_batches(tensor_classifier, epoch=0)  # refuses radii for each sample of an array
        self.burn_in = check_burn_in(burn_in)
        self.train_mode = TrainMode(tensor_classifier.module)
        self.history: list[EpochRecord] = []
        self.best_epoch: int | None = None

    def fit(
        self,
        x: Any,
        y: Any,
        validation_data: tuple[Any, Any] | None = None,
        batch_size: int = 128,
        nb_epochs: int = 20,
        scheduler: LRScheduler | None = None,
        *,
        validation_attack: EvasionAttack | Sequence[EvasionAttack] | None = None,
        keep_best: bool = False,
        **kwargs: Any,
    ) -> None:
        """Train on arrays, shuffled anew in each epoch.

        Submodules that are in eval mode while the model itself is in train mode stay in eval mode, such as a frozen
        backbone whose BatchNorm must not move: `model.train(); model.backbone.eval()` before the trainer is made, or
        before `fit`. `predict` and `fit` leave all of the model in eval mode, which says nothing; then the earlier
        choice counts.

        Memory: x is not copied, so a memory map of any size can be trained on; a step takes its batch, and a check of
        the values at the beginning some thousand samples. On a GPU, x of up to 1 GiB is put there for good.

        :param x: samples (n, *input_shape) inside clip_values; float32 in the computation, as in ART.
        :param y: classes, indices (n,) or one-hot (n, nb_classes).
        :param validation_data: (x, y) for clean and robust accuracy after each epoch.
        :param batch_size: samples a step.
        :param nb_epochs: epochs to train.
        :param scheduler: a torch scheduler of the classifier's optimizer, stepped after each epoch; ReduceLROnPlateau
            gets the epoch's loss in mode "min", validation's robust accuracy in mode "max".
        :param validation_attack: an untargeted ART evasion attack on the same classifier, or a list of them, of one
            strength in all epochs. A validation sample counts as robust if it is classified rightly as it is and under
            each of them. None: if it is under the training attack. Put a margin attack among them, since under PGD with
            the cross entropy GAIRAT can gain by masking gradients: `[attack, attack.with_loss("margin")]`.
        :param keep_best: leave the classifier with the weights and buffers of the epoch of the highest robust accuracy
            on validation_data, as validation saw them (EMA's average, say). Ties: higher clean accuracy, then the
            earlier epoch. `best_epoch` is its number, else None. So does a training that an exception stops, Ctrl-C
            too; the error says so. The optimizer stays as the last epoch left it. Select on data set aside for it,
            never on test data. Takes the memory of one more copy of the model, of two while it is renewed.
        :raises TypeError, ValueError: if an argument is unusable, by its name, before any training.
        :raises FloatingPointError: if loss, model or optimizer state turn non-finite; the batch is undone.
        """
        _refuse(kwargs, "fit", "x, y, validation_data, batch_size, nb_epochs, scheduler, validation_attack, keep_best")
        tensor_classifier = self._tensor_classifier()
        batch_size = require_int(batch_size, "batch_size", at_least=1)
        batches = epochs_from_arrays(tensor_classifier, x, y, batch_size, unlabelled=self.objective.unlabelled)
        validation = make_validation(
            tensor_classifier, self.classifier, self.attack, validation_data, validation_attack, keep_best
        )
        self._train(tensor_classifier, batches, nb_epochs, validation, scheduler)

    def fit_generator(
        self,
        generator: Any,
        nb_epochs: int = 20,
        validation_data: tuple[Any, Any] | None = None,
        scheduler: LRScheduler | None = None,
        *,
        validation_attack: EvasionAttack | Sequence[EvasionAttack] | None = None,
        keep_best: bool = False,
        **kwargs: Any,
    ) -> None:
        """Train on batches as a generator yields them; everything else as in `fit`.

        :param generator: an ART DataGenerator, a torch DataLoader, or another iterable of batches (x, y) that starts
            afresh in each epoch. An ART generator that is no iterable gives ceil(size / batch_size) batches an epoch.
            Batches are checked where they lie; for those that lie on a GPU already this waits for it.
        """
        allowed = "generator, nb_epochs, validation_data, scheduler, validation_attack, keep_best"
        _refuse(kwargs, "fit_generator", allowed)
        tensor_classifier = self._tensor_classifier()
        batches = epochs_from_generator(tensor_classifier, generator, unlabelled=self.objective.unlabelled)
        validation = make_validation(
            tensor_classifier, self.classifier, self.attack, validation_data, validation_attack, keep_best
        )
        self._train(tensor_classifier, batches, nb_epochs, validation, scheduler)

    def _tensor_classifier(self) -> FastClassifier:
        """Return the classifier as tensors see it now; the parts may have been set since, and are looked at again."""
        check_parts(self.classifier, self.attack, self.weighting, self.objective, self.plugins)
        return FastClassifier(self.classifier, precision=self.precision, compiled=self.compile)

    def _train(
        self,
        tensor_classifier: TensorClassifier,
        batches: Epoch,
        nb_epochs: int,
        validation: Validation | None,
        scheduler: LRScheduler | None,
    ) -> None:
        nb_epochs = require_int(nb_epochs, "nb_epochs", at_least=1)
        attack, optimizer = as_inner_attack(self.attack), self.classifier.optimizer
        second_loss = self.objective.second_attack
        plan = TrainingPlan(
            classifier=tensor_classifier,
            attack=attack,
            second_attack=None if second_loss is None else self.attack.with_loss(second_loss),
            objective=self.objective,
            loss=per_sample(self.classifier.loss, tensor_classifier.nb_classes, tensor_classifier.device),
            weighting=self.weighting,
            optimizer=optimizer,
            plugins=self.plugins,
            train_mode=self.train_mode,
            burn_in=burn_in_epochs(self.burn_in, nb_epochs),
        )
        check_schedules(nb_epochs, attack, self.weighting)
        check_scheduler(scheduler, optimizer, nb_epochs, validated=validation is not None)
        logger.info("Performing adversarial training with GAIRAT: %s", self)
        self.train_mode.note()
        self.train_mode.log()
        self.history, self.best_epoch = [], None
        best = None if validation is None else validation.best
        try:
            with torch.enable_grad(), ending_with(best):
                train(plan, batches, scheduler, validation, self.history)
        finally:
            self.best_epoch = None if best is None else best.epoch
            tensor_classifier.module.eval()

    def __repr__(self) -> str:
        parts = f"{self.attack}, {self.weighting}, objective={self.objective}, burn_in={self.burn_in}"
        parts += f", precision={self.precision!r}, compile={self.compile}"
        return f"{type(self).__name__}({parts}, plugins={self.plugins})"


def _refuse(unknown: dict[str, Any], method: str, allowed: str) -> None:
    if unknown:
        raise TypeError(f"{method} got unknown arguments {sorted(unknown)}; it takes {allowed}.")
