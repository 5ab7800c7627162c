"""The regimes of the protocol: data and their split, the network, the radius, and the passes that a method may take."""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from data import load_cifar10, load_fashion_mnist
from digits import digits
from models import ResNet18

from art_gair.augmentations import crop_and_flip

BATCH = 128
FASHION_MNIST = Path(os.environ.get("FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))
"""Where Debian's package dataset-fashion-mnist puts its files."""

DATA = Path(os.environ.get("ART_GAIR_DATA", "data"))
CIFAR10 = DATA / "cifar10-exact-subset.npz"
"""Holds x_train, y_train, x_test and y_test, images uint8 (n, 32, 32, 3)."""


class Part(NamedTuple):
    """Images (n, c, h, w), float32 in [0, 1], and labels int64 (n,)."""

    x: NDArray[Any]
    y: NDArray[Any]


class Split(NamedTuple):
    """Training, validation and test images: three disjoint sets."""

    train: Part
    validation: Part
    test: Part


@dataclass(frozen=True)
class Regime:
    """What all methods of a comparison share.

    :param data: which images `split` returns.
    :param lr: learning rate that the schedule begins with.
    :param milestones: shares of the epochs after which the learning rate is divided by 10.
    :param device: "cpu", or "gpu" where there must be one.
    :param precision: that trainings are computed in; reports are in float32.
    :param passes: forward and backward passes that a training may take, a training sample.
    :param augment: makes the augmentation of the training images, or None.
    :param flips: whether a mirrored image is one of the same class.
    """

    title: str
    split: Callable[[], Split]
    network: Callable[[], nn.Module]
    shape: tuple[int, ...]
    eps: float
    passes: float
    data: str
    augment: Callable[[], Callable[[Tensor], Tensor]] | None = None
    flips: bool = True
    lr: float = 0.05
    milestones: tuple[float, float] = (0.5, 0.75)
    device: str = "cpu"
    precision: str = "fp32"

    def settings(self) -> str:
        """Return what a training depends on."""
        names = ("data", "eps", "passes", "flips", "lr", "milestones", "device")
        augment = "" if self.augment is None else f", augment={self.augment.__name__}"
        network = f", network={_describe_network(self.network)}"
        precision = "" if self.precision == "fp32" else f", precision={self.precision}"
        return ", ".join(f"{n}={getattr(self, n)}" for n in names) + f", batch={BATCH}{augment}{network}{precision}"

    def require_device(self) -> None:
        """End the script where the device is not there, before any data are read."""
        if self.device == "gpu" and not torch.cuda.is_available():
            raise SystemExit(f"{self.title} by these settings needs an NVIDIA GPU, and torch finds none.")

    def classifier(self, seed: int, smoothing: float = 0.0) -> PyTorchClassifier:
        """Return an untrained classifier with the protocol's optimizer."""
        self.require_device()
        torch.manual_seed(seed)
        model = self.network()
        optimizer = torch.optim.SGD(model.parameters(), lr=self.lr, momentum=0.9, weight_decay=5e-4)
        loss = nn.CrossEntropyLoss(label_smoothing=smoothing)
        return PyTorchClassifier(
            model, loss, self.shape, 10, optimizer, clip_values=(0.0, 1.0), device_type=self.device
        )


@functools.cache
def _describe_network(network: Callable[[], nn.Module]) -> str:
    return hashlib.sha256(repr(network()).encode()).hexdigest()[:8]


def strided_cnn(channels: int, widths: tuple[int, ...], size: int, hidden: int | None = None) -> nn.Sequential:
    """Return 3x3 convolutions of stride 2 with BatchNorm, then one or two linear layers, for images of a size."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        channels, size = width, (size + 1) // 2
    features = channels * size**2
    if hidden is not None:
        layers += [nn.Flatten(), nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, 10)]
    else:
        layers += [nn.Flatten(), nn.Linear(features, 10)]
    return nn.Sequential(*layers)


def digits_cnn(width: int = 16) -> nn.Sequential:
    """Return the network for images (1, 8, 8)."""
    return strided_cnn(1, (width, 2 * width), 8, hidden=32)


def fashion_cnn(width: int = 32) -> nn.Sequential:
    """Return the network for images (1, 28, 28)."""
    return strided_cnn(1, (width, 2 * width), 28, hidden=128)


def cifar_cnn(width: int = 32) -> nn.Sequential:
    """Return the network for images (3, 32, 32)."""
    return strided_cnn(3, (width, 2 * width, 4 * width, 4 * width), 32)


def fashion_split(train: int) -> Split:
    """Return the first images of the training set, 1,000 from its end, and the first 1,000 of the test set."""
    if not FASHION_MNIST.is_dir():
        raise SystemExit(
            f"Fashion-MNIST is not in {FASHION_MNIST}: install Debian's package dataset-fashion-mnist, or set "
            "FASHION_MNIST to a folder with the data set's four files."
        )
    x, y = load_fashion_mnist(FASHION_MNIST, "train", 60_000)
    test = Part(*load_fashion_mnist(FASHION_MNIST, "test", 1_000))
    return Split(Part(x[:train], y[:train]), Part(x[-1_000:], y[-1_000:]), test)


def cifar_split() -> Split:
    """Return 1,000 images of the training set for validation, drawn once and for all, and the rest."""
    if not CIFAR10.is_file():
        raise SystemExit(
            f"{CIFAR10} is not there: set ART_GAIR_DATA to its folder. It holds x_train, y_train, x_test and y_test: "
            "the first 1,017 images of each of CIFAR-10's five training batches, and of its test batch, as uint8 "
            "(n, 32, 32, 3)."
        )
    x, y, x_test, y_test = load_cifar10(CIFAR10, None)
    y, y_test = (labels.astype(np.int64).ravel() for labels in (y, y_test))
    order = np.random.default_rng(0).permutation(len(x))
    validation, train = order[:1_000], order[1_000:]
    return Split(Part(x[train], y[train]), Part(x[validation], y[validation]), Part(x_test, y_test))


def cifar_paper_split() -> Split:
    """Return CIFAR-10 by ART's loader: 49,000 images to train, 1,000 to validate, 10,000 to test."""
    x, y, x_test, y_test = load_cifar10(None, None)
    return Split(Part(x[:-1_000], y[:-1_000]), Part(x[-1_000:], y[-1_000:]), Part(x_test, y_test))


def cifar_jpeg_split() -> Split:
    """Return a lossy copy of all of CIFAR-10: 49,000 images to train, 1,000 to validate, 10,000 to test."""
    train, test = (_decoded(DATA / f"cifar10-jpeg-{part}.npz") for part in ("train", "test"))
    return Split(Part(train.x[:-1_000], train.y[:-1_000]), Part(train.x[-1_000:], train.y[-1_000:]), test)


def _decoded(file: Path) -> Part:
    if not file.is_file():
        raise SystemExit(
            f"{file} is not there: set ART_GAIR_DATA to its folder. It holds jpeg, the bytes of all images one behind "
            "the other, offsets, where each begins and the last ends, and labels."
        )
    with np.load(file) as archive:
        data, offsets, labels = (archive[name] for name in ("jpeg", "offsets", "labels"))
    images = [np.asarray(Image.open(BytesIO(data[a:b].tobytes()))) for a, b in pairwise(offsets)]
    x = np.stack(images).transpose(0, 3, 1, 2) / np.float32(255)
    return Part(np.ascontiguousarray(x), labels.astype(np.int64))


def digits_split() -> Split:
    """Return scikit-learn's digits: 1,000 to train, 347 to validate, 450 to test."""
    x, x_test, y, y_test = digits(0)
    return Split(Part(x[:1_000], y[:1_000]), Part(x[1_000:], y[1_000:]), Part(x_test, y_test))


REGIMES = {
    "digits": Regime(
        *("digits", digits_split, digits_cnn, (1, 8, 8)),
        eps=0.2,
        passes=220,
        data="1000/347/450 of scikit-learn's digits, split 0",
        flips=False,
    ),
    "fashion": Regime(
        *("Fashion-MNIST, 6,000 images", lambda: fashion_split(6_000), fashion_cnn, (1, 28, 28)),
        eps=0.1,
        passes=176,
        data="first 6000/last 1000/first 1000 of the test set",
    ),
    "fashion_few": Regime(
        *("Fashion-MNIST, 1,000 images", lambda: fashion_split(1_000), fashion_cnn, (1, 28, 28)),
        eps=0.1,
        passes=1056,
        data="first 1000/last 1000/first 1000 of the test set",
    ),
    "cifar10": Regime(
        *("CIFAR-10, exact subset", cifar_split, cifar_cnn, (3, 32, 32)),
        eps=8 / 255,
        passes=396,
        data="4085/1000/1017, drawn by 0",
        augment=crop_and_flip,
    ),
    "cifar10_paper": Regime(
        *("CIFAR-10", cifar_paper_split, ResNet18, (3, 32, 32)),
        eps=8 / 255,
        passes=1100,
        data="first 49000/last 1000/10000",
        augment=crop_and_flip,
        lr=0.1,
        milestones=(0.3, 0.6),
        device="gpu",
    ),
    "cifar10_jpeg": Regime(
        *("CIFAR-10 (JPEG copy)", cifar_jpeg_split, ResNet18, (3, 32, 32)),
        eps=8 / 255,
        passes=330,
        data="first 49000/last 1000/10000 of the JPEG copy",
        augment=crop_and_flip,
        lr=0.1,
        device="gpu",
        precision="bf16",
    ),
}
"""By name. `cifar10_paper` is the paper's run: the whole of CIFAR-10 by ART's loader, ResNet-18, 100 epochs of AT;
`cifar10_jpeg` one of 30 epochs of AT, in bfloat16, on a lossy copy whose figures stand beside no others."""
