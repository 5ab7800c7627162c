"""The one place that reaches into ART's PyTorchClassifier: raw module, preprocessing, inputs, labels, device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from art.exceptions import EstimatorError
from art.preprocessing.standardisation_mean_std.pytorch import StandardisationMeanStdPyTorch
from art.preprocessing.standardisation_mean_std.utils import broadcastable_mean_std
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

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


@dataclass(frozen=True)
class Form:
    """How a module is run: the memory format its images come in, and the precision of its arithmetic."""

    memory_format: torch.memory_format = torch.contiguous_format
    dtype: torch.dtype = torch.float32

    def __call__(self, module: nn.Module, x: Tensor) -> Any:
        """Run the module on a copy of x, since a model may begin with an operation in place."""
        x = x.clone(memory_format=self.memory_format) if x.ndim == 4 else x.clone()
        if self.dtype == torch.float32:
            return module(x)
        with torch.autocast(x.device.type, self.dtype):
            out: Any = module(x)
        return out.float() if isinstance(out, Tensor) else out


PLAIN = Form()

Model = Callable[[Tensor], Tensor]
"""Maps a batch of inputs to logits, (n, nb_classes)."""


class TensorClassifier:
    """A PyTorchClassifier as tensors see it: inputs in the classifier's own units go in, logits come out.

    The view is cheap and reads the classifier once, so it is made anew for every `generate` and every `fit`.

    :param classifier: an ART PyTorchClassifier whose preprocessing is all PyTorch and whose model returns one logit
        a class, shape (n, nb_classes).
    :param used_by: the public class that errors speak of.
    :raises EstimatorError: for anything but a PyTorchClassifier.
    :raises NotImplementedError: for numpy preprocessing, through which no gradient flows on tensors, and for apex.
    """

    def __init__(self, classifier: Any, used_by: type | None = None) -> None:
        if not isinstance(classifier, PyTorchClassifier):
            raise EstimatorError(used_by or type(self), [PyTorchClassifier], classifier)
        if not classifier.all_framework_preprocessing:
            names = [type(p).__name__ for p in classifier.preprocessing_operations]
            raise NotImplementedError(
                f"classifier has preprocessing {names} of which not all is PyTorch; the attack needs gradients through "
                "it on tensors, so only PyTorch-specific preprocessing defences are supported."
            )
        if classifier.use_amp:
            raise NotImplementedError("classifier uses use_amp=True, which needs apex; build it with use_amp=False.")
        self.module: nn.Module = classifier.model
        self.device: torch.device = classifier.device
        self.nb_classes = int(classifier.nb_classes)
        self.input_shape: tuple[int | None, ...] = tuple(classifier.input_shape)
        self.box = Box.of(classifier.clip_values, self.input_shape, self.device)
        self._host_box = Box.of(classifier.clip_values, self.input_shape, torch.device("cpu"))
        self.update_form = PLAIN
        self._predict_steps = [_step(p) for p in classifier.preprocessing_operations if p.apply_predict]
        self._fit_steps = [_step(p) for p in classifier.preprocessing_operations if p.apply_fit]

    def state(self) -> list[Tensor]:
        """Return the model's parameters and buffers themselves, detached; `assign` puts values into them.

        Asked for anew at each use, since a model may put new tensors in its buffers' places.
        """
        return [t.detach() for t in (*self.module.parameters(), *self.module.buffers())]

    def mixes_samples(self) -> bool:
        """Whether a sample's logits in eval mode depend on its company: BatchNorm without running statistics."""
        return any(isinstance(m, _BatchNorm) and m.running_mean is None for m in self.module.modules())

    @contextmanager
    def attacked(self, x: Tensor) -> Iterator[Model]:
        """Yield what an attack on x asks for logits: here `logits`, with the model in eval mode."""
        with self.evaluating():
            yield self.logits

    def begin_epoch(self) -> None:
        """Begin an epoch of a training; nothing here depends on it."""

    def logits(self, x: Tensor) -> Tensor:
        """Logits as `classifier.predict` computes them, differentiable in x: (n, *input_shape) -> (n, nb_classes)."""
        return self._logits(x, self.module)

    def preprocessed(self, x: Tensor) -> Tensor:
        """What `classifier.predict` hands to the model for x."""
        for step in self._predict_steps:
            x, _ = step(x.clone(), None)
        return x

    def _logits(self, x: Tensor, module: nn.Module, form: Form = PLAIN) -> Tensor:
        return self._one_a_class(form(module, self.preprocessed(x)), len(x))

    def training_logits(self, x: Tensor, labels: Tensor) -> Tensor:
        """Logits as `classifier.fit` computes them, its fit-time preprocessing included: -> (n, nb_classes).

        :raises NotImplementedError: if the preprocessing changes the labels, as Mixup does: kappa belongs to one label.
        """
        for step in self._fit_steps:
            x, y = step(x.clone(), labels)
            if y is not None and y is not labels and not torch.equal(y, labels):
                raise NotImplementedError(
                    "the classifier's fit-time preprocessing changes the labels; instance weights need one label a "
                    "sample, so only preprocessing that leaves labels alone is supported."
                )
        return self._one_a_class(self.update_form(self.module, x), len(x))

    def _one_a_class(self, out: Any, n: int) -> Tensor:
        if not isinstance(out, Tensor) or out.ndim != 2 or out.shape[1] != self.nb_classes:
            came = f"shape {tuple(out.shape)}" if isinstance(out, Tensor) else f"a {type(out).__name__}"
            raise ValueError(
                f"the classifier's model returned {came}; expected one logit a class, ({n}, {self.nb_classes})."
            )
        return out

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Put the model in eval mode, and every submodule's train/eval flag back as it was on leaving."""
        flags = [(m, m.training) for m in self.module.modules()]
        with ExitStack() as stack:
            if self.device.type == "cuda" and any(isinstance(m, nn.RNNBase) for m, _ in flags):
                # cuDNN refuses the backward pass of an RNN in eval mode; PyTorch's own kernels do not.
                stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            self.module.eval()
            try:
                yield
            finally:
                for module, training in flags:
                    module.training = training

    def inputs(self, x: Any, name: str = "x") -> Tensor:
        """Check samples and return them as they came, as a tensor: (n, *input_shape), real, finite, in clip_values.

        :raises TypeError: if x is no real array.
        :raises ValueError: if x is empty, of the wrong shape, non-finite, or outside clip_values.
        """
        inputs = as_tensor(x, name)
        came, expected = tuple(inputs.shape), self.input_shape
        if len(came) != len(expected) + 1 or any(e not in (None, s) for s, e in zip(came[1:], expected, strict=True)):
            raise ValueError(f"{name} has shape {came}; expected (n, {', '.join(map(str, expected))}).")
        if len(inputs) == 0:
            raise ValueError(f"{name} is empty; expected at least one sample.")
        box = self._host_box if inputs.device.type == "cpu" else self.box  # what lies on the host is checked there
        for part in inputs.split(CHECKED_AT_ONCE):
            seen = part.to(torch.float32)  # as the model will see it: a float64 a rounding error past the edge is on it
            if not torch.isfinite(torch.stack(torch.aminmax(seen))).all():
                raise ValueError(f"{name} contains NaN or infinite values; expected finite numbers.")
            if box is not None:
                box.require_inside(seen, name)
        return inputs

    def labels(self, y: Any, n: int, name: str = "y", *, unlabelled: bool = False) -> Tensor:
        """Check labels and return them as indices, int64 (n,): from indices (n,) or (n, 1), or one-hot (n, nb_classes).

        :param unlabelled: whether -1, no label, is a label too.
        :raises TypeError: if y is no real array.
        :raises ValueError: if y has the wrong shape or length, or labels that are no class of the classifier.
        """
        labels = as_tensor(y, name)
        if labels.ndim == 2 and labels.shape[1] == self.nb_classes and self.nb_classes > 1:
            if not ((labels == 0) | (labels == 1)).all() or not (labels.sum(dim=1) == 1).all():
                raise ValueError(
                    f"{name} of shape {tuple(labels.shape)} is not one-hot; kappa needs one class a sample."
                )
            labels = labels.to(torch.uint8).argmax(dim=1)
        elif labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        elif labels.ndim != 1:
            raise ValueError(
                f"{name} has shape {tuple(labels.shape)}; expected ({n},) or one-hot ({n}, {self.nb_classes})."
            )
        if len(labels) != n:
            raise ValueError(f"{name} has {len(labels)} labels for {n} samples; expected one each.")
        if labels.is_floating_point() and not (labels == labels.floor()).all():
            raise ValueError(f"{name} holds values that are no class index; expected whole numbers or one-hot rows.")
        low, high = torch.aminmax(labels)
        least = -1 if unlabelled else 0
        if low < least or high >= self.nb_classes:
            raise ValueError(
                f"{name} holds labels {low.item():g} to {high.item():g}; expected {least} to {self.nb_classes - 1}."
            )
        return labels.to(torch.int64)


@torch.no_grad()
def assign(targets: Sequence[Tensor], values: Iterable[Tensor]) -> None:
    """Copy values into tensors, in place and bit for bit."""
    for target, value in zip(targets, values, strict=True):
        target.copy_(value)


PreprocessingStep = Callable[[Tensor, "Tensor | None"], "tuple[Tensor, Tensor | None]"]


def _step(preprocessor: Any) -> PreprocessingStep:
    """One preprocessing operation on tensors; ART's standardisation without its copy from the host at every call."""
    if not isinstance(preprocessor, StandardisationMeanStdPyTorch):
        return preprocessor.forward  # type: ignore[no-any-return]
    if (preprocessor.mean == 0).all() and (preprocessor.std == 1).all():
        return lambda x, y: (x, y)
    on_device: list[Tensor] = []

    def standardise(x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if not on_device:
            mean_std = broadcastable_mean_std(x, preprocessor.mean, preprocessor.std)
            on_device.extend(torch.as_tensor(v, dtype=torch.float32, device=x.device) for v in mean_std)
        mean, std = on_device
        return (x - mean) / std, y

    return standardise


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
