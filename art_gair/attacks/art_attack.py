"""Any other ART attack as the inner maximiser of a training."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from art.attacks.attack import EvasionAttack
from art.attacks.evasion import SaliencyMapMethod
from numpy.typing import NDArray
from torch import Tensor

from art_gair.attacks.base import InnerAttack, Perturb
from art_gair.engine.classifier import TensorClassifier
from art_gair.engine.model_state import gradients_kept


def as_inner_attack(attack: Any) -> InnerAttack:
    """Return an attack as training takes it: as it is if it is an InnerAttack, else an ART attack, adapted.

    :raises TypeError: if it is neither.
    :raises ValueError: if an ART attack is targeted.
    """
    if isinstance(attack, InnerAttack) and not isinstance(attack, type):
        return attack
    if not isinstance(attack, EvasionAttack):
        raise TypeError(
            f"attack is {attack!r}; expected a GeometryAwarePGD, another ART EvasionAttack, or an InnerAttack with "
            "max_iter, batch_size and on_batches(classifier, epoch)."
        )
    return ArtAttack(attack)


def generate(attack: EvasionAttack, x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """Return an ART attack's examples. If it fails and its last batch has one sample, try that sample twice.

    Some models squeeze a batch of one, which ART does not expect. The error of the first try is the one that is raised.
    """
    batch_size = getattr(attack, "batch_size", None)
    alone = isinstance(batch_size, int) and len(x) % batch_size == 1 < batch_size
    try:
        return np.asarray(attack.generate(x=x, y=y))
    except (RuntimeError, ValueError, IndexError):
        if not alone:
            raise
        try:
            return np.asarray(attack.generate(x=np.concatenate([x, x[-1:]]), y=np.concatenate([y, y[-1:]])))[: len(x)]
        except (RuntimeError, ValueError, IndexError):
            pass  # the first error, raised below, says what is wrong
        raise


def describe_attack(attack: Any) -> str:
    """Return what an attack prints; of one that holds itself, as ART's SquareAttack does, its name."""
    try:
        return repr(attack)
    except RecursionError:
        return f"{type(attack).__name__}(...)"


class ArtAttack:
    """An ART evasion attack that training can use: it crosses to numpy and back once a batch and counts no kappa.

    :param attack: an untargeted attack, on the classifier that is trained or, for transfer, on another one. A shallow
        copy of it is run, without its progress bar.
    :raises ValueError: if the attack is targeted, or takes labels as targets all the same.
    """

    max_iter = 0
    batch_size = 128

    def __init__(self, attack: EvasionAttack) -> None:
        if attack.targeted or isinstance(attack, SaliencyMapMethod):  # which has no flag, but moves towards y
            raise ValueError(f"attack {type(attack).__name__} is targeted; expected an untargeted attack for training.")
        self.attack = attack

    def on_batches(self, classifier: TensorClassifier, epoch: int) -> Perturb:
        """Return the attack on tensors of a batch; labels go in one-hot, as every ART attack takes them."""
        attack = copy.copy(self.attack)
        if "verbose" in attack.attack_params:
            attack.set_params(verbose=False)  # as ART's own trainer does, but on the user's object

        def perturb(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor | None]:
            one_hot = torch.nn.functional.one_hot(labels, classifier.nb_classes).float()
            with classifier.evaluating(), gradients_kept(classifier.module):
                x_adv = generate(attack, x.cpu().numpy(), one_hot.cpu().numpy())
            if x_adv.shape != tuple(x.shape) or not np.isfinite(x_adv).all():
                raise ValueError(
                    f"attack {type(attack).__name__} returned shape {x_adv.shape}, or values that are not finite; "
                    f"expected finite values of shape {tuple(x.shape)}."
                )
            return torch.as_tensor(x_adv, dtype=x.dtype, device=x.device), None

        return perturb

    def __repr__(self) -> str:
        return describe_attack(self.attack)
