"""Augmentations by Kornia for `fit(augment=...)` and `fit_generator(augment=...)`: x -> x, batches on any device.

They need the extra `augment`: pip install art-gair[augment]. Images are (n, c, h, w), for `idbh_weak` with values in
[0, 1]. Each image is augmented by itself. All draws come from torch's global generator on the CPU: so `fit(seed=...)`
repeats them, on a GPU too, and a training that is resumed goes on with the same ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from art_gair.checks import require_int

Operation = Callable[[Tensor], Tensor]
"""Maps images (n, c, h, w) to the like; draws a strength for each."""


def crop(size: int = 8, padding: int = 1) -> nn.Module:
    """Shift each image by up to `padding` pixels, 0 beyond the edge. Digits are not mirrored, so this is for them.

    :param size: height and width of the images.
    :param padding: at least 0.
    :raises TypeError, ValueError: if an argument is no whole number, or too small.
    :raises ImportError: if Kornia is not installed.
    """
    size, padding = require_int(size, "size", at_least=1), require_int(padding, "padding", at_least=0)
    # Kornia's default mode, "slice", loops over the images and reads four numbers of each from the device. This is one
    # operation for the batch; taking the nearest pixel, it gives the same images.
    transform: nn.Module = _kornia().augmentation.RandomCrop(
        (size, size), padding, cropping_mode="resample", resample="nearest"
    )
    return transform


def crop_and_flip(size: int = 32, padding: int = 4) -> nn.Module:
    """Shift each image and mirror half of them, as the paper does on CIFAR-10."""
    return nn.Sequential(crop(size, padding), _kornia().augmentation.RandomHorizontalFlip())


def idbh_weak(*, flip: bool = True) -> IDBH:
    """IDBH-weak, made for adversarial training that overfits (Li & Spratling, ICLR 2023, arXiv 2301.09879).

    Mirror half of the images; CropShift of up to 10 of 32 pixels; one of eight operations on colour or shape; erase a
    random rectangle of half of the images. Where there are not three channels a change of saturation does nothing.

    :param flip: whether a mirrored image is one of the same class: not so for digits.
    :raises TypeError: if flip is no bool.
    :raises ImportError: if Kornia is not installed.
    """
    if not isinstance(flip, bool):
        raise TypeError(f"flip is {flip!r}; expected True or False.")
    return IDBH(flip)


class IDBH:
    """See `idbh_weak`."""

    def __init__(self, flip: bool) -> None:
        augmentation = _kornia().augmentation
        self.flip = augmentation.RandomHorizontalFlip() if flip else None
        self.shift = CropShift()
        self.operations = color_or_shape()
        self.erase = augmentation.RandomErasing(scale=(0.02, 0.33), ratio=(0.3, 3.3), p=0.5)
        self.looked = False

    def __call__(self, x: Tensor) -> Tensor:
        """Augment images (n, c, h, w) in [0, 1]; returns the like.

        :raises ValueError: if they are no images of at least 3 x 3, or, which a GPU is asked for on the first batch
            alone, lie outside [0, 1].
        """
        if x.ndim != 4 or min(x.shape[2:]) < 3:
            raise ValueError(f"idbh_weak got {tuple(x.shape)}; expected images (n, c, h, w) of at least 3 x 3.")
        if x.shape[1] == x.shape[2] != x.shape[3] or (x.shape[3] == 3 and x.shape[1] > 4):
            raise ValueError(f"idbh_weak got {tuple(x.shape)}, channels last it seems; expected images (n, c, h, w).")
        if (x.is_cpu or not self.looked) and (x.min() < 0 or x.max() > 1):
            raise ValueError(
                f"idbh_weak got images from {x.min():g} to {x.max():g}; expected values in [0, 1], "
                "such as augment=lambda x: 255 * idbh(x / 255) for images from 0 to 255."
            )
        self.looked = True
        if self.flip is not None:
            x = self.flip(x)
        x = one_of_each(self.operations, self.shift(x))
        erased: Tensor = self.erase(x)
        return erased

    def __repr__(self) -> str:
        return f"idbh_weak(flip={self.flip is not None})"


class CropShift:
    """Cut off up to `most` rows and columns together, and put what is left in a random place, black around it.

    Li & Spratling, ICLR 2023, Sec. 4: the image loses l rows and columns in all, l = 0..most, shared at random between
    height and width; place of the cut and of what is left are drawn independently.

    :param most: None: 10/32 of the smaller side, which is 10 for CIFAR-10.
    :raises TypeError, ValueError: if most is no whole number >= 0.
    """

    def __init__(self, most: int | None = None) -> None:
        self.most = None if most is None else require_int(most, "most", at_least=0)

    def __call__(self, x: Tensor) -> Tensor:
        """Augment images (n, c, h, w), larger than `most` both ways."""
        n, _, height, width = x.shape
        most = min(height, width) * 10 // 32 if self.most is None else self.most
        if most >= min(height, width):
            raise ValueError(f"most is {most} on images of {height} x {width}; expected less than either.")
        lost = torch.randint(most + 1, (n,))
        lost_columns = _draw_up_to(lost)
        rows, row_kept = _places(lost - lost_columns, height)
        columns, column_kept = _places(lost_columns, width)
        kept = (row_kept[:, :, None] & column_kept[:, None, :])[:, None]
        flat = (rows[:, :, None] * width + columns[:, None, :]).view(n, 1, -1).expand(-1, x.shape[1], -1)
        moved = x.flatten(2).gather(2, flat.to(x.device)).view_as(x)
        return torch.where(kept.to(x.device), moved, 0.0)

    def __repr__(self) -> str:
        return f"CropShift({self.most})"


def _draw_up_to(most: Tensor) -> Tensor:
    """Draw whole numbers 0..most, one for each of most, (n,)."""
    return (torch.rand(len(most)) * (most + 1)).long().clamp(max=most)


def _places(lost: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Cut `lost`, (n,), off `size` places and put the others anywhere.

    Returns, each (n, size), the place that each is filled from, and whether it is filled at all.
    """
    cut, put = _draw_up_to(lost), _draw_up_to(lost)
    place = torch.arange(size)[None] - put[:, None]
    kept = (place >= 0) & (place < size - lost[:, None])
    return (place + cut[:, None]).clamp(0, size - 1), kept


