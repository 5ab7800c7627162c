"""Checks of x and y, and the arrays they come in as tensors."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from art_gair.checks import require_fit

CHECKED_AT_ONCE = 1 << 20
"""Values that are looked at together, so that a check needs little memory beside the data."""

ROUNDING = 4, 24
ROUNDING_OF = {torch.float16: (2, 11), torch.bfloat16: (2, 8)}
"""Units in the last place by which a value may pass a bound, and the digits of its type, float32 unless it is shorter:
what resizing or scaling an image leaves."""


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
        """Raise ValueError where a value of x, on the same device, lies outside by more than rounding.

        It may pass a bound by ROUNDING units in the last place of the largest of its size, the bound's and the box's;
        `clip` then moves it to the bound. Waits for the device.

        :param x: in the type it came in.
        """
        units, digits = ROUNDING_OF.get(x.dtype, ROUNDING)
        x = x.to(torch.float32)  # as the model sees it: a float64 a rounding error past the edge is on it
        excess = torch.maximum(x - self.upper, self.lower - x)
        outside = excess > 0
        if not outside.any():
            return
        excess = excess[outside]
        value, lower, upper = (t.expand_as(x)[outside] for t in (x, self.lower, self.upper))
        bound, span = torch.where(value > upper, upper, lower), upper - lower
        size = torch.maximum(value.abs(), bound.abs()).maximum(torch.where(torch.isfinite(span), span, 0.0))
        too_far = excess - units * _ulp(size, digits)
        if (too_far > 0).any():
            i = int(too_far.argmax())
            at, low, high, past = (t[i].item() for t in (value, lower, upper, excess))
            raise ValueError(
                f"{name} has the value {at!r}, outside the classifier's clip_values {low!r} to {high!r} there by "
                f"{past:.3g}, which is more than rounding; rescale {name}, or correct clip_values."
            )


def _ulp(size: Tensor, digits: int) -> Tensor:
    """Unit in the last place of numbers of this size with so many binary digits."""
    return torch.ldexp(torch.ones_like(size), torch.frexp(size).exponent - digits)


def check_inputs(inputs: Tensor, name: str, input_shape: tuple[int | None, ...], box: Box | None) -> None:
    """Check samples: (n, *input_shape), finite, inside the box but for rounding.

    :param box: on the device of the samples; None for an unbounded input space.
    :raises ValueError: if they are empty, of the wrong shape, non-finite, or outside the box.
    """
    shape = tuple(inputs.shape)
    expected = zip(shape[1:], input_shape, strict=False)
    if len(shape) != len(input_shape) + 1 or any(size not in (None, s) for s, size in expected):
        raise ValueError(f"{name} has shape {shape}; expected (n, {', '.join(map(str, input_shape))}).")
    if len(inputs) == 0:
        raise ValueError(f"{name} is empty; expected at least one sample.")
    for part in inputs.split(max(1, CHECKED_AT_ONCE // max(1, inputs[0].numel()))):
        if not torch.isfinite(torch.stack(torch.aminmax(part.to(torch.float32)))).all():
            raise ValueError(f"{name} contains NaN or infinite values; expected finite numbers.")
        if box is not None:
            box.require_inside(part, name)


def check_labels(y: Any, n: int, name: str, nb_classes: int, *, unlabelled: bool = False) -> Tensor:
    """Check labels and return them as indices, int64 (n,): from indices (n,) or (n, 1), or one-hot (n, nb_classes).

    :param unlabelled: whether -1, no label, is a label too.
    :raises TypeError: if y is no real array.
    :raises ValueError: if y has the wrong shape or length, or labels that are no class of the classifier.
    """
    labels = as_tensor(y, name)
    if labels.ndim == 2 and labels.shape[1] == nb_classes and nb_classes > 1:
        if not ((labels == 0) | (labels == 1)).all() or not (labels.sum(dim=1) == 1).all():
            raise ValueError(
                f"{name} of shape {tuple(labels.shape)} is not one-hot; expected class indices (n,) or one-hot rows."
            )
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


def as_tensor(value: Any, name: str, *, bools: bool = True) -> Tensor:
    """Return a tensor that shares memory with value; nothing in this package writes into it.

    Read-only memory maps and their transposed or strided views are shared too. A copy is made only where torch cannot
    hold an array as it is: negative strides, foreign byte order, and uint16, uint32, uint64 and longdouble, which
    become int32, int64, int64 and float64.

    :param bools: whether True and False are taken, as 1 and 0.
    :raises TypeError: if value is no array of real numbers.
    """
    if isinstance(value, Tensor):
        if value.layout != torch.strided or value.is_meta or value.is_quantized:
            raise TypeError(f"{name} is a sparse, quantised or meta tensor; expected an array of real numbers.")
        if value.is_complex() or (value.dtype == torch.bool and not bools):
            raise TypeError(f"{name} has dtype {value.dtype}; expected real numbers.")
        return value.detach().view(torch.uint8) if value.dtype == torch.bool else value.detach()
    try:
        array: NDArray[Any] = np.asarray(value)
    except Exception as error:  # rows of different lengths, or whatever the object's own conversion raises
        raise TypeError(f"{name} is no array of real numbers: {error}") from error
    if array.dtype.kind not in ("biuf" if bools else "iuf"):
        raise TypeError(f"{name} has dtype {array.dtype}; expected an array of real numbers.")
    array = array.view(np.uint8) if array.dtype.kind == "b" else array.astype(_torch_dtype(array.dtype), copy=False)
    if any(stride < 0 or stride % array.itemsize for stride in array.strides):
        array = array.copy()
    with warnings.catch_warnings():  # torch warns of arrays that are not to be written into
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(array)


def _torch_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the nearest type that every version of torch computes with, in the byte order of this machine."""
    if dtype.kind == "u" and dtype.itemsize > 1:
        return np.dtype(np.int32 if dtype.itemsize == 2 else np.int64)
    if dtype.kind == "f" and dtype.itemsize > 8:
        return np.dtype(np.float64)
    return dtype.newbyteorder("=")
