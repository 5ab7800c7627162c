"""The attacks: valid calls, and what their arguments may be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from art_gair import BoundaryPGD, FriendlyPGD, GeometryAwarePGD
from tests.fuzz.case import Target
from tests.fuzz.kinds import FLAG, NONE, Kind, arrays, either, is_real, literals, number, radius, schedule, whole, words
from tests.fuzz.shared import CLASSIFIER, X, Y
from tests.fuzz.world import World


def is_norm(value: Any) -> bool:
    """Whether a value is 1, 2, np.inf or "inf"."""
    if isinstance(value, str):
        return value == "inf"
    return is_real(value) and value in (1, 2, np.inf)


def is_small(value: Any) -> bool:
    """Whether an attack of so many steps or restarts ends soon."""
    return not is_real(value) or value < 50


ATTACK: dict[str, Kind] = {
    "estimator": CLASSIFIER,
    "norm": Kind(is_norm, literals([1, 2, 1.0, 2.0, np.inf, "inf", 3, 0])),
    "eps": radius(settled=False),
    "eps_step": radius(),
    "max_iter": whole(at_least=1),
    "num_random_init": whole(at_least=0),
    "batch_size": whole(at_least=1),
    "loss": words("ce", "margin", "kl"),
    "verbose": FLAG,
}
FRIENDLY = {**ATTACK, "tau": schedule(number(at_least=0.0))}
MARGIN = schedule(number(at_least=-1.0, at_most=1.0))
BOUNDARY = {
    **{**ATTACK, "first_steps": whole(at_least=1), "safe": MARGIN, "lost": MARGIN},
    "budget": either(NONE, schedule(number(at_least=0.0, at_most=1.0))),
}


def attack_settings(world: World) -> dict[str, Any]:
    """Return valid settings of an attack."""
    settings = {"norm": np.inf, "eps": 0.2, "eps_step": 0.1, "max_iter": 1, "num_random_init": 0, "batch_size": 3}
    return {"estimator": world.classifier, **settings, "loss": "ce", "verbose": False}


GENERATE = {"x": X, "y": either(NONE, Y), "mask": either(NONE, arrays(lambda a: bool((a >= 0).all())))}
X_GOES_WITH = {"x": ("y", "mask", "eps")}

AFFORDABLE = {name: replace(ATTACK[name], affordable=is_small) for name in ("max_iter", "num_random_init")}


def generate(world: World, attack: GeometryAwarePGD) -> None:
    """Attack the samples, with schedules settled."""
    attack.at_epoch(0).generate(world.x, world.y)


ATTACKS = [
    Target(GeometryAwarePGD, attack_settings, {**ATTACK, **AFFORDABLE}, 2.0, (NotImplementedError,), use=generate),
    Target(
        FriendlyPGD,
        lambda w: {**attack_settings(w), "tau": 0},
        {**FRIENDLY, **AFFORDABLE},
        1.0,
        (NotImplementedError,),
        use=generate,
    ),
    Target(
        BoundaryPGD,
        lambda w: {
            **{**attack_settings(w), "max_iter": 3, "first_steps": 1},
            **{"safe": 0.5, "lost": -0.5, "budget": None},
        },
        {**BOUNDARY, **AFFORDABLE},
        1.0,
        (NotImplementedError,),
        related={"max_iter": ("first_steps",)},
        use=generate,
    ),
    Target(
        GeometryAwarePGD.set_params,
        lambda w: {"self": w.attack, "eps": 0.1},
        {
            **{name: kind for name, kind in FRIENDLY.items() if name != "estimator"},
            "unknown": Kind(lambda value: False),
        },
        2.0,
    ),
    Target(GeometryAwarePGD.with_loss, lambda w: {"self": w.attack, "loss": "kl"}, {"loss": ATTACK["loss"]}, 0.3),
    Target(GeometryAwarePGD.at_epoch, lambda w: {"self": w.attack, "epoch": 0}, {"epoch": whole(at_least=0)}, 0.3),
    Target(
        GeometryAwarePGD.generate,
        lambda w: {"self": w.attack, "x": w.x, "y": w.y, "mask": None},
        GENERATE,
        3.0,
        related=X_GOES_WITH,
    ),
    Target(
        GeometryAwarePGD.generate_with_kappa,
        lambda w: {"self": w.other_attack(norm=2, num_random_init=1), "x": w.x, "y": w.y, "mask": None},
        GENERATE,
        3.0,
        related=X_GOES_WITH,
    ),
]
