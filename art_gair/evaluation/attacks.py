"""The attacks of a report. Each yields one or more tries; a sample falls to the attack if it falls to one of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from art.attacks.attack import EvasionAttack
from torch import Tensor

from art_gair.attacks.art_attack import generate
from art_gair.attacks.boundary_pgd import BoundaryPGD
from art_gair.attacks.geometry_aware_pgd import GeometryAwarePGD
from art_gair.attacks.norms import find_norm
from art_gair.engine.model_state import gradients_kept
from art_gair.evaluation.autoattack import run_autoattack
from art_gair.evaluation.threat import Threat

SCALES = (1e-2, 1e-1, 1e1, 1e2)
"""What logits are multiplied with; 1 is PGD-20 itself."""


@dataclass(frozen=True)
class Try:
    """One try of an attack: its name, adversarial examples, and kappa where it counts it."""

    name: str
    x_adv: Tensor
    kappa: Tensor | None = None


class Attack(Protocol):
    """What a report asks of an attack."""

    @property
    def name(self) -> str:
        """What it is called in a report."""
        ...

    @property
    def title(self) -> str:
        """What it is called in tables."""
        ...

    @property
    def black_box(self) -> bool:
        """Whether it works without gradients."""
        ...

    @property
    def passes(self) -> float:
        """Forward and backward passes a sample, at most."""
        ...

    def tries(self, threat: Threat, x: Tensor, labels: Tensor, seed: int, notes: list[str]) -> Iterator[Try]:
        """Attack samples x, float32 (n, ...), of labels int64 (n,); what the attack has to say goes to notes."""
        ...


@dataclass(frozen=True)
class PGDAttack:
    """PGD from a random start, steps of a share `step` of eps, once for each scale of the logits."""

    name: str
    title: str
    loss: str = "ce"
    max_iter: int = 20
    step: float = 0.25
    restarts: int = 1
    scales: tuple[float, ...] = (1.0,)
    black_box: bool = False

    @property
    def passes(self) -> float:
        """Passes a sample, at most."""
        return self.max_iter * self.restarts * len(self.scales)

    def tries(self, threat: Threat, x: Tensor, labels: Tensor, seed: int, notes: list[str]) -> Iterator[Try]:
        """Yield one try a restart and scale."""
        for scale in self.scales:
            for restart in range(self.restarts):
                name = f"x {scale:g}" if len(self.scales) > 1 else f"restart {restart + 1}"
                x_adv, kappa = threat.pgd(
                    x, labels, loss=self.loss, max_iter=self.max_iter, step=self.step, scale=scale
                )
                yield Try(name, x_adv, kappa)


@dataclass(frozen=True)
class AutoAttack:
    """AutoAttack by its authors' packaged code (Croce & Hein, ICML 2020, arXiv 2003.01690).

    :param version: "standard"; "rand" for randomised models; "square", its black-box attack alone.
    """

    name: str
    title: str
    version: str
    passes: float
    black_box: bool = False

    def tries(self, threat: Threat, x: Tensor, labels: Tensor, seed: int, notes: list[str]) -> Iterator[Try]:
        """Yield its one result."""
        yield Try(self.version, run_autoattack(threat, x, labels, self.version, seed, notes))


@dataclass(frozen=True)
class GivenAttack:
    """An ART evasion attack that the user brings along, with its own settings.

    :param attack: untargeted; on the classifier or, for transfer, on another one.
    """

    name: str
    title: str
    attack: EvasionAttack
    black_box: bool = False

    @property
    def passes(self) -> float:
        """Passes a sample, a guess from its settings."""
        passes = 1
        for name in ("max_iter", "num_random_init"):
            setting = getattr(self.attack, name, 1)
            passes *= max(1, int(setting)) if isinstance(setting, (int, np.integer)) else 1
        return float(passes)

    def tries(self, threat: Threat, x: Tensor, labels: Tensor, seed: int, notes: list[str]) -> Iterator[Try]:
        """Yield its one result; an example of another shape is refused."""
        samples = torch.cat([batch.cpu() for batch in threat.batches(x)]).numpy()
        one_hot = torch.nn.functional.one_hot(labels, threat.classifier.nb_classes).float().numpy()
        with threat.classifier.evaluating(), gradients_kept(threat.classifier.module):
            if isinstance(self.attack, GeometryAwarePGD):
                x_adv, counts = self.attack.generate_with_kappa(samples, one_hot)
                kappa = torch.from_numpy(counts)
            else:
                x_adv, kappa = generate(self.attack, samples, one_hot), None
        threat.moved(self.passes * len(x))
        if np.shape(x_adv) != samples.shape:
            raise ValueError(f"attack {self.name} returned shape {np.shape(x_adv)}; expected {samples.shape}.")
        yield Try(self.name, torch.as_tensor(np.asarray(x_adv, dtype=np.float32)), kappa)


def adapt_attacks(attacks: Sequence[Any], eps: float, norm: float | str) -> tuple[GivenAttack, ...]:
    """Return the user's attacks under unique names; what could not count in the worst case is refused.

    :param eps: and `norm`: of the report.
    :raises TypeError, ValueError: if one is no untargeted ART evasion attack, or reaches beyond the report's ball.
    """
    if not isinstance(attacks, (list, tuple)):
        raise TypeError(f"attacks is {attacks!r}; expected a list of ART EvasionAttacks.")
    kinds = Counter[str]()
    adapted = []
    for attack in attacks:
        _check_given(attack, eps, norm)
        kind = type(attack).__name__
        kinds[kind] += 1
        name = kind if kinds[kind] == 1 else f"{kind} {kinds[kind]}"
        adapted.append(GivenAttack(name, name, attack))
    return tuple(adapted)


def _check_given(attack: Any, eps: float, norm: float | str) -> None:
    if not isinstance(attack, EvasionAttack):
        raise TypeError(f"attacks holds {attack!r}; expected ART EvasionAttacks.")
    name = type(attack).__name__
    if attack.targeted:
        raise ValueError(f"attacks holds {name}, which is targeted; expected an untargeted attack.")
    for setting in getattr(attack, "schedules", ("eps",)):
        if callable(getattr(attack, setting, None)):
            raise ValueError(f"attacks holds {name}, whose {setting} is a schedule; expected attack.at_epoch(epoch).")
    if isinstance(attack, BoundaryPGD):
        raise ValueError(f"attacks holds {name}, which spares samples; expected attack.with_all_steps().")
    radius = getattr(attack, "eps", None)
    if radius is not None and np.max(radius) > eps * (1 + 1e-6):
        raise ValueError(f"attacks holds {name} of eps {np.max(radius):g}, beyond the report's {eps:g}.")
    order = getattr(attack, "norm", None)
    if radius is not None and order is not None and find_norm(order) is not find_norm(norm):
        raise ValueError(f"attacks holds {name} of norm {order!r}; the report's is {norm!r}.")


PGD_20 = PGDAttack("pgd_20", "PGD-20")
MARGIN = PGDAttack("margin", "margin-loss PGD-20", loss="margin")
SCALED = PGDAttack("scaled", "logit-scaled PGD-20", scales=SCALES)
PGD_PLUS = PGDAttack("pgd_plus", "PGD+, 5 x 40", max_iter=40, step=0.01 / 0.031, restarts=5)
SQUARE = AutoAttack("square", "Square, 5000 queries", "square", passes=1700, black_box=True)
AUTOATTACK = AutoAttack("autoattack", "AutoAttack, standard", "standard", passes=4500)
AUTOATTACK_RAND = AutoAttack("autoattack", "AutoAttack, rand", "rand", passes=4000)

PRESETS: dict[str, tuple[Attack, ...]] = {
    "quick": (PGD_20, MARGIN, SCALED),
    "standard": (PGD_20, MARGIN, SCALED, PGD_PLUS, SQUARE),
    "full": (PGD_20, MARGIN, SCALED, PGD_PLUS, SQUARE, AUTOATTACK),
}
"""Attacks in the order they run in. PGD+ is the GAIRAT paper's: 40 steps of 0.01 at eps 0.031."""
