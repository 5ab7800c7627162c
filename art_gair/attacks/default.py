"""The paper's attack, in units of the classifier's own range."""

from __future__ import annotations

from typing import Any

import numpy as np
from art.estimators.classification import PyTorchClassifier
from art.exceptions import EstimatorError
from numpy.typing import NDArray

from art_gair.attacks.geometry_aware_pgd import GeometryAwarePGD


def default_attack(classifier: PyTorchClassifier, **settings: Any) -> GeometryAwarePGD:
    """Return the paper's attack, in units of the classifier's range: eps 8/255 and eps_step 2/255 of it.

    :param settings: of GeometryAwarePGD, on top.
    :raises ValueError: if the classifier has no finite clip_values.
    """
    return GeometryAwarePGD(
        classifier,
        **{"eps": 8 / 255 * input_range(classifier), "eps_step": 2 / 255 * input_range(classifier), **settings},
    )


def input_range(classifier: PyTorchClassifier) -> NDArray[np.float64]:
    """Return the range of the classifier's clip_values, one number or one a feature.

    :raises EstimatorError: if it is no PyTorchClassifier.
    :raises ValueError: if it has none, or they are not finite.
    """
    if not isinstance(classifier, PyTorchClassifier):
        raise EstimatorError(GeometryAwarePGD, [PyTorchClassifier], classifier)
    if classifier.clip_values is None or not np.isfinite(classifier.clip_values).all():
        raise ValueError(
            "classifier has no finite clip_values, from which the default attack takes its eps; give the classifier "
            "clip_values, or the trainer an attack: attack=GeometryAwarePGD(classifier, eps=..., eps_step=...)."
        )
    low, high = (np.asarray(c, dtype=np.float64) for c in classifier.clip_values)
    return np.asarray(high - low)
