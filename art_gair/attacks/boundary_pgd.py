"""PGD that spends its steps on the samples near the decision boundary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from art.estimators.classification import PyTorchClassifier

from art_gair.attacks.geometry_aware_pgd import GeometryAwarePGD
from art_gair.attacks.norms import find_norm
from art_gair.attacks.pgd import PGD
from art_gair.attacks.selective import Between, Nearest, Selection, SelectivePGD
from art_gair.checks import require_int, require_number
from art_gair.engine.classifier import TensorClassifier
from art_gair.engine.company import mixes_samples
from art_gair.schedules import value_at

Setting = float | Callable[[int], float]
"""A number, or a function of the epoch to one."""


class BoundaryPGD(GeometryAwarePGD):
    """GA-PGD that takes a few steps for every sample, and the others for those near the decision boundary alone.

    In the manner of BulletTrain (Hua et al., NeurIPS 2021, arXiv 2109.14707), which gives outliers and robust examples
    fewer steps. At the last of the first looks the margin of the probabilities, p_y - max_{j != y} p_j, decides: safe
    samples (a margin above `safe`) and lost ones (below `lost`) stop after the first steps, where they are. The choice
    costs no pass of its own, and samples that stop leave the computation. With bounds the host waits for the device
    once a batch and start, with a budget never.

    kappa counts the looks that find the true class, as in GeometryAwarePGD. A sample that stops while it is classified
    rightly is taken for one that is never fooled, kappa = max_iter; one that stops misclassified keeps its count.

    Those that stop are trained on where the first steps take them, so let these reach across the ball: two steps of
    eps / 2. Models that were trained with two of eps / 4 were less robust; where epochs are few, a smaller budget pays
    for more of them (examples/paper/RESULTS.md).

    It is an attack to train with. To judge a model it is too weak, since it spares samples that more steps might fool:
    `with_all_steps` is the attack for that, which validation takes where no `validation_attack` is given.

    :param estimator: and the settings: as for `GeometryAwarePGD`.
    :param first_steps: steps that every sample takes, 1..max_iter - 1.
    :param safe: samples of a larger margin stop; -1..1, above `lost`.
    :param lost: samples of a smaller margin stop; -1..1.
    :param budget: None: the bounds decide. A number from first_steps / max_iter to 1: the share of all passes that a
        batch takes, rounded to whole samples, one at least, so only roughly in batches of a few; those go on whose
        margins lie nearest to the middle of `lost` and `safe`.
    :raises TypeError, ValueError: if a setting is no number, out of range or out of order, by its name; and as for
        `GeometryAwarePGD`. safe, lost and budget may be schedules, functions of the epoch, as eps.
    """

    attack_params: ClassVar[list[str]] = [*GeometryAwarePGD.attack_params, "first_steps", "safe", "lost", "budget"]
    schedules: ClassVar[tuple[str, ...]] = ("eps", "safe", "lost", "budget")

    def __init__(
        self,
        estimator: PyTorchClassifier,
        *settings: Any,
        first_steps: int = 2,
        safe: Setting = 0.6,
        lost: Setting = -0.9,
        budget: Setting | None = None,
        **named_settings: Any,
    ) -> None:
        self.first_steps, self.safe, self.lost, self.budget = first_steps, safe, lost, budget
        super().__init__(estimator, *settings, **named_settings)

    def with_all_steps(self) -> GeometryAwarePGD:
        """Return the same attack sparing no sample: a GeometryAwarePGD."""
        settings = {name: getattr(self, name) for name in GeometryAwarePGD.attack_params}
        return GeometryAwarePGD(self.estimator, **settings)

    def _pgd(self, classifier: TensorClassifier) -> PGD:
        settings = (find_norm(self.norm), self.loss, self.max_iter, self.num_random_init, classifier.box)
        compact = not mixes_samples(classifier)
        note_gradient = classifier.note_gradient
        return SelectivePGD(*settings, self._selection(), self.first_steps, compact, note_gradient=note_gradient)

    def _selection(self) -> Selection:
        lost, safe, budget = self._thresholds()
        if budget is None:
            return Between(lost, safe)
        rest = self.max_iter - self.first_steps
        return Nearest((lost + safe) / 2, max(0.0, budget * self.max_iter - self.first_steps) / rest)

    def _thresholds(self) -> tuple[Any, Any, Any]:
        """Return lost, safe and budget as they stand; schedules as in epoch 0."""
        lost, safe, budget = (value_at(getattr(self, name), name, 0) for name in ("lost", "safe", "budget"))
        return lost, safe, budget

    def _check_params(self) -> None:
        super()._check_params()
        self.first_steps = require_int(self.first_steps, "first_steps", at_least=1)
        if self.first_steps >= self.max_iter:
            raise ValueError(f"first_steps is {self.first_steps}; expected less than max_iter, {self.max_iter}.")
        lost, safe, budget = self._thresholds()
        require_number(lost, "lost", at_least=-1.0, at_most=1.0)
        require_number(safe, "safe", at_least=-1.0, at_most=1.0)
        if lost >= safe:
            raise ValueError(f"lost is {lost!r} and safe is {safe!r}; expected lost to be the smaller.")
        if budget is None:
            return
        least = self.first_steps / self.max_iter
        if require_number(budget, "budget", at_least=0.0, at_most=1.0) < least - 1e-6:  # 0.7 may be a float32
            raise ValueError(
                f"budget is {budget!r}; expected at least first_steps / max_iter, {self.first_steps} / {self.max_iter}."
            )
