"""Digits models to evaluate: honest ones, and ones with a planted defect that hides gradients."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from numpy.typing import NDArray
from torch import Tensor, nn

from art_gair import AdversarialTrainerGAIRAT, GeometryAwarePGD, UniformWeighting
from tests.models import classifier_of, conv_net, digits, digits_classifier

EPS = 0.15
TRAIN = 1297


def held_out(n: int = 150) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return digits that no model here was trained on."""
    x, y = digits(TRAIN + n)
    return x[TRAIN:], y[TRAIN:]


@cache
def plain() -> PyTorchClassifier:
    """Return a classifier trained on clean digits."""
    classifier = digits_classifier()
    x, y = digits(TRAIN)
    classifier.fit(x, y, batch_size=64, nb_epochs=8)
    classifier.model.eval()
    return classifier


@cache
def adversarially_trained(seed: int = 0) -> PyTorchClassifier:
    """Return a classifier trained by AT."""
    classifier = digits_classifier(seed)
    attack = GeometryAwarePGD(classifier, eps=EPS, eps_step=EPS / 4, max_iter=5)
    AdversarialTrainerGAIRAT(classifier, attack, UniformWeighting()).fit(*digits(TRAIN), batch_size=64, nb_epochs=10)
    return classifier


class Sharp(nn.Module):
    """Logits a thousandfold: the softmax saturates and its gradient underflows."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x)
        return 1000.0 * logits


class Rounding(Sharp):
    """Inputs rounded to 16 levels: the gradient is zero everywhere."""

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(torch.round(16.0 * x) / 16.0)
        return logits


class Random(Sharp):
    """Noise on every input."""

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x + 0.1 * torch.randn_like(x))
        return logits


class Detecting(Sharp):
    """Constant logits wherever a pixel is none of the digits' 17 levels."""

    def forward(self, x: Tensor) -> Tensor:
        natural = ((16.0 * x).frac() == 0).flatten(1).all(dim=1)
        logits: Tensor = torch.where(natural[:, None], self.model(x), torch.zeros(10))
        return logits


class Softmax(Sharp):
    """Probabilities instead of logits."""

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x)
        return logits.softmax(dim=1)


def around(wrapper: type[Sharp], classifier: PyTorchClassifier) -> PyTorchClassifier:
    """Put a defect around a classifier's model."""
    return classifier_of(wrapper(classifier.model), (1, 8, 8), optimizer=None)


def with_classes(nb_classes: int) -> tuple[PyTorchClassifier, NDArray[np.float32], NDArray[np.int64]]:
    """Train on the first few digits alone; return held-out samples with it."""
    torch.manual_seed(0)
    classifier: Any = classifier_of(conv_net(nb_classes), (1, 8, 8), nb_classes)
    x, y = digits(700)
    chosen = y < nb_classes
    x, y = x[chosen], y[chosen]
    classifier.fit(x[:-30], y[:-30], batch_size=32, nb_epochs=5)
    return classifier, x[-30:], y[-30:]
