"""The one place that reaches into ART's PyTorchClassifier: raw module, preprocessing, inputs, labels, device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from art.estimators.classification import PyTorchClassifier
from art.exceptions import EstimatorError
from torch import Tensor, nn

from art_gair.checks import runs_layer_by_layer
from art_gair.engine.form import PLAIN, Form
from art_gair.engine.inputs import Box, as_tensor, check_inputs, check_labels
from art_gair.engine.precision import without_autocast, without_cudnn
from art_gair.engine.preprocessing import preprocessing_step
from art_gair.engine.trial import leaving_no_trace

Model = Callable[[Tensor], Tensor]
"""Maps a batch of inputs to logits, (n, nb_classes)."""


PREDICTION = ("predict", "_apply_preprocessing", "_apply_postprocessing")
"""The methods by which a PyTorchClassifier predicts."""


def find_overrides(classifier: PyTorchClassifier) -> list[str]:
    """Return which of them are not PyTorchClassifier's, be it by a subclass or on the object itself."""
    return [
        name
        for name in PREDICTION
        if name in vars(classifier) or getattr(type(classifier), name) is not getattr(PyTorchClassifier, name)
    ]


LARGEST_SPAN = 2.0**24
"""Distance of clip_values up to which inputs are taken to fill them."""


class TensorClassifier:
    """A PyTorchClassifier as tensors see it: inputs in the classifier's own units go in, logits come out.

    The view is cheap and reads the classifier once, so it is made anew for every `generate` and every `fit`.

    :param classifier: an ART PyTorchClassifier whose preprocessing is all PyTorch and whose model returns one logit
        a class, shape (n, nb_classes).
    :param used_by: the public class that errors speak of.
    :raises EstimatorError: for anything but a PyTorchClassifier.
    :raises NotImplementedError: for numpy preprocessing, through which no gradient flows on tensors, for apex, and for
        a classifier that predicts otherwise than PyTorchClassifier does.
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
        overridden = find_overrides(classifier)
        if overridden:
            raise NotImplementedError(
                f"classifier is a {type(classifier).__name__}, which overrides {', '.join(overridden)}: it does not "
                "predict by one run of its model, which is what is attacked, trained and evaluated here. Attack or "
                "train a PyTorchClassifier around the same model; evaluate predict itself by ART's black-box attacks."
            )
        self.module: nn.Module = classifier.model
        self.device: torch.device = classifier.device
        self.nb_classes = int(classifier.nb_classes)
        self.input_shape: tuple[int | None, ...] = tuple(classifier.input_shape)
        self.box = Box.of(classifier.clip_values, self.input_shape, self.device)
        self._host_box = Box.of(classifier.clip_values, self.input_shape, torch.device("cpu"))
        self.postprocessing = [
            type(d).__name__ for d in classifier.postprocessing_defences or [] if getattr(d, "apply_predict", True)
        ]
        """Names of the defences that `classifier.predict` applies to the model's output; `logits` applies none."""
        self.update_form = PLAIN
        self._input_gradients: list[Tensor] = []
        self.passes = 0
        """Samples that attacks have taken a gradient of so far, one for each time."""
        self._predict_steps = [preprocessing_step(p) for p in classifier.preprocessing_operations if p.apply_predict]
        self._fit_steps = [preprocessing_step(p) for p in classifier.preprocessing_operations if p.apply_fit]
        if runs_layer_by_layer(self.module) and not self._agrees_with_its_layers():
            raise NotImplementedError(
                f"classifier's model is a {type(self.module).__name__}, an nn.Sequential with a forward of its own; "
                "ART's predict runs its layers one by one instead. So predict and model are two functions: derive the "
                "model from nn.Module, or put it into one."
            )

    def _agrees_with_its_layers(self) -> bool:
        """Whether forward and layers of a Sequential agree on two random samples; True if forward takes none."""
        with leaving_no_trace(self.module, self.device), self.evaluating(), torch.no_grad():
            layered = x = self.preprocessed(self.random_inputs(2))
            try:
                expected = self.module(x)
            except Exception:  # of a size that is free, or of values that must be whole numbers
                return True
            try:
                for layer in self.module.children():
                    layered = layer(layered)
            except Exception:
                return False
            return torch.equal(layered, expected)

    def random_inputs(self, n: int, *, around: float = 0.0) -> Tensor:
        """Return inputs as `batch` does, always the same: uniform in clip_values.

        Where these are farther apart than data are, within 1 of the lower one, or of 0. Each lies in half of the range
        of the one before. A size that is free is 8.

        :param around: where the ranges meet: at the lower clip value, 0, or in the middle, 0.5.
        """
        uniform = torch.rand(n, *(s or 8 for s in self.input_shape), generator=torch.Generator().manual_seed(0))
        uniform = around + (uniform - around) * 0.5 ** torch.arange(n).view(-1, *[1] * len(self.input_shape))
        if self._host_box is not None:
            lower = self._host_box.lower
            span = self._host_box.upper - lower
            filled = lower + torch.where(span <= LARGEST_SPAN, span, 1.0) * uniform
            uniform = torch.where(lower.abs() <= LARGEST_SPAN, filled, uniform - around)
        else:
            uniform = uniform - around
        return self.batch(uniform)

    def state(self) -> list[Tensor]:
        """Return the model's parameters and buffers themselves, detached; `assign` puts values into them.

        Asked for anew at each use, since a model may put new tensors in its buffers' places.
        """
        return [t.detach() for t in (*self.module.parameters(), *self.module.buffers())]

    @contextmanager
    def attacked(self, x: Tensor) -> Iterator[Model]:
        """Yield what an attack on x asks for logits: here `logits`, with the model in eval mode."""
        with self.evaluating():
            yield self.logits

    def note_gradient(self, gradient: Tensor) -> None:
        """Note the gradient by which an attack moves: the last one of a batch is looked at, if somebody asks for it.

        One look is enough: where it is NaN the sample does not move, and it is NaN there again. Where samples have left
        the computation, the last gradient that had them is looked at as well.
        """
        if self._input_gradients and len(self._input_gradients[-1]) == len(gradient):
            self._input_gradients.pop()
        self._input_gradients.append(gradient)
        self.passes += len(gradient)

    def take_gradient(self) -> list[Tensor]:
        """Return the last gradients that were noted, and forget them; empty if there were none."""
        taken, self._input_gradients = self._input_gradients, []
        return taken

    def begin_epoch(self) -> None:
        """Begin an epoch of a training; nothing here depends on it."""

    def end_epoch(self) -> None:
        """End an epoch, or a series of batches; nothing here depends on it."""

    def logits(self, x: Tensor) -> Tensor:
        """Logits as `classifier.predict` computes them, differentiable in x: (n, *input_shape) -> (n, nb_classes)."""
        return self.logits_by(self.module, PLAIN, x)

    def updates_otherwise(self, error: RuntimeError) -> bool:
        """Whether a failed update can be tried in another form of the model: never here, where there is one form."""
        return False

    def preprocessed(self, x: Tensor) -> Tensor:
        """What `classifier.predict` hands to the model for x."""
        for step in self._predict_steps:
            x, _ = step(x.clone(), None)
        return x

    def logits_by(self, module: Any, form: Form, x: Tensor) -> Tensor:
        """Logits that another module in another form computes in the model's place; as `logits` otherwise."""
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
        """Check logits. A model that squeezes a batch of one gives (nb_classes,), which becomes a row again."""
        if n == 1 and isinstance(out, Tensor) and out.shape == (self.nb_classes,):
            return out[None]
        if not isinstance(out, Tensor) or out.ndim != 2 or out.shape[1] != self.nb_classes:
            received = f"shape {tuple(out.shape)}" if isinstance(out, Tensor) else f"a {type(out).__name__}"
            raise ValueError(
                f"the classifier's model returned {received}; expected one logit a class, ({n}, {self.nb_classes})."
            )
        return out

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Put the model in eval mode, and every submodule's train/eval flag back as it was on leaving.

        Inside, a `torch.autocast` of the caller's is off: what is computed, and how, is asked for by a `Form`.
        """
        flags = [(m, m.training) for m in self.module.modules()]
        with ExitStack() as stack:
            stack.enter_context(without_autocast(self.device))
            if self.device.type == "cuda" and any(isinstance(m, nn.RNNBase) for m, _ in flags):
                # cuDNN refuses the backward pass of an RNN in eval mode; PyTorch's own kernels do not.
                stack.enter_context(without_cudnn())
            self.module.eval()
            try:
                yield
            finally:
                for module, training in flags:
                    module.training = training

    def inputs(self, x: Any, name: str = "x") -> Tensor:
        """Check samples and return them as they came, as a tensor: (n, *input_shape), real, finite, in clip_values.

        The tensor shares memory with x, see `as_tensor`; a value may pass clip_values by rounding. `batch` makes of
        some of its rows what attacks and models take.

        :raises TypeError: if x is no real array.
        :raises ValueError: if x is empty, of the wrong shape, non-finite, or outside clip_values by more than rounding.
        """
        inputs = as_tensor(x, name)
        box = self._host_box if inputs.device.type == "cpu" else self.box  # what lies on the host is checked there
        check_inputs(inputs, name, self.input_shape, box)
        return inputs

    def batch(self, x: Tensor) -> Tensor:
        """Return checked samples as a batch: float32 on the device, inside clip_values, in memory of its own.

        Contiguous, since random starts are drawn in the order of memory: the same samples give the same start.
        """
        on_gpu = self.device.type == "cuda"
        x = x.to(self.device, torch.float32, non_blocking=on_gpu, copy=self.box is None).contiguous()
        return x if self.box is None else self.box.clip(x)

    def labels(self, y: Any, n: int, name: str = "y", *, unlabelled: bool = False) -> Tensor:
        """Check labels and return them as indices, int64 (n,): from indices (n,) or (n, 1), or one-hot (n, nb_classes).

        :param unlabelled: whether -1, no label, is a label too.
        :raises TypeError: if y is no real array.
        :raises ValueError: if y has the wrong shape or length, or labels that are no class of the classifier.
        """
        return check_labels(y, n, name, self.nb_classes, unlabelled=unlabelled)
