"""CIFAR-10 and Fashion-MNIST for the examples, from ART's loader or files."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
from art.utils import load_dataset
from numpy.typing import NDArray

Arrays = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]


def load_cifar10(file: Path | None, subset: int | None) -> Arrays:
    """Return x_train, y_train, x_test, y_test: float32 images (n, 3, 32, 32) in [0, 1], integer labels (n,).

    :param file: an .npz file with these four arrays, images uint8 (n, 32, 32, 3); None: ART's own loader, which
        downloads CIFAR-10 once.
    :param subset: the first so many training images; None: all.
    :raises ValueError: if the file lacks an array.
    """
    names = ("x_train", "y_train", "x_test", "y_test")
    if file is None:
        (x_train, y_train), (x_test, y_test), _, _ = load_dataset("cifar10")
        y_train, y_test = y_train.argmax(axis=1), y_test.argmax(axis=1)
    else:
        with np.load(file) as archive:
            missing = [name for name in names if name not in archive]
            if missing:
                raise ValueError(f"--data {file} lacks {missing}; expected the arrays {', '.join(names)}.")
            x_train, y_train, x_test, y_test = (archive[name] for name in names)
        x_train, x_test = x_train / np.float32(255), x_test / np.float32(255)
    x_train, x_test = (np.ascontiguousarray(x.transpose(0, 3, 1, 2), dtype=np.float32) for x in (x_train, x_test))
    return x_train[:subset], y_train[:subset], x_test, y_test


def load_fashion_mnist(folder: Path, part: str, n: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the first n images (n, 1, 28, 28), float32 in [0, 1], and labels int64 (n,).

    :param folder: holds the four files of Fashion-MNIST, train-images-idx3-ubyte.gz and so on, as Debian's package
        dataset-fashion-mnist installs them in /usr/share/datasets/fashion-mnist.
    :param part: "train" or "test".
    """
    prefix = {"train": "train", "test": "t10k"}[part]
    with gzip.open(folder / f"{prefix}-images-idx3-ubyte.gz") as file:
        x = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)[:n]
    with gzip.open(folder / f"{prefix}-labels-idx1-ubyte.gz") as file:
        y = np.frombuffer(file.read(), np.uint8, offset=8)[:n]
    return x / np.float32(255), y.astype(np.int64)
