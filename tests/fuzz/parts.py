"""Weightings, objectives, plugins, schedules, recipes and pseudo-labels: valid calls, and what they may be given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from art_gair import MART, TRADES, AdversarialTrainerGAIRAT, ARoW, recipes, weighting
from art_gair.objectives import CompositeKL
from art_gair.plugins import AWP, EMA, ClipGradients, CSVLogger, EarlyStopping, TensorBoard
from art_gair.plugins.checkpoint import Checkpoint
from art_gair.schedules import Constant, Linear, Piecewise
from art_gair.training.semi_supervised import SemiSupervisedBatches, pseudo_label
from tests.fuzz.case import Target
from tests.fuzz.kinds import (
    FLAG,
    NONE,
    Kind,
    arrays,
    either,
    is_real,
    literals,
    made,
    number,
    path,
    radius,
    schedule,
    several,
    whole,
    words,
)
from tests.fuzz.shared import CLASSIFIER, CLIPPED, X_NEAR, Y_NEAR, X
from tests.fuzz.training import PLUGINS, WEIGHTING
from tests.fuzz.world import World

EPOCH, FINITE, SHARE = whole(at_least=0), number(), number(at_least=0.0, at_most=1.0)
MAX_ITER = 5
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def tensors(accept: Callable[[torch.Tensor], bool], **near: Callable[[World], Any]) -> Kind:
    """Tensors that meet a condition."""

    def fits(value: Any) -> bool:
        is_plain = isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_meta
        return is_plain and accept(value)

    return Kind(fits, made(**near))


def integers(most: float) -> Callable[[torch.Tensor], bool]:
    """Whole numbers (n,) from 0 to most."""
    return lambda t: t.dtype in INTEGERS and t.ndim == 1 and len(t) > 0 and int(t.min()) >= 0 and int(t.max()) <= most


KAPPA = tensors(
    integers(MAX_ITER),
    kappa=lambda w: torch.tensor([0, 5, 2, 3]),
    too_large=lambda w: torch.tensor([0, 6, 2, 3]),
    negative=lambda w: torch.tensor([0, -1, 2, 3]),
    floats=lambda w: torch.tensor([0.0, 1.0, 2.0, 3.0]),
    array=lambda w: np.array([0, 1, 2, 3]),
)
LOGITS = tensors(
    lambda t: t.is_floating_point() and t.ndim == 2 and len(t) > 0 and t.shape[1] > 1,
    logits=lambda w: torch.rand(4, 3),
    doubles=lambda w: torch.rand(4, 3, dtype=torch.float64),
    whole=lambda w: torch.ones(4, 3, dtype=torch.int64),
    one_class=lambda w: torch.rand(4, 1),
    flat=lambda w: torch.rand(4),
    array=lambda w: np.ones((4, 3)),
)
LABELS = tensors(
    lambda t: t.dtype == torch.int64 and integers(2)(t),
    labels=lambda w: torch.tensor([0, 1, 2, 0]),
    too_large=lambda w: torch.tensor([0, 3, 2, 0]),
    unlabelled=lambda w: torch.tensor([0, -1, 2, 0]),
    floats=lambda w: torch.tensor([0.0, 1.0, 2.0, 0.0]),
    one_hot=lambda w: torch.eye(3)[[0, 1, 2, 0]],
    array=lambda w: w.y.copy(),
)
COUNTED = tensors(lambda t: t.dtype in INTEGERS and t.ndim == 1 and len(t) > 0)
"""Labels whose number alone matters."""

LAM = schedule(
    Kind(lambda v: FINITE.fits(v) or (is_real(v) and v in (np.inf, -np.inf)), literals([-1, 0.5, np.inf, -np.inf]))
)


def batch(**settings: Any) -> dict[str, Any]:
    """Return what a weighting is called with."""
    kappa, labels = torch.tensor([0, 1, 2, 3]), torch.tensor([0, 1, 2, 0])
    logits = torch.linspace(-1, 1, 12).view(4, 3)
    return {"kappa": kappa, "max_iter": MAX_ITER, "logits": logits, "labels": labels, "epoch": 0, **settings}


def weigh(world: World, scheme: Any) -> None:
    """Weigh a batch, and fail unless the weights are sound."""
    weights = scheme(**batch())
    assert bool(torch.isfinite(weights).all() and weights.min() >= 0 and (weights.mean() - 1).abs() < 1e-3), weights


def scheme(make: Any, settings: dict[str, Any], kinds: Mapping[str, Kind], cases: float = 0.5) -> Target:
    """Return the constructor of a weighting, which is then called."""
    return Target(make, lambda w: dict(settings), kinds, cases, related={"weighting": ("weightings",)}, use=weigh)


def call(scheme: Any, kinds: Mapping[str, Kind], share: float = 0.5) -> Target:
    """Return the call of a weighting."""
    related = {"logits": ("labels",), "labels": ("kappa",), "kappa": ("labels",), "max_iter": ("kappa",)}
    arguments = {"self": scheme, **batch()}
    label = f"weighting.{scheme!r}.__call__"
    return Target(type(scheme).__call__, lambda w: dict(arguments), kinds, share, related=related, label=label)


ON_KAPPA = {"kappa": KAPPA, "max_iter": whole(at_least=1), "epoch": EPOCH}
ON_LOGITS = {"logits": LOGITS, "labels": LABELS, "epoch": EPOCH}
TANH, MARGIN = weighting.TanhWeighting(), weighting.MarginWeighting()

WEIGHTINGS = [
    scheme(weighting.TanhWeighting, {"lam": -1.0}, {"lam": LAM}, 1.0),
    scheme(weighting.SigmoidWeighting, {"lam": -1.0}, {"lam": LAM}),
    scheme(weighting.MarginWeighting, {"slope": 1.0, "bias": 0.0}, {"slope": number(above=0.0), "bias": FINITE}),
    *(
        scheme(
            make,
            {"slope": 5.0, "floor": 0.25},
            {"slope": number(at_least=0.0), "floor": SHARE},
        )
        for make in (weighting.BoundaryWeighting, weighting.KappaBoundaryWeighting)
    ),
    scheme(weighting.WMMRWeighting, {"alpha": 1.0}, {"alpha": number(at_least=0.0)}),
    scheme(weighting.KLDROWeighting, {"temperature": 1.0}, {"temperature": number(above=0.0)}),
    scheme(weighting.Mixed, {"a": TANH, "b": MARGIN, "rho": 0.5}, {"a": WEIGHTING, "b": WEIGHTING, "rho": SHARE}),
    scheme(weighting.floored, {"weighting": TANH, "share": 0.5}, {"weighting": WEIGHTING, "share": SHARE}),
    Target(weighting.TanhWeighting.lam_at, lambda w: {"self": TANH, "epoch": 0}, {"epoch": EPOCH}, 0.3),
    *(
        call(s, ON_KAPPA)
        for s in (TANH, weighting.KappaBoundaryWeighting(), weighting.DiscreteWeighting(), weighting.SigmoidWeighting())
    ),
    *(
        call(s, ON_LOGITS)
        for s in (MARGIN, weighting.BoundaryWeighting(), weighting.EntropyWeighting(), weighting.WMMRWeighting())
    ),
    call(weighting.KLDROWeighting(), ON_LOGITS),
    call(weighting.UniformWeighting(), {"labels": COUNTED, "epoch": EPOCH}),
    call(weighting.Mixed(TANH, MARGIN, 0.5), {**ON_KAPPA, **ON_LOGITS}),
    Target(
        weighting.normalise,
        lambda w: {"log_weights": torch.zeros(4)},
        {"log_weights": tensors(lambda t: t.is_floating_point() and t.ndim == 1 and len(t) > 0)},
        0.5,
    ),
]

BETA = number(at_least=0.0)


def train(world: World, **parts: Any) -> None:
    """Train for an epoch."""
    trainer = AdversarialTrainerGAIRAT(world.classifier, world.attack, burn_in=0, **parts)
    trainer.fit(world.x, world.y, validation_data=(world.x, world.y), nb_epochs=1, verbose=False)


def objective(make: Any, settings: dict[str, Any], kinds: Mapping[str, Kind], cases: float = 0.5) -> Target:
    """Return the constructor of an objective, by which then a model is trained."""
    return Target(
        make,
        lambda w: dict(settings),
        kinds,
        cases,
        (FloatingPointError,),
        use=lambda world, made: train(world, objective=made),
    )


OBJECTIVES = [
    objective(TRADES, {"beta": 6.0, "weigh": "kl"}, {"beta": BETA, "weigh": words("kl", "ce", "both")}, 1.0),
    objective(MART, {"beta": 5.0}, {"beta": BETA}),
    objective(ARoW, {"beta": 7.0, "smoothing": 0.2}, {"beta": BETA, "smoothing": SHARE}),
    objective(CompositeKL, {"beta": 6.0}, {"beta": BETA}),
]


def plugin(make: Any, settings: dict[str, Any], kinds: Mapping[str, Kind], cases: float = 1.0) -> Target:
    """Return the constructor of a plugin, with which then a model is trained."""
    return Target(
        make,
        lambda w: dict(settings),
        kinds,
        cases,
        (FloatingPointError,),
        use=lambda world, made: train(world, plugins=[made]),
    )


PLUGIN_CONSTRUCTORS = [
    plugin(AWP, {"gamma": 0.01, "start_epoch": 0}, {"gamma": BETA, "start_epoch": EPOCH}),
    plugin(
        EMA,
        {"decay": 0.9, "warmup": True, "validate": "ema", "final": "ema"},
        {
            **{"decay": number(at_least=0.0, below=1.0), "warmup": FLAG},
            **{"validate": words("ema", "raw", "both"), "final": words("ema", "raw")},
        },
    ),
    plugin(ClipGradients, {"max_norm": 1.0}, {"max_norm": number(above=0.0)}, 0.5),
    plugin(
        Checkpoint,
        {"folder": "new", "every": 1, "keep": 2, "every_minutes": None, "every_batches": None},
        {
            **{"folder": path("new"), "every": whole(at_least=1), "keep": whole(at_least=1)},
            **{"every_minutes": either(NONE, number(above=0.0)), "every_batches": either(NONE, whole(at_least=1))},
        },
    ),
    plugin(CSVLogger, {"path": "new.csv"}, {"path": path("new.csv")}),
    plugin(
        EarlyStopping,
        {"patience": 1, "monitor": "loss", "min_delta": 0.0},
        {
            **{"patience": whole(at_least=1), "monitor": words("robust_accuracy", "clean_accuracy", "loss")},
            "min_delta": number(at_least=0.0),
        },
    ),
    plugin(TensorBoard, {"folder": "new", "images": True}, {"folder": path("new"), "images": FLAG}, 0.5),
]


def follow(world: World, schedule: Any) -> None:
    """Ask a schedule for some epochs."""
    values = [schedule(epoch) for epoch in (0, 1, 5, 50, 10**6)]
    assert np.isfinite(values).all(), values


MODERATE = number(at_least=-1e280, at_most=1e280)


def at_epoch_0(schedule: Any, world: World) -> dict[str, Any]:
    """Return the arguments of a schedule's call."""
    return {"self": schedule, "epoch": 0}


