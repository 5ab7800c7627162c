"""Augmentations by Kornia for `fit(augment=...)` and `fit_generator(augment=...)`: x -> x, batches on any device.

Each image is moved by itself. Positions are drawn from torch's global generator on the CPU: so `fit(seed=...)` repeats
them, on a GPU too, and a training that is resumed goes on with the same ones.
"""

from __future__ import annotations

from kornia.augmentation import RandomCrop, RandomHorizontalFlip
from torch import nn


def crop(size: int = 8, padding: int = 1) -> nn.Module:
    """Shift each image by up to `padding` pixels, black beyond the edge. Digits are not mirrored, so this is for them.

    :param size: height and width of the images.
    """
    # Kornia's default mode, "slice", loops over the images and reads four numbers of each from the device. This is one
    # operation for the batch; taking the nearest pixel, it gives the same images.
    transform: nn.Module = RandomCrop((size, size), padding, cropping_mode="resample", resample="nearest")
    return transform


def crop_and_flip(size: int = 32, padding: int = 4) -> nn.Module:
    """Shift each image and mirror half of them, as the paper does on CIFAR-10."""
    return nn.Sequential(crop(size, padding), RandomHorizontalFlip())
