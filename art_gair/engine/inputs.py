"""Checks of x and y, and the arrays they come in as tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from art_gair.checks import require_fit

CHECKED_AT_ONCE = 4096
"""Samples whose values are looked at together, so that a check needs little memory beside the data."""


@dataclass(frozen=True)
class Box:
    """The classifier's clip_values on its device: float32 bounds that broadcast against a batch of inputs."""

    lower: Tensor
    upper: Tensor

    @classmethod
    def of(cls, clip_values: Any, input_shape: tuple[int | None, ...], device: torch.device) -> Box | None:
        """ART's clip_values (scalars or one value a feature), or None for an unbounded input space."""
        if clip_values is None:
            return None
        bounds = [torch.as_tensor(np.asarray(c, dtype=np.float32), device=device) for c in clip_values]
        for bound in bounds:
            require_fit(bound.shape, "classifier's clip_values", [s or 1 for s in input_shape])
        return cls(*bounds)

    def clip(self, x: Tensor) -> Tensor:
        """Move x to the nearest point of the box."""
        return torch.clamp(x, self.lower, self.upper)

    def require_inside(self, x: Tensor, name: str) -> None:
        """Raise ValueError where a value of x, on the same device, lies outside; waits for the device."""
        excess = torch.maximum(x - self.upper, self.lower - x)
        if (excess > 0).any():
            i = int(excess.argmax())
            value, lower, upper = (t.expand_as(x).flatten()[i].item() for t in (x, self.lower, self.upper))
            raise ValueError(
                f"{name} has the value {value!r}, outside the classifier's clip_values {lower!r} to {upper!r} there; "
                f"rescale {name}, or correct clip_values."
            )


def check_inputs(inputs: Tensor, name: str, input_shape: tuple[int | None, ...], box: Box | None) -> None:
    """Check samples: (n, *input_shape), finite, inside the box.

    :param box: on the device of the samples; None for an unbounded input space.
    :raises ValueError: if they are empty, of the wrong shape, non-finite, or outside the box.
    """
    came, expected = tuple(inputs.shape), input_shape
    if len(came) != len(expected) + 1 or any(e not in (None, s) for s, e in zip(came[1:], expected, strict=True)):
        raise ValueError(f"{name} has shape {came}; expected (n, {', '.join(map(str, expected))}).")
    if len(inputs) == 0:
        raise ValueError(f"{name} is empty; expected at least one sample.")
    for part in inputs.split(CHECKED_AT_ONCE):
        seen = part.to(torch.float32)  # as the model will see it: a float64 a rounding error past the edge is on it
        if not torch.isfinite(torch.stack(torch.aminmax(seen))).all():
            raise ValueError(f"{name} contains NaN or infinite values; expected finite numbers.")
        if box is not None:
            box.require_inside(seen, name)


def check_labels(y: Any, n: int, name: str, nb_classes: int, *, unlabelled: bool = False) -> Tensor:
    """Check labels and return them as indices, int64 (n,): from indices (n,) or (n, 1), or one-hot (n, nb_classes).

    :param unlabelled: whether -1, no label, is a label too.
    :raises TypeError: if y is no real array.
    :raises ValueError: if y has the wrong shape or length, or labels that are no class of the classifier.
    """
    labels = as_tensor(y, name)
    if labels.ndim == 2 and labels.shape[1] == nb_classes and nb_classes > 1:
        if not ((labels == 0) | (labels == 1)).all() or not (labels.sum(dim=1) == 1).all():
            raise ValueError(f"{name} of shape {tuple(labels.shape)} is not one-hot; kappa needs one class a sample.")
        labels = labels.to(torch.uint8).argmax(dim=1)
    elif labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    elif labels.ndim != 1:
        raise ValueError(f"{name} has shape {tuple(labels.shape)}; expected ({n},) or one-hot ({n}, {nb_classes}).")
    if len(labels) != n:
        raise ValueError(f"{name} has {len(labels)} labels for {n} samples; expected one each.")
    if labels.is_floating_point() and not (labels == labels.floor()).all():
        raise ValueError(f"{name} holds values that are no class index; expected whole numbers or one-hot rows.")
    low, high = torch.aminmax(labels)
    least = -1 if unlabelled else 0
    if low < least or high >= nb_classes:
        raise ValueError(
            f"{name} holds labels {low.item():g} to {high.item():g}; expected {least} to {nb_classes - 1}."
        )
    return labels.to(torch.int64)


def as_tensor(value: Any, name: str) -> Tensor:
    """Return a tensor that shares memory with value where torch can hold its dtype, strides and byte order.

    :raises TypeError: if value is no array of real numbers.
    """
    if isinstance(value, Tensor):
        if value.is_complex():
            raise TypeError(f"{name} has dtype {value.dtype}; expected real numbers.")
        return value.detach().to(torch.uint8) if value.dtype == torch.bool else value.detach()
    array: NDArray[Any] = np.asarray(value)
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind not in "biuf":
        raise TypeError(f"{name} has dtype {array.dtype}; expected an array of real numbers.")
    dtype = array.dtype.newbyteorder("=")
    if kind == "b":
        dtype = np.dtype(np.uint8)
    elif kind == "u" and size > 1:
        dtype = np.dtype(np.int64)
    elif kind == "f" and size > 8:
        dtype = np.dtype(np.float64)
    array = np.ascontiguousarray(array, dtype=dtype)
    return torch.from_numpy(array if array.flags.writeable else array.copy())