SCHEDULES = [
    Target(Constant, lambda w: {"value": 1.0}, {"value": FINITE}, 0.5, use=follow),
    Target(
        Piecewise,
        lambda w: {"values": (0, 3, 6), "starts": (40, 70)},
        {
            "values": several(FINITE, at_least=1, near=literals([(0, 1), (0, 1, True), [0, 1, 2], (0, 1, 2, 3)])),
            "starts": several(whole(at_least=1), near=literals([(70, 40), (1,), (1, 1), [1, 2], (0, 1), (1, 2.0)])),
        },
        related={"values": ("starts",), "starts": ("values",)},
        use=follow,
    ),
    Target(
        Linear,
        lambda w: {"first": 0.0, "last": 1.0, "end": 10, "begin": 0},
        {"first": MODERATE, "last": MODERATE, "end": whole(at_least=1), "begin": EPOCH},
        related={"begin": ("end",)},
        use=follow,
    ),
    *(
        Target(type(made).__call__, partial(at_epoch_0, made), {"epoch": FINITE}, 0.3)
        for made in (Constant(1.0), Linear(0.0, 1.0, end=3), Piecewise(values=(0, 1), starts=(2,)))
    ),
]

NAMES = ("at", "gairat", "fat", "gair_fat", "trades", "gair_trades", "mart", "gair_mart", "mail_at", "mail_trades")

