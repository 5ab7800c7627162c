"""Clean and robust accuracy on held-out data after each epoch, and the epoch that did best by them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from art.attacks.attack import EvasionAttack
from art.estimators.classification import PyTorchClassifier
from torch import Tensor

from art_gair.attacks.art_attack import as_inner_attack
from art_gair.attacks.base import InnerAttack, Perturb, check_perturbed
from art_gair.attacks.geometry_aware_pgd import GeometryAwarePGD
from art_gair.checks import require_fit
from art_gair.engine.classifier import TensorClassifier
from art_gair.engine.model_state import State, copied, live_state, put_back
from art_gair.training.history import Accuracies
from art_gair.training.step import TrainingStep

logger = logging.getLogger(__name__)

OnBatches = tuple[Perturb, int]
"""An attack on batches, and how many samples it takes at once."""


class BestEpoch:
    """Keeps a copy of the model's weights and buffers, of the epoch with the highest robust accuracy.

    Ties: higher clean accuracy, then the earlier epoch.

    :param classifier: whose model to keep.
    """

    def __init__(self, classifier: TensorClassifier) -> None:
        self.module = classifier.module
        self.kept: State = {}
        self.rank = (-1.0, -1.0)
        self.epoch: int | None = None

    def look(self, epoch: int, clean: float, robust: float) -> None:
        """Copy the model as it stands now, if it is the best so far."""
        if (robust, clean) > self.rank:
            kept = copied(live_state(self.module))  # the earlier copy stays whole if an interrupt comes now
            self.kept, self.rank, self.epoch = kept, (robust, clean), epoch

    def restore(self) -> None:
        """Give the model the best epoch's weights and buffers, bit for bit."""
        put_back(self.module, self.kept)


@contextmanager
def ending_with(best: BestEpoch | None) -> Iterator[None]:
    """End a training, also one that an exception stops, with the best epoch's model; log and exception say so."""
    try:
        yield
    except BaseException as error:
        error.__notes__ = [*getattr(error, "__notes__", []), *_restore(best)]  # type: ignore[attr-defined]
        raise
    _restore(best)


def _restore(best: BestEpoch | None) -> list[str]:
    """Return what there is to say: nothing if no epoch was kept."""
    if best is None or best.epoch is None:
        return []
    best.restore()
    note = f"The classifier holds the weights of epoch {best.epoch}, the best on validation_data (keep_best)."
    logger.info(note)
    return [note]


@dataclass
class Validation:
    """Measures an epoch's model on held-out data, and shows it to `best`, as it stands then, if there is one.

    :param x: checked inputs (n, *input_shape).
    :param labels: classes, int64 (n,).
    :param attacks: robust is what the model gets right clean and under each of them. None: under the training attack.
    :param batch_size: samples that the training attack takes at once.
    """

    classifier: TensorClassifier
    x: Tensor
    labels: Tensor
    attacks: list[OnBatches] | None
    batch_size: int
    best: BestEpoch | None

    def __call__(self, step: TrainingStep) -> Accuracies:
        """Return the accuracies of the model in eval mode."""
        everything = torch.arange(len(self.x))
        clean = self._right(everything, (_unattacked, self.batch_size))
        if self.attacks is None:
            robust = self._right(everything, (step.attack, self.batch_size))
        else:
            robust = self._withstands_all(clean, self.attacks)
        accuracies = Accuracies(clean.double().mean().item(), robust.double().mean().item())
        if self.best is not None:
            self.best.look(step.epoch, *accuracies)
        return accuracies

    def _withstands_all(self, clean: Tensor, attacks: list[OnBatches]) -> Tensor:
        """Attack only the samples that still stand: one that has fallen stays fallen."""
        standing = clean.clone()
        for attack in attacks:
            rows = standing.nonzero().flatten()
            if len(rows) == 0:
                break
            standing[rows] = self._right(rows, attack)
        return standing

    def _right(self, rows: Tensor, attack: OnBatches) -> Tensor:
        """Return for each of the rows whether the model finds its class, a bool on the host; waits for the device."""
        perturb, batch_size = attack
        right = []
        for part in rows.split(batch_size):
            x, labels = (t[part].to(self.classifier.device) for t in (self.x, self.labels))
            x_adv, _ = perturb(x.float(), labels)
            with self.classifier.attacked(x_adv) as logits_of, torch.no_grad():
                right.append(logits_of(x_adv).argmax(dim=1) == labels)
        return torch.cat(right).cpu()


