"""The trainer: valid calls, and what its arguments may be."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from art.attacks.attack import EvasionAttack
from art.attacks.evasion import FastGradientMethod
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader, TensorDataset

from art_gair import AT, TRADES, AdversarialTrainerGAIRAT, GeometryAwarePGD, schedules, weighting
from art_gair.distributed import find_duplicates
from art_gair.objectives import CompositeKL, Objective
from art_gair.plugins import AWP, EMA, CSVLogger, EarlyStopping, Plugin, TensorBoard
from art_gair.plugins.checkpoint import Checkpoint
from tests.fuzz.case import Target
from tests.fuzz.kinds import (
    ALONE,
    FLAG,
    NONE,
    Kind,
    either,
    instances,
    literals,
    made,
    number,
    samples,
    several,
    whole,
    words,
)
from tests.fuzz.shared import CLASSIFIER, X_NEAR, X, Y
from tests.fuzz.world import SHAPE, World


def is_weighting(value: Any) -> bool:
    """Whether a value may be a scheme: what it returns is seen only when it is called."""
    return callable(value) and not isinstance(value, type)


WEIGHTING = Kind(
    is_weighting, made(margin=lambda w: weighting.MarginWeighting(), class_=lambda w: weighting.KappaWeighting)
)
OBJECTIVE = instances(Objective, near=made(trades=lambda w: TRADES(), rst=lambda w: CompositeKL(), class_=lambda w: AT))
PLUGINS = several(
    instances(Plugin),
    near=made(
        good=lambda w: [AWP(), EMA()],
        classes=lambda w: [AWP, EMA],
        one=lambda w: AWP(),
        none=lambda w: [None],
        twice=lambda w: [AWP()] * 2,
        stopping=lambda w: [EarlyStopping(1)],
    ),
)
ATTACKS_NEAR = made(
    fgm=lambda w: FastGradientMethod(w.classifier, eps=0.1),
    fgm_targeted=lambda w: FastGradientMethod(w.classifier, eps=0.1, targeted=True),
    margin=lambda w: w.other_attack(loss="margin"),
    elsewhere=lambda w: GeometryAwarePGD(w.other_classifier(), eps=0.1, eps_step=0.1, max_iter=1),
    scheduled=lambda w: w.other_attack(eps=schedules.Linear(0.1, 0.2, end=3)),
    a_radius_for_each=lambda w: w.other_attack(eps=np.full((4, 1), 0.1)),
    attack_class=lambda w: GeometryAwarePGD,
    two=lambda w: [w.other_attack(), FastGradientMethod(w.classifier, eps=0.1)],
    two_and_none=lambda w: [w.other_attack(), None],
)
ONE_ATTACK = instances(EvasionAttack)


def is_burn_in(value: Any) -> bool:
    """An int, a share between 0 and 1, or a function of the epoch to a bool."""
    if callable(value) and not isinstance(value, type):
        return True
    return whole(at_least=0).fits(value) or number(above=0.0, below=1.0).fits(value)


TRAINER = {
    "classifier": CLASSIFIER,
    "attack": either(NONE, Kind(ONE_ATTACK.fits, ATTACKS_NEAR)),
    "weighting": either(NONE, WEIGHTING),
    "objective": either(NONE, OBJECTIVE),
    "burn_in": Kind(is_burn_in, literals([0, 0.0, 0.5, 1.0, 1, -1, 2])),
    "precision": words("fp32", "bf16", "auto"),
    "compile": FLAG,
    "plugins": PLUGINS,
}


def is_scheduler(value: Any) -> bool:
    """An object with step() and state_dict()."""
    return all(callable(getattr(value, name, None)) for name in ("step", "state_dict")) and not isinstance(value, type)


SCHEDULER = Kind(
    lambda value: value is None or is_scheduler(value),
    made(
        step=lambda w: StepLR(w.optimizer, 1),
        cycle=lambda w: OneCycleLR(w.optimizer, 0.1, total_steps=50),
        too_short=lambda w: OneCycleLR(w.optimizer, 0.1, total_steps=1),
        plateau=lambda w: ReduceLROnPlateau(w.optimizer, "max"),
        elsewhere=lambda w: StepLR(w.other_classifier().optimizer, 1),
        scheduler_class=lambda w: StepLR,
        optimizer=lambda w: w.optimizer,
    ),
)


def is_pair(value: Any) -> bool:
    """None, or samples and labels."""
    return value is None or (
        isinstance(value, (tuple, list)) and len(value) == 2 and X.fits(value[0]) and Y.fits(value[1])
    )


DATA_NEAR = made(
    pair=lambda w: (w.x, w.y),
    list_=lambda w: [w.x, w.y],
    swapped=lambda w: (w.y, w.x),
    too_few=lambda w: (w.x, w.y[:3]),
    three=lambda w: (w.x, w.y, w.y),
    nan=lambda w: (w.x * np.nan, w.y),
    objects=lambda w: (w.x, w.y.astype(object)),
    none=lambda w: (None, None),
)


def is_share(value: Any) -> bool:
    """A number of samples or a share of them; None: all."""
    if isinstance(value, float) and not isinstance(value, bool):
        return number(above=0.0, at_most=1.0).fits(value)
    return value is None or whole(at_least=1, below=5).fits(value)


FIT: dict[str, Kind] = {
    "nb_epochs": whole(at_least=1, affordable=3),
    "validation_data": Kind(is_pair, DATA_NEAR),
    "scheduler": SCHEDULER,
    "validation_attack": either(NONE, ONE_ATTACK, several(ONE_ATTACK, at_least=1, near=ATTACKS_NEAR)),
    "keep_best": FLAG,
    "validate_every": whole(at_least=1),
    "validate_from": whole(at_least=0, below=1),
    "validate_on": Kind(is_share, literals([1, 4, 5, 0.5, 1.0, 1.5, 0.0])),
    "augment": either(
        NONE,
        Kind(
            is_weighting,
            made(
                same=lambda w: lambda x: x,
                fewer=lambda w: lambda x: x[:1],
                double=lambda w: lambda x: x.double(),
                nan=lambda w: lambda x: x * torch.nan,
                numpy=lambda w: lambda x: x.numpy(),
                outside=lambda w: lambda x: x + 2,
            ),
        ),
    ),
    "accumulate": whole(at_least=1),
    "scheduler_step": either(NONE, words("epoch", "batch")),
    "seed": either(NONE, whole(at_least=0, below=2**32)),
    "non_finite": words("stop", "skip"),
    "max_skipped": whole(at_least=1),
    "resume": FLAG,
    "verbose": FLAG,
    "distributed": ALONE,
    "unknown": Kind(lambda value: False),
}
GOES_WITH = {
    "validation_data": (
        "keep_best",
        "validation_attack",
        "validate_on",
        "validate_every",
        "validate_from",
        "scheduler",
    ),
    "x": ("y",),
    "batch_size": ("scheduler",),
    "accumulate": ("scheduler",),
    "nb_epochs": ("burn_in",),
    "scheduler": ("scheduler_step",),
}
LATE = frozenset(("augment", "generator"))


def settings(world: World, *plugins: Plugin) -> dict[str, Any]:
    """Return valid arguments that `fit` and `fit_generator` share."""
    world.plugins += plugins
    validation = {"validation_data": (world.x, world.y), "validate_every": 1, "validate_from": 0, "validate_on": None}
    return {"self": world.trainer, "nb_epochs": 1, "verbose": False, **validation}


def arrays_to_fit(world: World, *plugins: Plugin) -> dict[str, Any]:
    """Return valid arguments of `fit`."""
    return {"x": world.x, "y": world.y, "batch_size": 2, **settings(world, *plugins)}


GENERATOR = Kind(
    lambda value: hasattr(type(value), "__iter__") and not hasattr(type(value), "__next__"),
    made(
        list_=lambda w: [(w.x, w.y)],
        loader=lambda w: DataLoader(TensorDataset(torch.from_numpy(w.x), torch.from_numpy(w.y)), batch_size=2),
        iterator=lambda w: iter([(w.x, w.y)]),
        threes=lambda w: [(w.x, w.y, w.y)],
        alone=lambda w: [w.x],
        swapped=lambda w: [(w.y, w.x)],
        nan=lambda w: [(w.x * np.nan, w.y)],
        dictionary=lambda w: [{"x": w.x, "y": w.y}],
        empty=lambda w: [(w.x[:0], w.y[:0])],
        texts=lambda w: ["ab"],
    ),
)


def train(world: World, trainer: AdversarialTrainerGAIRAT) -> None:
    """Train for an epoch; not where that needs half a minute of compiling."""
    if not trainer.compile:
        trainer.fit(world.x, world.y, nb_epochs=1, verbose=False)


TRAININGS = [
    Target(
        AdversarialTrainerGAIRAT,
        lambda w: {
            **{"classifier": w.classifier, "attack": w.attack, "weighting": None, "objective": None, "burn_in": 0.3},
            **{"precision": "fp32", "compile": False, "plugins": []},
        },
        TRAINER,
        3.0,
        (NotImplementedError, FloatingPointError),
        related={
            "classifier": ("attack", "optimizer", "loss"),
            "attack": ("classifier", "estimator", "eps"),
            "weighting": ("attack",),
            "plugins": ("plugin",),
        },
        use=train,
    ),
    Target(
        AdversarialTrainerGAIRAT.fit,
        arrays_to_fit,
        {"x": X, "y": Y, "batch_size": whole(at_least=1), **FIT},
        8.0,
        (FloatingPointError,),
        related=GOES_WITH,
        late=LATE,
        changes=True,
    ),
    Target(
        AdversarialTrainerGAIRAT.fit,
        lambda w: {
            **arrays_to_fit(w, Checkpoint("saves"), CSVLogger("log.csv"), TensorBoard("events"), EMA(), AWP()),
            **{"keep_best": True, "validation_attack": w.other_attack(loss="margin"), "augment": lambda x: x},
            **{"scheduler": OneCycleLR(w.optimizer, 0.1, total_steps=50), "accumulate": 2},
        },
        {"x": X, "y": Y, "batch_size": whole(at_least=1), **FIT},
        1.0,
        (FloatingPointError,),
        related=GOES_WITH,
        late=LATE,
        changes=True,
    ),
    Target(
        AdversarialTrainerGAIRAT.fit_generator,
        lambda w: {"generator": [(w.x[:2], w.y[:2]), (w.x[2:], w.y[2:])], **settings(w)},
        {
            **{"generator": GENERATOR, **FIT, "sharded": either(NONE, FLAG)},
            "steps_per_epoch": either(NONE, whole(at_least=1, affordable=3)),
        },
        5.0,
        (FloatingPointError,),
        related={**GOES_WITH, "generator": ("scheduler",)},
        late=LATE,
        changes=True,
    ),
    Target(
        find_duplicates,
        lambda w: {"generator": [(w.x[:2], w.y[:2])], "batches": None, "distributed": None},
        {"generator": GENERATOR, "batches": either(NONE, whole(at_least=1)), "distributed": ALONE},
        1.0,
        late=LATE,
    ),
    Target(
        AdversarialTrainerGAIRAT.predict,
        lambda w: {"self": w.trainer, "x": w.x},
        {"x": samples(*SHAPE, low=-np.inf, high=np.inf, near=X_NEAR), "batch_size": whole(at_least=1)},
        1.5,
        changes=True,
    ),
]