RECIPES = [
    Target(
        getattr(recipes, name),
        lambda w: {
            **{"classifier": w.classifier, "dataset": "cifar10", "plugins": ()},
            **{"eps": 0.2, "eps_step": 0.1, "max_iter": 2},
        },
        {
            **{"classifier": CLASSIFIER, "dataset": words("cifar10", "svhn", "mnist"), "plugins": PLUGINS},
            **{"eps": radius(settled=False), "eps_step": radius(), "max_iter": whole(at_least=1)},
        },
        0.3,
        (NotImplementedError,),
        related={"classifier": ("loss", "optimizer")},
    )
    for name in (*NAMES, "gair_rst", "robust")
]


def iterate(world: World, batches: Any) -> None:
    """Go through an epoch."""
    if batches.batch_size < 100:
        list(batches)


def of_shape(accept: Callable[[tuple[int, ...]], bool], *near: Any) -> Kind:
    """Arrays of shapes that meet a condition, none of them empty."""
    return arrays(lambda a: a.size > 0 and accept(a.shape), near)


UNLABELLED = {
    **dict.fromkeys(("x", "x_unlabelled"), of_shape(lambda shape: len(shape) > 1, *X_NEAR)),
    **dict.fromkeys(("y", "y_unlabelled"), of_shape(lambda shape: len(shape) == 1, *Y_NEAR)),
}

PSEUDO_LABELS = [
    Target(
        pseudo_label,
        lambda w: {"classifier": w.classifier, "x": w.x, "threshold": 0.4, "batch_size": 3},
        {"classifier": CLIPPED, "x": X, "threshold": SHARE, "batch_size": whole(at_least=1)},
        1.5,
        (NotImplementedError,),
    ),
    Target(
        SemiSupervisedBatches,
        lambda w: {"x": w.x, "y": w.y, "x_unlabelled": w.x, "y_unlabelled": w.y, "batch_size": 4, "share": 0.5},
        {**UNLABELLED, "batch_size": whole(at_least=2), "share": number(above=0.0, below=1.0)},
        2.0,
        related={"x": ("y", "x_unlabelled"), "x_unlabelled": ("y_unlabelled",), "batch_size": ("share",)},
        use=iterate,
    ),
]

TARGETS = [*WEIGHTINGS, *OBJECTIVES, *PLUGIN_CONSTRUCTORS, *SCHEDULES, *RECIPES, *PSEUDO_LABELS]
