"""FAT's attack: PGD that stops soon after it has fooled the model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

from art.estimators.classification import PyTorchClassifier

from art_gair.attacks.geometry_aware_pgd import GeometryAwarePGD
from art_gair.attacks.pgd import PGD
from art_gair.checks import require_number
from art_gair.engine.classifier import TensorClassifier
from art_gair.schedules import value_at


class FriendlyPGD(GeometryAwarePGD):
    """Early-stopped PGD of friendly adversarial training (FAT; Zhang et al., ICML 2020, Alg. 1), with kappa beside it.

    A look at the iterate that finds it misclassified takes one from the sample's `tau`; at the look that finds it
    misclassified with none left the sample stops where it is. So with tau = 0 it stops just across the boundary, and
    with tau >= max_iter this is GeometryAwarePGD. kappa counts the looks that find the true class, as there. Each
    sample keeps its row, stopped or not.

    :param estimator: and the settings: as for `GeometryAwarePGD`.
    :param tau: steps still taken once misclassified, a number >= 0, or a schedule, a function of the epoch to one;
        `epoch` says where it stands, which is 0 until a trainer moves it on. Fractions of a step are not taken.
    :raises TypeError, ValueError: if tau is no finite number or negative; and as for `GeometryAwarePGD`.
    """

    attack_params: ClassVar[list[str]] = [*GeometryAwarePGD.attack_params, "tau"]
    compact_on: ClassVar[tuple[str, ...]] = ("cpu",)
    """Types of device on which samples that have stopped leave the computation; a GPU would be waited for."""

    def __init__(
        self,
        estimator: PyTorchClassifier,
        *settings: Any,
        tau: float | Callable[[int], float] = 0,
        **named_settings: Any,
    ) -> None:
        self.tau = tau
        super().__init__(estimator, *settings, **named_settings)

    def check_schedules(self, nb_epochs: int) -> None:
        """Raise now what a schedule of the attack would raise in one of the epochs to come."""
        super().check_schedules(nb_epochs)
        for epoch in range(nb_epochs):
            self._tau_at(epoch)

    def _tau_at(self, epoch: int) -> int:
        return math.floor(require_number(value_at(self.tau, epoch), f"tau in epoch {epoch}", at_least=0.0))

    def _pgd(self, classifier: TensorClassifier) -> PGD:
        compact = classifier.device.type in self.compact_on and not classifier.mixes_samples()
        return replace(super()._pgd(classifier), tau=self._tau_at(self.epoch), compact=compact)

    def _check_params(self) -> None:
        super()._check_params()
        self._tau_at(self.epoch)
