"""Small models and classifiers that the tests share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from art.defences.preprocessor.preprocessor import PreprocessorPyTorch
from art.estimators.classification import PyTorchClassifier
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor, nn

from art_gair import AdversarialTrainerGAIRAT, GeometryAwarePGD


def mlp(shape: tuple[int, ...], nb_classes: int, hidden: int = 16, scale: float = 2.0) -> nn.Module:
    """Return a smooth network for inputs of any shape whose logits vary enough to be fooled at different steps."""
    d = int(np.prod(shape))
    model = nn.Sequential(nn.Flatten(), nn.Linear(d, hidden), nn.Tanh(), nn.Linear(hidden, nb_classes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    return model


def conv_net(nb_classes: int = 10, channels: int = 1) -> nn.Module:
    """Return a small convolutional network with BatchNorm and Dropout for 8x8 images."""
    return nn.Sequential(
        *(nn.Conv2d(channels, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(128, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, nb_classes)),
    )


def classifier_of(
    model: nn.Module,
    shape: tuple[int, ...],
    nb_classes: int = 10,
    *,
    clip_values: Any = (0.0, 1.0),
    loss: Any = None,
    lr: float = 0.05,
    **kwargs: Any,
) -> PyTorchClassifier:
    """Wrap a model as an ART user does."""
    kwargs.setdefault("optimizer", torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9))
    loss = nn.CrossEntropyLoss() if loss is None else loss
    return PyTorchClassifier(model, loss, shape, nb_classes, clip_values=clip_values, device_type="cpu", **kwargs)


def digits_classifier(seed: int = 0, **kwargs: Any) -> PyTorchClassifier:
    """Return an untrained classifier for the digits."""
    torch.manual_seed(seed)
    return classifier_of(conv_net(), (1, 8, 8), **kwargs)


def as_it_is(classifier: PyTorchClassifier) -> PyTorchClassifier:
    """Give the model a hook, because of which it is run as it stands: unfolded, contiguous, in the same bits."""
    classifier.model.register_forward_hook(lambda module, inputs, output: None)
    return classifier


def digits(n: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the first n of scikit-learn's digits: (n, 1, 8, 8) in [0, 1], and their labels."""
    images, labels = load_digits(return_X_y=True)
    return (images[:n] / 16).astype(np.float32).reshape(-1, 1, 8, 8), labels[:n].astype(np.int64)


class Blur(PreprocessorPyTorch):
    """A framework defence: the mean over 3x3 pixels, differentiable."""

    def __init__(self) -> None:
        super().__init__(device_type="cpu", apply_fit=True, apply_predict=True)

    def forward(self, x: Tensor, y: Any = None) -> tuple[Tensor, Any]:
        return nn.functional.avg_pool2d(x, 3, stride=1, padding=1), y


def trainer_of(classifier: Any, weighting: Any = None, burn_in: float = 0, **settings: Any) -> Any:
    """Return a trainer with a strong, short attack."""
    attack = GeometryAwarePGD(classifier, **{"eps": 0.2, "eps_step": 0.1, "max_iter": 3, **settings})
    return AdversarialTrainerGAIRAT(classifier, attack, weighting, burn_in=burn_in)


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of all parameters and buffers."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same_state(model: nn.Module, before: dict[str, Tensor]) -> None:
    """Hold parameters and buffers against a copy, bit for bit."""
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
