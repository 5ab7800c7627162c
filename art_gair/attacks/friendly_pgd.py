"""FAT's attack: PGD that stops soon after it has fooled the model."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

from art.estimators.classification import PyTorchClassifier

from art_gair.attacks.geometry_aware_pgd import GeometryAwarePGD
from art_gair.attacks.norms import find_norm
from art_gair.attacks.pgd import PGD
from art_gair.attacks.stopping import Friendly, StoppingPGD
from art_gair.checks import require_number
from art_gair.engine.classifier import TensorClassifier
from art_gair.engine.company import mixes_samples
from art_gair.schedules import value_at


class FriendlyPGD(GeometryAwarePGD):
    """Early-stopped PGD of friendly adversarial training (FAT; Zhang et al., ICML 2020, Alg. 1), with kappa beside it.

    A look at the iterate that finds it misclassified takes one from the sample's `tau`; at the look that finds it
    misclassified with none left the sample stops where it is. So with tau = 0 it stops just across the boundary, and
    with tau >= max_iter this is GeometryAwarePGD. kappa counts the looks that find the true class, as there. Each
    sample keeps its row, stopped or not.

    :param estimator: and the settings: as for `GeometryAwarePGD`.
    :param tau: steps still taken once misclassified, a number >= 0, or a schedule, a function of the epoch to one.
        Fractions of a step are not taken.
    :raises TypeError, ValueError: if tau is no finite number or negative; and as for `GeometryAwarePGD`.
    """

    attack_params: ClassVar[list[str]] = [*GeometryAwarePGD.attack_params, "tau"]
    schedules: ClassVar[tuple[str, ...]] = ("eps", "tau")
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

    def _pgd(self, classifier: TensorClassifier) -> PGD:
        compact = classifier.device.type in self.compact_on and not mixes_samples(classifier)
        settings = (find_norm(self.norm), self.loss, self.max_iter, self.num_random_init, classifier.box)
        rule = Friendly(math.floor(value_at(self.tau, "tau", 0)))
        return StoppingPGD(*settings, rule, compact, note_gradient=classifier.note_gradient)

    def _check_params(self) -> None:
        super()._check_params()
        require_number(value_at(self.tau, "tau", 0), "tau", at_least=0.0)
