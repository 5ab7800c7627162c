"""The attacks of a report. Each yields one or more tries; a sample falls to the attack if it falls to one of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

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
        """Attack rows x (n, ...), labels int64 (n,); what the attack has to say goes to notes."""
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