def color_or_shape() -> list[Operation]:
    """Return the eight operations of IDBH-weak, each as likely: six on colour and sharpness, shear and rotation."""
    kornia = _kornia()
    augmentation, enhance = kornia.augmentation, kornia.enhance
    shear = [float(torch.rad2deg(torch.tensor(radians))) for radians in (0.05, 0.15)]
    to_either_side = [(shear[0], shear[1]), (-shear[1], -shear[0])]
    shears = [(*side, 0.0, 0.0) for side in to_either_side] + [(0.0, 0.0, *side) for side in to_either_side]
    turns = [(1.0, 10.0), (-10.0, -1.0)]
    return [
        WithFactor(_saturate, 0.1),
        WithFactor(_brighten, 0.5),
        WithFactor(_contrast, 0.5),
        WithFactor(enhance.sharpness, 0.1),
        _stretch,
        enhance.equalize,
        partial(one_of_each, [augmentation.RandomShear(s, resample="nearest", p=1.0) for s in shears]),
        partial(one_of_each, [augmentation.RandomRotation(t, resample="nearest", p=1.0) for t in turns]),
    ]


@dataclass(frozen=True)
class WithFactor:
    """An operation whose factor is drawn for each image, from `least` to 1.9."""

    operation: Callable[[Tensor, Tensor], Tensor]
    least: float

    def __call__(self, x: Tensor) -> Tensor:
        """Change images, and keep them in [0, 1]."""
        factor = torch.empty(len(x)).uniform_(self.least, 1.9).to(x.device)
        return self.operation(x, factor).clamp(0.0, 1.0)


def _saturate(x: Tensor, factor: Tensor) -> Tensor:
    return torch.lerp(_grey(x), x, factor.view(-1, 1, 1, 1)) if x.shape[1] == 3 else x


def _brighten(x: Tensor, factor: Tensor) -> Tensor:
    return x * factor.view(-1, 1, 1, 1)


def _contrast(x: Tensor, factor: Tensor) -> Tensor:
    return torch.lerp(_grey(x).mean(dim=(2, 3), keepdim=True), x, factor.view(-1, 1, 1, 1))


def _stretch(x: Tensor) -> Tensor:
    """Stretch each channel from 0 to 1; a constant one stays."""
    low, high = x.amin(dim=(2, 3), keepdim=True), x.amax(dim=(2, 3), keepdim=True)
    return torch.where(high > low, (x - low) / (high - low), x)


def _grey(x: Tensor) -> Tensor:
    """Return the brightness of images, (n, 1, h, w)."""
    if x.shape[1] != 3:
        return x.mean(dim=1, keepdim=True)
    return (x * x.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)


def one_of_each(operations: list[Operation], x: Tensor) -> Tensor:
    """Apply to each image one of the operations, drawn by itself; each operation gets its images in one batch."""
    drawn = torch.randint(len(operations), (len(x),))
    augmented = x.clone()
    for number, operation in enumerate(operations):
        rows = (drawn == number).nonzero()[:, 0].to(x.device)
        if len(rows) > 0:
            augmented[rows] = operation(x[rows])
    return augmented


def _kornia() -> Any:
    """Import Kornia when it is needed: the package works without it.

    :raises ImportError: if it is not installed.
    """
    try:
        import kornia
    except ImportError as error:
        raise ImportError("augmentations need Kornia: pip install art-gair[augment]") from error
    return kornia
