"""The checked arguments of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from art_gair.attacks.art_attack import describe_attack
from art_gair.checks import require_number
from art_gair.engine.classifier import TensorClassifier
from art_gair.evaluation.attacks import PRESETS, AutoAttack, GivenAttack
from art_gair.evaluation.autoattack import require_autoattack


@dataclass(frozen=True)
class Request:
    """The checked arguments of an evaluation."""

    radii: list[float]
    norm: float | str
    preset: str
    seed: int
    attacks: tuple[GivenAttack, ...]
    cascade: bool
    batch_size: int
    resume_from: Path | None
    verbose: bool

    @property
    def needs_autoattack(self) -> bool:
        """Whether the preset holds an attack of pyautoattack."""
        return any(isinstance(attack, AutoAttack) for attack in PRESETS[self.preset])

    def settings(self, eps: float) -> dict[str, Any]:
        """Return the arguments that repeat the report of one radius; attacks of the user's by what they print."""
        norm = "inf" if self.norm in (np.inf, "inf") else int(self.norm)
        settings = {"eps": eps, "norm": norm, "preset": self.preset, "seed": self.seed}
        settings |= {"cascade": self.cascade, "batch_size": self.batch_size}
        return settings | ({"attacks": [describe_attack(a.attack) for a in self.attacks]} if self.attacks else {})


def is_list(eps: Any) -> bool:
    """Whether several radii are asked for."""
    return isinstance(eps, (list, tuple)) or (isinstance(eps, np.ndarray) and eps.ndim > 0)


def check_radii(eps: Any) -> list[float]:
    """Return the radii in the order they were given in: one, or each of a list."""
    if not is_list(eps):
        return [require_number(eps, "eps", above=0.0)]
    radii = [require_number(e, "eps", above=0.0) for e in eps]
    if not radii or len(set(radii)) < len(radii):
        raise ValueError(f"eps is {eps!r}; expected a number, or a list of different ones.")
    return radii


def check_preset(preset: Any) -> str:
    """Return the name of a preset."""
    if not isinstance(preset, str) or preset not in PRESETS:
        raise ValueError(f"preset is {preset!r}; expected one of {', '.join(map(repr, PRESETS))}.")
    return preset


def check_flag(flag: Any, name: str) -> bool:
    """Return the flag if it is True or False."""
    if not isinstance(flag, bool):
        raise TypeError(f"{name} is {flag!r}; expected True or False.")
    return flag


def check_class_names(names: Any, nb_classes: int) -> list[str] | None:
    """Return one name a class, or None."""
    if names is None:
        return None
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"class_names is {names!r}; expected a list of {nb_classes} strings.")
    if len(names) != nb_classes:
        raise ValueError(f"class_names has {len(names)} entries; expected {nb_classes}, one a class.")
    return list(names)


def check_data(tensor_classifier: TensorClassifier, x: Any, y: Any, *, autoattack: bool) -> tuple[Tensor, Tensor]:
    """Return samples and labels on the host, checked; x shares memory with what was given."""
    if tensor_classifier.box is None:
        raise ValueError(
            "the classifier has no clip_values; attacks need the range of valid inputs, for instance (0, 1)."
        )
    span = tensor_classifier.box.upper - tensor_classifier.box.lower
    if not torch.isfinite(span).all():
        raise ValueError("the classifier's clip_values are infinite; attacks need a finite range of valid inputs.")
    if autoattack:
        require_autoattack()
        if (span != span.flatten()[0]).any():
            raise ValueError(
                "the classifier's clip_values span ranges of different lengths; AutoAttack's code needs one for all "
                "features, so that eps is one number. Scale the features, or choose preset='quick'."
            )
    inputs = tensor_classifier.inputs(x).cpu()
    return inputs, tensor_classifier.labels(y, len(inputs)).cpu()


def folder_of(eps: float, radii: Sequence[float]) -> str:
    """Return the name of a radius's folder, in six digits unless two radii agree in these."""
    short = {f"{radius:.6g}" for radius in radii}
    return f"eps-{eps:.6g}" if len(short) == len(radii) else f"eps-{eps!r}"
