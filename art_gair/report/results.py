"""What an evaluation records: plain dataclasses of arrays, which the codec writes and reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

NOT_ATTACKED = -1

SMALLER_EPS = "smaller_eps"
"""Name of the row of samples that fell within a smaller ball, of an evaluation at several eps."""


@dataclass
class AttackResult:
    """What one attack did to each of n samples.

    :param attacked: bool (n,): which samples it attacked.
    :param broken: bool (n,): which of them are misclassified in one of its tries.
    :param tries: the same of each try alone.
    :param predictions: int64 (n,): class of the example of least margin, -1 where not attacked.
    :param margins: float64 (n,): p_y less the largest other probability there, -1..1; NaN where not attacked.
    :param kappa: int64 (n,) of its first try, -1 where not attacked; None if it counts none.
    :param seconds: wall time.
    :param notes: what the attack's own code warned of.
    :param projected: examples that lay outside the ball or clip_values by more than rounding; they were projected back
        before they were judged.
    :param discarded: examples that could not be judged, such as NaN; the sample itself was judged in their place.
    """

    name: str
    title: str
    black_box: bool
    attacked: NDArray[np.bool_]
    broken: NDArray[np.bool_]
    tries: dict[str, NDArray[np.bool_]]
    predictions: NDArray[np.int64]
    margins: NDArray[np.float64]
    kappa: NDArray[np.int64] | None
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    projected: int = 0
    discarded: int = 0

    @classmethod
    def empty(cls, attack: Any, n: int) -> AttackResult:
        """Return the result of an attack, by its name, title and black_box, that has attacked nothing yet."""
        nothing, unknown = np.zeros(n, dtype=np.bool_), np.full(n, NOT_ATTACKED, dtype=np.int64)
        return cls(
            *(attack.name, attack.title, attack.black_box, nothing, nothing.copy(), {}, unknown),
            *(np.full(n, np.nan), None),
        )

    def subset(self, rows: NDArray[np.int64]) -> AttackResult:
        """Return the result on some rows; counts and notes stay those of all rows."""
        return AttackResult(
            *(self.name, self.title, self.black_box, self.attacked[rows], self.broken[rows]),
            {name: broken[rows] for name, broken in self.tries.items()},
            *(self.predictions[rows], self.margins[rows], None if self.kappa is None else self.kappa[rows]),
            seconds=self.seconds,
            notes=self.notes,
            projected=self.projected,
            discarded=self.discarded,
        )

    def take_in(self, part: AttackResult, rows: NDArray[np.int64]) -> None:
        """Take in what another process has found on some rows; the longest of the times counts."""
        if len(rows) == 0:
            return
        for name in ("attacked", "broken", "predictions", "margins"):
            getattr(self, name)[rows] = getattr(part, name)
        for name, broken in part.tries.items():
            self.tries.setdefault(name, np.zeros_like(self.broken))[rows] = broken
        if part.kappa is not None:
            if self.kappa is None:
                self.kappa = np.full(len(self.broken), NOT_ATTACKED, dtype=np.int64)
            self.kappa[rows] = part.kappa
        self.seconds = max(self.seconds, part.seconds)
        self.notes += [note for note in part.notes if note not in self.notes]
        self.projected += part.projected
        self.discarded += part.discarded


@dataclass(frozen=True)
class Flag:
    """A sign of gradient masking; among a report's notes, a gap that honest models show as well.

    :param name: of the sign.
    :param evidence: what was seen.
    :param rule: when the sign is raised.
    :param p_value: of its test, or None.
    """

    name: str
    evidence: str
    rule: str
    p_value: float | None = None

    def __str__(self) -> str:
        return f"{self.name}: {self.evidence}"


@dataclass(frozen=True)
class Clean:
    """The model on the samples themselves.

    :param correct: bool (n,): classified right on two passes.
    :param predictions: int64 (n,).
    :param margins: float64 (n,): p_y less the largest other probability, -1..1.
    """

    correct: NDArray[np.bool_]
    predictions: NDArray[np.int64]
    margins: NDArray[np.float64]


@dataclass(frozen=True)
class Measurements:
    """What is recorded beside the attacks, for the signs of gradient masking.

    :param useless: bool (n,): whether the cross entropy's gradient at x, or at a random point of its ball, is zero or
        not finite; False where the sample is misclassified.
    :param differing: bool (n,): whether two clean passes gave different classes.
    :param noise: largest difference of their logits, relative to the largest logit.
    :param curve: (eps, samples still right under PGD-20, samples) in rising eps, on a random subset.
    :param chance: accuracy of guessing, 0..1.
    """

    useless: NDArray[np.bool_]
    differing: NDArray[np.bool_]
    noise: float
    curve: list[tuple[float, int, int]]
    chance: float


@dataclass(frozen=True)
class Examples:
    """Images before and after PGD-20: those driven deepest into a wrong class, then those that hold out best.

    :param clean: and `adversarial`: uint8 (k, channels, height, width), 0..255 over the range of clip_values.
    :param labels: and `predictions`: int64 (k,).
    :param margins: float64 (k,), of the adversarial image.
    """

    clean: NDArray[np.uint8]
    adversarial: NDArray[np.uint8]
    labels: NDArray[np.int64]
    predictions: NDArray[np.int64]
    margins: NDArray[np.float64]


@dataclass(frozen=True)
class Share:
    """Samples of a kind, and how many withstand: for each class, for each kappa."""

    value: int
    n: int
    clean: int
    robust: int
