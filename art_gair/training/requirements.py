"""What a training is put together from: parts that cannot work, alone or together, are refused before it begins."""

from __future__ import annotations

import logging
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier

from art_gair.attacks.art_attack import as_inner_attack
from art_gair.attacks.base import InnerAttack
from art_gair.attacks.geometry_aware_pgd import GeometryAwarePGD
from art_gair.checks import require_int, require_number
from art_gair.engine.classifier import TensorClassifier
from art_gair.engine.model_state import live_state
from art_gair.objectives.base import Objective
from art_gair.plugins.base import Plugin
from art_gair.schedules import value_at
from art_gair.weighting.base import LogitsWeighting
from art_gair.weighting.uniform import UniformWeighting

logger = logging.getLogger(__name__)

BurnIn = float | Callable[[int], bool]
"""An int, a number of epochs; a float between 0 and 1, their share; or a function of the epoch."""


def check_parts(classifier: PyTorchClassifier, attack: Any, weighting: Any, objective: Any, plugins: Any) -> None:
    """Refuse parts that are none, or that do not go together."""
    if not isinstance(objective, Objective):
        raise TypeError(f"objective is {objective!r}; expected an Objective such as AT() or TRADES(6.0).")
    if not isinstance(plugins, (list, tuple)):
        raise TypeError(f"plugins is {plugins!r}; expected a list of Plugin objects such as [AWP(), EMA()].")
    if not callable(weighting) or isinstance(weighting, type):
        raise TypeError(f"weighting is {weighting!r}; expected a scheme such as TanhWeighting(-1.0).")
    for plugin in plugins:
        if not isinstance(plugin, Plugin):
            raise TypeError(f"plugins holds {plugin!r}; expected Plugin objects such as AWP() or EMA().")
    inner = as_inner_attack(attack)
    if isinstance(attack, GeometryAwarePGD):
        if attack.estimator is not classifier:
            raise ValueError("attack is on another estimator; kappa must be counted on the classifier in training.")
        if attack.loss != objective.attack["loss"]:
            logger.warning(
                "%s's own attack maximises %r; this one maximises %r.",
                *(type(objective).__name__, objective.attack["loss"], attack.loss),
            )
        return
    name = type(attack).__name__
    if inner.max_iter == 0 and getattr(weighting, "needs_kappa", False):
        kappa_free = ", ".join([UniformWeighting.__name__, *(c.__name__ for c in LogitsWeighting.__subclasses__())])
        raise ValueError(
            f"attack {name} counts no kappa, which {weighting!r} needs; use GeometryAwarePGD or FriendlyPGD, "
            f"or a weighting without kappa: {kappa_free}."
        )
    if objective.second_attack is not None and not hasattr(attack, "with_loss"):
        raise ValueError(
            f"attack {name} cannot give the second attack, loss {objective.second_attack!r}, that "
            f"{type(objective).__name__} needs, as it has no with_loss(loss); use GeometryAwarePGD or FriendlyPGD."
        )


def check_model(tensor_classifier: TensorClassifier) -> None:
    """Refuse a model with lazy modules that have not seen an input: it cannot be copied, nor its optimizer checked."""
    state = live_state(tensor_classifier.module)
    lazy = [name for name, t in state.items() if t is not None and torch.nn.parameter.is_lazy(t)]
    if lazy:
        raise ValueError(
            f"classifier's model has parameters without a shape: {', '.join(lazy)}; its lazy modules need an input: "
            "run one forward before the optimizer is made."
        )


def check_optimizer(optimizer: Any, tensor_classifier: TensorClassifier) -> None:
    """Refuse an optimizer, or the lack of one, that could not train the model."""
    if optimizer is None:
        raise ValueError("classifier has no optimizer; training needs one: PyTorchClassifier(..., optimizer=...).")
    updated = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not any(p.requires_grad and id(p) in updated for p in tensor_classifier.module.parameters()):
        raise ValueError("The optimizer updates none of the model's trainable parameters.")
    if isinstance(optimizer, torch.optim.LBFGS):
        raise ValueError("classifier's optimizer is LBFGS, which needs a closure; expected one that steps without.")


def check_schedules(nb_epochs: int, attack: InnerAttack, weighting: Any) -> None:
    """Refuse what would fail in a later epoch."""
    for epoch in range(nb_epochs):
        if isinstance(attack, GeometryAwarePGD):
            attack.at_epoch(epoch)
        if hasattr(weighting, "lam_at"):
            weighting.lam_at(epoch)


def check_validated(plugins: Sequence[Plugin], *, validated: bool) -> None:
    """Refuse a plugin that watches validation where there is none."""
    for plugin in plugins:
        if plugin.needs_validation and not validated:
            raise ValueError(f"plugin {plugin!r} needs validation_data; none is given.")


def check_burn_in(setting: BurnIn) -> BurnIn:
    """Return the setting if it is one of the three kinds."""
    if isinstance(setting, numbers.Real) and not isinstance(setting, numbers.Integral):
        return require_number(setting, "burn_in", above=0.0, below=1.0)
    if callable(setting) and not isinstance(setting, type):
        return setting
    return require_int(setting, "burn_in", at_least=0)


def burn_in_epochs(setting: BurnIn, nb_epochs: int) -> list[bool]:
    """Return for each epoch whether it belongs to the burn-in."""
    setting = check_burn_in(setting)
    if callable(setting):
        return [_is_burn_in(setting, epoch) for epoch in range(nb_epochs)]
    length = round(setting * nb_epochs) if isinstance(setting, float) else setting
    if length > nb_epochs:
        raise ValueError(f"burn_in is {length} epochs; expected at most nb_epochs, {nb_epochs}.")
    return [epoch < length for epoch in range(nb_epochs)]


def _is_burn_in(setting: Callable[[int], bool], epoch: int) -> bool:
    answer = value_at(setting, "burn_in", epoch)
    if not isinstance(answer, (bool, np.bool_)):
        raise TypeError(f"burn_in returned {answer!r} for epoch {epoch}; expected True or False.")
    return bool(answer)
