"""Real data sets that lie in files, and the small networks that the benchmarks train on them."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from numpy.typing import NDArray
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from data import load_fashion_mnist

Arrays = tuple[NDArray[Any], NDArray[Any]]


def thin_cnn() -> nn.Module:
    """Four strided convolutions with BatchNorm for images (3, 32, 32); 66 thousand parameters."""
    layers: list[nn.Module] = []
    for inside, outside in ((3, 16), (16, 32), (32, 64), (64, 64)):
        layers += [nn.Conv2d(inside, outside, 3, stride=2, padding=1), nn.BatchNorm2d(outside), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(256, 10))


def fashion_cnn() -> nn.Module:
    """Two strided convolutions with BatchNorm and two linear layers for images (1, 28, 28)."""
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(64 * 49, 128), nn.ReLU(), nn.Linear(128, 10)),
    )


def classifier_of(model: nn.Module, shape: tuple[int, ...], lr: float = 0.05) -> PyTorchClassifier:
    """Wrap a model for inputs in [0, 1], with SGD of momentum 0.9 and weight decay 2e-4."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=2e-4)
    return PyTorchClassifier(model, nn.CrossEntropyLoss(), shape, 10, optimizer, clip_values=(0.0, 1.0))


def cifar10_jpeg(folder: Path, part: str, n: int) -> Arrays:
    """Return the first n images of the lossy JPEG copy of CIFAR-10: (n, 3, 32, 32) in [0, 1], labels int64 (n,).

    :param folder: holds cifar10-jpeg-train.npz and cifar10-jpeg-test.npz.
    :param part: "train" or "test".
    """
    from PIL import Image

    with np.load(folder / f"cifar10-jpeg-{part}.npz") as packed:
        blob, offsets, labels = packed["jpeg"].tobytes(), packed["offsets"], packed["labels"][:n]
    x = np.empty((len(labels), 3, 32, 32), np.float32)
    for i in range(len(labels)):
        image = Image.open(io.BytesIO(blob[offsets[i] : offsets[i + 1]])).convert("RGB")
        x[i] = np.asarray(image, np.float32).transpose(2, 0, 1) / 255
    return x, labels.astype(np.int64)


@dataclass(frozen=True)
class DataSet:
    """A data set of the benchmarks, the network trained on it, and the radius it is attacked with."""

    title: str
    load: Any
    model: Any
    shape: tuple[int, ...]
    eps: float

    def classifier(self, seed: int) -> PyTorchClassifier:
        """Return an untrained classifier."""
        torch.manual_seed(seed)
        return classifier_of(self.model(), self.shape)


DATA_SETS = {
    "fashion": DataSet("Fashion-MNIST", load_fashion_mnist, fashion_cnn, (1, 28, 28), 0.1),
    "cifar10": DataSet("CIFAR-10 (JPEG copy)", cifar10_jpeg, thin_cnn, (3, 32, 32), 8 / 255),
}
