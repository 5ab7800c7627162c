"""Augmentation of training inputs on the device, before the attack; what it returns is checked and clipped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from art_gair.engine.inputs import Box


class Augment:
    """Applies a callable to the training inputs of a batch.

    :param transform: takes x, float32 (n, *input_shape) on the classifier's device, and returns the like.
    :param box: the classifier's clip_values, to which values are clipped, or None.
    :raises TypeError: if it cannot be called.
    """

    def __init__(self, transform: Callable[[Tensor], Tensor], box: Box | None) -> None:
        if not callable(transform) or isinstance(transform, type):
            raise TypeError(f"augment is {transform!r}; expected a callable on a batch of tensors, x -> x.")
        self.transform, self.box, self.looked = transform, box, False

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Return the batch augmented.

        :raises TypeError: if it cannot be called so.
        :raises ValueError: if its shape, type or device is not that of x, or, which a GPU is asked for on the first
            batch alone, if a value is not finite.
        """
        try:
            augmented: Any = self.transform(x.clone())
        except TypeError as error:
            raise TypeError(f"augment {self.transform!r} fails: {error}") from error
        expected = (tuple(x.shape), x.dtype, x.device)
        tensor = isinstance(augmented, Tensor)
        received = (tuple(augmented.shape), augmented.dtype, augmented.device) if tensor else type(augmented).__name__
        if received != expected:
            raise ValueError(f"augment returned {received}; expected {expected}, as it was given.")
        if (x.is_cpu or not self.looked) and not torch.isfinite(augmented).all():
            raise ValueError("augment returned NaN or infinite values; expected finite ones.")
        self.looked = True
        augmented = augmented.detach()
        return augmented.clone() if self.box is None else self.box.clip(augmented)  # it may return the same each time

    def __repr__(self) -> str:
        return repr(self.transform)
