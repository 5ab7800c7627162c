"""PGD in which samples stop early: the same steps, and a rule that says after each look which samples go on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from art_gair.attacks.pgd import PGD, select_samples
from art_gair.attacks.rows import Finished, Samples, never_alone
from art_gair.engine.classifier import Model


class StoppingRule(Protocol):
    """Says which samples take the step that follows a look."""

    def goes_on(self, looks: int, kappa: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """Return bool (n,), after a number of looks of which each sample survived kappa, int64 (n,)."""
        ...


@dataclass(frozen=True)
class Friendly:
    """FAT's rule (Zhang et al., ICML 2020, Alg. 1): a sample takes tau more steps once it is found misclassified."""

    tau: int

    def goes_on(self, looks: int, kappa: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """Return whether at most tau of the looks found another class."""
        return looks - kappa <= self.tau


@dataclass(frozen=True)
class StoppingPGD(PGD):
    """GA-PGD whose samples stop where a rule says so; each keeps its row.

    :param rule: which samples go on. It must not let a sample go on that it has stopped.
    :param compact: whether samples that have stopped leave the computation, which asks the device which they are.
    """

    rule: StoppingRule
    compact: bool = False

    def _run(self, model: Model, samples: Samples) -> tuple[Tensor, Tensor]:
        """One start and at most K steps; between a look and its step the rule is asked."""
        model = never_alone(model) if self.compact and len(samples.labels) > 1 else model
        x_adv = self._begin(samples)
        kappa = torch.zeros_like(samples.labels)
        goes_on = torch.ones_like(kappa, dtype=torch.bool)
        finished = Finished(x_adv, kappa)
        for look in range(self.max_iter):
            logits, step = self._look(model, samples, x_adv)
            kappa = kappa + (goes_on & (logits.argmax(dim=1) == samples.labels))
            goes_on = self.rule.goes_on(look + 1, kappa, logits, samples.labels)
            x_adv = select_samples(goes_on, self._move(samples, x_adv, step), x_adv)
            if self.compact and not goes_on.all():
                finished.put(x_adv, kappa)
                finished.leave(goes_on)
                samples, x_adv, kappa = samples.take(goes_on), x_adv[goes_on], kappa[goes_on]
                goes_on = goes_on[goes_on]
                if len(kappa) == 0:
                    break
        return finished.put(x_adv, kappa)
