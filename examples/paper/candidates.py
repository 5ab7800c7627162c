"""What is compared: each candidate is a few settings, from which its trainer and its cost follow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any

from art.estimators.classification import PyTorchClassifier
from regimes import Regime

from art_gair import (
    AT,
    AWP,
    EMA,
    MART,
    TRADES,
    AdversarialTrainerGAIRAT,
    ARoW,
    BoundaryPGD,
    BoundaryWeighting,
    DiscreteWeighting,
    FriendlyPGD,
    GeometryAwarePGD,
    MarginWeighting,
    SigmoidWeighting,
    TanhWeighting,
    UniformWeighting,
)
from art_gair.objectives import Objective
from art_gair.plugins import Plugin
from art_gair.schedules import Piecewise
from art_gair.weighting import EntropyWeighting, Weighting

K = 10
FORWARD = 1 / 3
"""What a forward pass costs alone, in passes forward and backward."""

BOUNDS_PASSES = 6.7
"""Passes that BoundaryPGD's default bounds are taken to need, of K; they needed 6.1 to 6.5."""

EMA_DECAY = 0.995
AWP_GAMMA = 0.005


@dataclass(frozen=True, repr=False)
class Candidate:
    """A method.

    :param budget: of BoundaryPGD; "bounds" for its default bounds; None for GeometryAwarePGD.
    :param first_steps: of BoundaryPGD.
    :param max_iter: steps of the attack; the step is such that they cross the ball as often as K steps of eps / 4.
    :param step: length of a step, as a multiple of that.
    :param radius: of the training's ball, as a multiple of the regime's eps, by which all are judged.
    :param loss: what the attack maximises; None: what the objective asks for.
    :param taus: of FriendlyPGD, in its place: at first, and from two shares of the epochs on.
    :param tau_from: these shares.
    :param needs: passes that the attack is taken to need, where that is known only afterwards.
    :param smoothing: of the labels, in the classifier's own loss.
    :param compute: share of the regime's passes that it takes.
    :param idbh: whether the training images are augmented by IDBH-weak.
    """

    objective: Objective = field(default_factory=AT)
    weighting: Weighting = field(default_factory=UniformWeighting)
    burn_in: float = 0
    budget: float | str | None = None
    first_steps: int = 2
    max_iter: int = K
    step: float = 1.0
    radius: float = 1.0
    loss: str | None = None
    taus: tuple[int, int, int] | None = None
    tau_from: tuple[float, float] = (0.4, 0.7)
    needs: float | None = None
    ema: bool = False
    awp: bool = False
    smoothing: float = 0.0
    idbh: bool = False
    compute: float = 1.0

    def __repr__(self) -> str:
        """Name what is not as usual, so that a setting that is new does not change what was."""
        shown = (f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if repr(getattr(self, f.name)) != usual(f))
        return f"Candidate({', '.join(shown)})"

    @property
    def cost(self) -> float:
        """Passes a sample and epoch, as planned."""
        if self.needs is not None:
            attack = self.needs
        elif self.budget == "bounds":
            attack = BOUNDS_PASSES
        else:
            attack = self.max_iter * (1.0 if self.budget is None else float(self.budget))
        return attack + self.beside_attack

    @property
    def beside_attack(self) -> float:
        """Passes a sample and epoch of all but the attack's steps."""
        update = 1 if isinstance(self.objective, AT) else 2
        clean = FORWARD if self.objective.attack["loss"] == "kl" else 0.0
        return clean + update * (2 if self.awp else 1)

    def epochs(self, passes: float) -> int:
        """Return how many epochs fit in so many passes a sample."""
        return math.floor(self.compute * passes / self.cost + 1e-9)

    def trainer(self, classifier: PyTorchClassifier, regime: Regime, extra: Sequence[Plugin] = ()) -> Any:
        """Return the trainer."""
        eps = self.radius * regime.eps
        settings: dict[str, Any] = {"eps": eps, "eps_step": self.step * eps / 4 * K / self.max_iter}
        settings |= {"max_iter": self.max_iter, **self.objective.attack}
        settings |= {} if self.loss is None else {"loss": self.loss}
        epochs = self.epochs(regime.passes)
        if self.taus is not None:
            starts = (max(n, round(share * epochs)) for n, share in enumerate(self.tau_from, start=1))
            tau = Piecewise(self.taus, sorted(set(starts)))
            attack: GeometryAwarePGD = FriendlyPGD(classifier, tau=tau, **settings)
        elif self.budget is None:
            attack = GeometryAwarePGD(classifier, **settings)
        elif self.budget == "bounds":
            attack = BoundaryPGD(classifier, **settings)
        else:
            settings |= {"budget": float(self.budget), "first_steps": self.first_steps}
            attack = BoundaryPGD(classifier, **settings)
        plugins: list[Plugin] = [AWP(AWP_GAMMA, start_epoch=epochs // 20)] if self.awp else []
        plugins += [EMA(EMA_DECAY, validate="both")] if self.ema else []
        return AdversarialTrainerGAIRAT(
            *(classifier, attack, self.weighting),
            objective=self.objective,
            burn_in=self.burn_in,
            precision=regime.precision,
            plugins=[*plugins, *extra],
        )


def usual(setting: Field[Any]) -> str:
    """Return what a setting is if it is not given."""
    return repr(setting.default if setting.default_factory is MISSING else setting.default_factory())


MAIL_TRADES: dict[str, Any] = {"objective": TRADES(5.0), "weighting": MarginWeighting(2.0, 0.0), "burn_in": 0.75}
GAIRAT: dict[str, Any] = {"weighting": TanhWeighting(-1.0), "burn_in": 0.3}
BASES: dict[str, dict[str, Any]] = {
    "at": {},
    "trades": {"objective": TRADES(6.0)},
    "mart": {"objective": MART(5.0)},
    "mail_trades": MAIL_TRADES,
    "gairat": GAIRAT,
    "arow": {"objective": ARoW()},
}
BOUNDARY: dict[str, Any] = {"weighting": BoundaryWeighting(5.0, 0.25), "burn_in": 0.5}
EVERYWHERE: dict[str, dict[str, Any]] = {
    "": {},
    "+ema": {"ema": True},
    "+awp": {"awp": True},
    "+ema+awp": {"ema": True, "awp": True},
}

SEARCH: dict[str, Candidate] = {
    **{
        f"{base}{name}": Candidate(**settings, **parts)
        for base, settings in BASES.items()
        for name, parts in EVERYWHERE.items()
    },
    "boundary_weights": Candidate(**BOUNDARY),
    "boundary_weights+ema": Candidate(**BOUNDARY, ema=True),
    "trades_boundary_kl": Candidate(TRADES(6.0, "kl"), **BOUNDARY),
    "trades_boundary_both": Candidate(TRADES(6.0, "both"), **BOUNDARY),
    "budget": Candidate(budget=0.5),
    "budget+ema": Candidate(budget=0.5, ema=True),
    "budget_0.7+ema": Candidate(budget=0.7, ema=True),
    "bounds+ema": Candidate(budget="bounds", ema=True),
    "at_1.2+ema": Candidate(radius=1.2, ema=True),
    "bounds_1.2+ema": Candidate(budget="bounds", radius=1.2, ema=True),
    "budget_1.2+ema": Candidate(budget=0.5, radius=1.2, ema=True),
    "budget+weights+ema": Candidate(budget=0.5, ema=True, **BOUNDARY),
    "budget+ema+awp": Candidate(budget=0.5, ema=True, awp=True),
    "budget+ema+smoothing": Candidate(budget=0.5, ema=True, smoothing=0.1),
    "budget+ema+idbh": Candidate(budget=0.5, ema=True, idbh=True),
    "budget_trades+ema": Candidate(TRADES(6.0), budget=0.5, ema=True),
    **{f"budget_{base}+ema": Candidate(**BASES[base], budget=0.5, ema=True) for base in (*BASES,)[2:]},
    "steps_5": Candidate(max_iter=5),
    "steps_5+ema": Candidate(max_iter=5, ema=True),
    "steps_5+budget+ema": Candidate(max_iter=5, budget=0.6, ema=True),
    "steps_3+ema": Candidate(max_iter=3, ema=True),
    "steps_2+ema": Candidate(max_iter=2, ema=True),
    "steps_3_margin+ema": Candidate(max_iter=3, loss="margin", ema=True),
    "steps_3_1.1+ema": Candidate(max_iter=3, radius=1.1, ema=True),
    "steps_3_1.2+ema": Candidate(max_iter=3, radius=1.2, ema=True),
    "steps_2_1.2+ema": Candidate(max_iter=2, radius=1.2, ema=True),
    "steps_4+budget+ema": Candidate(max_iter=4, first_steps=1, budget=0.625, ema=True),
    "steps_3_arow+ema": Candidate(ARoW(), max_iter=3, ema=True),
    "steps_3+weights+ema": Candidate(max_iter=3, ema=True, **BOUNDARY),
    "steps_3+ema+smoothing": Candidate(max_iter=3, ema=True, smoothing=0.1),
    "steps_3+ema+awp": Candidate(max_iter=3, ema=True, awp=True),
    "at_margin": Candidate(loss="margin"),
    "at_margin+ema": Candidate(loss="margin", ema=True),
    "bounds_trades+ema": Candidate(TRADES(6.0), budget="bounds", ema=True),
    "steps_3_trades+ema": Candidate(TRADES(6.0), max_iter=3, ema=True),
    "boundary_0.6": Candidate(budget=0.55, radius=1.1, compute=0.6),
    "boundary_trades_0.6": Candidate(TRADES(6.0), budget=0.55, radius=1.1, compute=0.64),
    "boundary_step_2_0.6": Candidate(budget=0.55, step=2.0, radius=1.1, compute=0.6),
    "boundary_step_2_1.2_0.6": Candidate(budget=0.55, step=2.0, radius=1.2, compute=0.6),
    "boundary_trades_step_2_0.6": Candidate(TRADES(6.0), budget=0.55, step=2.0, radius=1.1, compute=0.64),
    "boundary_trades_step_2_1.2_0.6": Candidate(TRADES(6.0), budget=0.55, step=2.0, radius=1.2, compute=0.64),
    "boundary_budget_0.3_1.1_0.6": Candidate(budget=0.3, step=2.0, radius=1.1, compute=0.6),
    "boundary_budget_0.3_1.2_0.6": Candidate(budget=0.3, step=2.0, radius=1.2, compute=0.6),
    "boundary_trades_budget_0.3_1.1_0.6": Candidate(TRADES(6.0), budget=0.3, step=2.0, radius=1.1, compute=0.6),
    "boundary_trades_budget_0.3_1.2_0.6": Candidate(TRADES(6.0), budget=0.3, step=2.0, radius=1.2, compute=0.6),
    "boundary_step_2_1.2+ema": Candidate(budget=0.55, step=2.0, radius=1.2, ema=True),
    "boundary_step_2_1.2_budget_0.3+ema": Candidate(budget=0.3, step=2.0, radius=1.2, ema=True),
    "steps_3_1.2_0.6+ema": Candidate(max_iter=3, radius=1.2, ema=True, compute=0.6),
    "steps_3_1.2+ema+idbh": Candidate(max_iter=3, radius=1.2, ema=True, idbh=True),
    "at+ema+idbh": Candidate(ema=True, idbh=True),
}
"""The candidates of the search by name."""


def _gairat(**settings: Any) -> Candidate:
    return Candidate(**{**GAIRAT, **settings})


METHODS: dict[str, Candidate] = {
    **{name: SEARCH[name] for name in ("at", "gairat", "trades", "mart", "mail_trades", "arow")},
    "fat": Candidate(taus=(0, 1, 2), tau_from=(50 / 120, 90 / 120), needs=7.8),
    "gair_fat": _gairat(weighting=TanhWeighting(0.0), taus=(0, 3, 6), needs=8.2),
    "gair_trades": _gairat(objective=TRADES(6.0)),
    "gair_mart": _gairat(objective=MART(5.0)),
    "mail_at": Candidate(weighting=MarginWeighting(10.0, 0.5), burn_in=0.75),
}
"""The methods of the papers."""

ABLATIONS: dict[str, dict[str, Candidate]] = {
    "weight function": {
        "at": SEARCH["at"],
        "gairat": SEARCH["gairat"],
        "sigmoid": _gairat(weighting=SigmoidWeighting(-1.0)),
        "discrete": _gairat(weighting=DiscreteWeighting()),
        "entropy": _gairat(weighting=EntropyWeighting()),
        "boundary": _gairat(weighting=BoundaryWeighting(5.0, 0.25)),
    },
    "lam": {f"gairat_lam_{lam:g}": _gairat(weighting=TanhWeighting(lam)) for lam in (-3.0, 0.0, 1.0, 3.0)},
    "burn-in": {f"gairat_burn_in_{share:g}": _gairat(burn_in=share) for share in (0, 0.6, 0.8)},
    "K": {f"gairat_K_{steps}": _gairat(max_iter=steps, step=steps / K) for steps in (5, 20)},
    "step": {f"gairat_step_{step:g}": _gairat(step=step) for step in (0.5, 2.0)},
    "kappa by": {"gairat_margin": _gairat(loss="margin")},
}
"""GAIRAT, one setting changed at a time; at equal compute, so that K changes the number of epochs as well."""

CANDIDATES: dict[str, Candidate] = SEARCH | METHODS
for group in ABLATIONS.values():
    group["gairat"] = SEARCH["gairat"]  # stands in each table
    CANDIDATES |= group
