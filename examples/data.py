"""CIFAR-10 for the examples, from ART's loader or a file, and its crop + flip augmentation on tensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from art.utils import load_dataset
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

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


def crop_and_flip(x: Tensor, padding: int = 4) -> Tensor:
    """Shift each image by up to `padding` pixels, black beyond the edge, and mirror half of them: (n, c, h, w)."""
    n, _, height, width = x.shape
    top, left = torch.randint(0, 2 * padding + 1, (2, n, 1, 1))
    rows = top + torch.arange(height)[:, None]
    columns = left + torch.arange(width)
    columns = torch.where(torch.rand(n, 1, 1) < 0.5, columns.flip(-1), columns)
    padded = pad(x, (padding,) * 4).permute(0, 2, 3, 1)
    return padded[torch.arange(n)[:, None, None], rows, columns].permute(0, 3, 1, 2).contiguous()


@dataclass
class AugmentedBatches:
    """Batches (x, y) of arrays, shuffled and augmented anew each time they are gone through."""

    x: NDArray[Any]
    y: NDArray[Any]
    batch_size: int

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        x, y = torch.from_numpy(self.x), torch.from_numpy(self.y)
        for rows in torch.randperm(len(x)).split(self.batch_size):
            yield crop_and_flip(x[rows]), y[rows]
