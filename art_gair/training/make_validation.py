"""The validation that a user asks for, checked before the training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from art.attacks.attack import EvasionAttack
from art.estimators.classification import PyTorchClassifier
from torch import Tensor

from art_gair.attacks.art_attack import as_inner_attack
from art_gair.attacks.base import InnerAttack, check_perturbed
from art_gair.attacks.boundary_pgd import BoundaryPGD
from art_gair.attacks.geometry_aware_pgd import GeometryAwarePGD
from art_gair.checks import require_fit, require_int, require_number
from art_gair.engine.classifier import TensorClassifier
from art_gair.training.best_epoch import BestEpoch
from art_gair.training.validation import OnBatches, Validation


def make_validation(
    tensor_classifier: TensorClassifier,
    classifier: PyTorchClassifier,
    training_attack: EvasionAttack | InnerAttack,
    data: Any,
    attack: Any,
    keep_best: Any,
    every: Any = 1,
    first: Any = 0,
    on: Any = None,
) -> Validation | None:
    """Return what validates an epoch, None without data; what could not is refused.

    :raises TypeError, ValueError: if an argument is unusable, by its name.
    """
    if not isinstance(keep_best, bool):
        raise TypeError(f"keep_best is {keep_best!r}; expected True or False.")
    every = require_int(every, "validate_every", at_least=1)
    first = require_int(first, "validate_from", at_least=0)
    if data is None:
        asked = {"validation_attack": attack is not None, "keep_best": keep_best, "validate_every": every != 1}
        for name, given in {**asked, "validate_from": first != 0, "validate_on": on is not None}.items():
            if given:
                raise ValueError(f"{name} is given, but no validation_data; expected a pair (x, y) to validate on.")
        return None
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise ValueError(f"validation_data is a {type(data).__name__}; expected a pair (x, y).")
    if isinstance(training_attack, GeometryAwarePGD):
        training_attack = training_attack.with_all_steps()
    if keep_best and attack is None:
        _require_fixed(training_attack, "keep_best needs a validation_attack: the training attack")
    x = tensor_classifier.inputs(data[0], "validation_data's x")
    labels = tensor_classifier.labels(data[1], len(x), "validation_data's y")
    rows = _subset(on, len(x))
    return Validation(
        classifier=tensor_classifier,
        x=x if rows is None else x[rows],
        labels=labels if rows is None else labels[rows],
        attacks=None if attack is None else [_on_batches(a, tensor_classifier, classifier) for a in _listed(attack)],
        training_attack=as_inner_attack(training_attack),
        batch_size=as_inner_attack(training_attack).batch_size,
        best=BestEpoch(tensor_classifier) if keep_best else None,
        named=attack,
        every=every,
        first=first,
    )


def _subset(on: Any, n: int) -> Tensor | None:
    """Return the rows of a fixed random subset, rising; the same for the same n in every training."""
    if on is None:
        return None
    if isinstance(on, float):
        size = max(1, round(require_number(on, "validate_on", above=0.0, at_most=1.0) * n))
    else:
        size = require_int(on, "validate_on", at_least=1)
    if size > n:
        raise ValueError(f"validate_on is {on!r}; validation_data has {n} samples, expected at most that.")
    return torch.randperm(n, generator=torch.Generator().manual_seed(0))[:size].sort().values


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
    if isinstance(attack, BoundaryPGD):
        raise ValueError(f"{name} spares samples that more steps might fool; expected attack.with_all_steps().")
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
