"""scikit-learn's digits and a small network for them, which the examples without a download share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

EPS = 0.2
"""Radius of the attacks; pixels lie in [0, 1]."""


def digits(seed: int) -> list[NDArray[Any]]:
    """Return x_train, x_test (n, 1, 8, 8) float32 in [0, 1], and y_train, y_test: 1,347 and 450 real digits."""
    images, labels = load_digits(return_X_y=True)
    x = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    parts: list[NDArray[Any]] = train_test_split(x, labels, test_size=450, random_state=seed, stratify=labels)
    return parts


def small_cnn(seed: int) -> PyTorchClassifier:
    """Return an untrained classifier: two convolutions with BatchNorm, two linear layers."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(64 * 16, 128), nn.ReLU(), nn.Linear(128, 10)),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return PyTorchClassifier(model, nn.CrossEntropyLoss(), (1, 8, 8), 10, optimizer, clip_values=(0.0, 1.0))