def make_validation(
    tensor_classifier: TensorClassifier,
    classifier: PyTorchClassifier,
    training_attack: EvasionAttack | InnerAttack,
    data: Any,
    attack: Any,
    keep_best: Any,
) -> Validation | None:
    """Return what validates an epoch, None without data; what could not is refused.

    :raises TypeError, ValueError: if an argument is unusable, by its name.
    """
    if not isinstance(keep_best, bool):
        raise TypeError(f"keep_best is {keep_best!r}; expected True or False.")
    if data is None:
        for name, given in (("validation_attack", attack is not None), ("keep_best", keep_best)):
            if given:
                raise ValueError(f"{name} is given, but no validation_data; expected a pair (x, y) to validate on.")
        return None
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise ValueError(f"validation_data is a {type(data).__name__}; expected a pair (x, y).")
    if keep_best and attack is None:
        _require_fixed(training_attack, "keep_best needs a validation_attack: the training attack")
    x = tensor_classifier.inputs(data[0], "validation_data's x")
    return Validation(
        classifier=tensor_classifier,
        x=x,
        labels=tensor_classifier.labels(data[1], len(x), "validation_data's y"),
        attacks=None if attack is None else [_on_batches(a, tensor_classifier, classifier) for a in _listed(attack)],
        batch_size=as_inner_attack(training_attack).batch_size,
        best=BestEpoch(tensor_classifier) if keep_best else None,
    )


def _unattacked(x: Tensor, labels: Tensor) -> tuple[Tensor, None]:
    return x, None


def _listed(attack: Any) -> Sequence[Any]:
    if isinstance(attack, (EvasionAttack, InnerAttack)):
        return [attack]
    if not isinstance(attack, (list, tuple)):
        raise TypeError(f"validation_attack is {attack!r}; expected an ART EvasionAttack, or a list of them.")
    if not attack:
        raise ValueError(f"validation_attack is an empty {type(attack).__name__}; expected at least one attack.")
    return attack


def _on_batches(attack: Any, tensor_classifier: TensorClassifier, classifier: PyTorchClassifier) -> OnBatches:
    """Return the attack on batches, if it can judge each epoch's model, all in the same way."""
    if not isinstance(attack, (EvasionAttack, InnerAttack)):
        raise TypeError(f"validation_attack holds {attack!r}; expected ART EvasionAttacks.")
    name = f"validation_attack {type(attack).__name__}"
    if isinstance(attack, EvasionAttack) and attack.estimator is not classifier:
        raise ValueError(f"{name} is on another estimator; expected an attack on the classifier in training.")
    _require_fixed(attack, name)
    sample = (1, *(s or 1 for s in tensor_classifier.input_shape))
    for radius in ("eps", "eps_step"):  # one for each sample of an array would be lost in batches
        require_fit(np.shape(getattr(attack, radius, 0.0)), f"{name}'s {radius}", sample)
    try:
        inner = as_inner_attack(attack)
        return check_perturbed(inner, inner.on_batches(tensor_classifier, epoch=0)), inner.batch_size
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} is unusable: {error}") from error


def _require_fixed(attack: Any, what: str) -> None:
    """Refuse an attack whose strength follows the epoch: by its accuracy epochs cannot be compared."""
    if isinstance(attack, GeometryAwarePGD):
        for name in attack.attack_params:
            if callable(getattr(attack, name)):
                raise ValueError(f"{what} has a schedule as its {name}; expected a number, the same in each epoch.")
