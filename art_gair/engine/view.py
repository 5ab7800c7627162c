"""The fast view of a classifier: the same predictions and gradients, in fewer and cheaper passes."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from art_gair import generators
from art_gair.engine.classifier import PLAIN, Form, Model, TensorClassifier, assign
from art_gair.engine.fold import FoldedModule
from art_gair.engine.precision import compute_dtype

logger = logging.getLogger(__name__)

PROBE = 4
"""Samples that a view is held against the model with."""

LOGITS_TOLERANCE = 1e-4
"""Largest difference of a logit, relative to the largest logit."""

GRADIENT_TOLERANCE = 1e-2
"""Length of the gradient's difference, relative to the gradient's. A mistake is as long as the gradient itself; a
single unit whose input lies within rounding of a kink is this much at most."""

TINY = 1e-30

HOOKS = "it has hooks, which are to see each of its runs and nothing else"

_told: WeakKeyDictionary[nn.Module, set[str]] = WeakKeyDictionary()

Answer = tuple[Tensor, Tensor]
"""Logits of a probe and the input gradient of a sum over them."""


class AsItIs:
    """The model itself, where no folded copy of it can be had."""

    def __init__(self, module: nn.Module) -> None:
        self.source = self.module = module

    def run_as(self, form: Form) -> None:
        """Leave the weights alone."""

    def refresh(self) -> None:
        """Do nothing: these are the model's own values."""

    def release(self) -> None:
        """Do nothing: they are needed."""


@dataclass(frozen=True)
class View:
    """What stands for the model in eval mode, and the form it is run in."""

    stand_in: FoldedModule | AsItIs
    form: Form
    run: Any
    """The stand-in's module, or what torch.compile made of it."""


class FastClassifier(TensorClassifier):
    """A PyTorchClassifier whose attacks run on a fast view of its model; everything else is as in `TensorClassifier`.

    For attacks the model is traced once, and BatchNorm folded into the layer before it; weights need no gradients;
    images lie channel by channel for each pixel (channels-last); convolutions and matrix products run in bfloat16 if
    that is asked for. The update runs the model itself, in the same memory format and precision, with weights,
    gradients and optimizer state in float32.

    A view is taken only if it gives the model's own logits and input gradients on the first samples that come, looked
    at anew in each epoch. What cannot be traced, has hooks, or comes out different is run as it stands, and the log
    says so once.

    :param classifier: and `used_by`: as for `TensorClassifier`.
    :param precision: "fp32", "bf16" or "auto", which is bf16 on a device with instructions for it.
    :param compiled: whether attacks run the view through torch.compile.
    :raises TypeError, ValueError: if precision is another word, or compiled no bool.
    """

    def __init__(
        self, classifier: Any, used_by: type | None = None, *, precision: str = "fp32", compiled: bool = False
    ) -> None:
        super().__init__(classifier, used_by)
        if not isinstance(compiled, bool):
            raise TypeError(f"compile is {compiled!r}; expected True or False.")
        self.dtype = compute_dtype(precision, self.device)
        self.compiled = compiled
        self.view: View | None = None
        self.trusted = False
        self.update_tried = False
        self.users = 0

    def take_over(self, view: View | None) -> None:
        """Go on with the view of an earlier FastClassifier of the same settings; it is held against the model anew."""
        if view is not None and view.stand_in.source is self.module:
            self.view = view

    def begin_epoch(self) -> None:
        """Hold the view against the model again at the next batch: attributes of the model may have changed since."""
        self.trusted = False

    @contextmanager
    def attacked(self, x: Tensor) -> Iterator[Model]:
        """Yield the view's logits, with the model's weights as they are now; the model itself is in eval mode."""
        with self.evaluating():
            view = self._up_to_date(x)
            self.users += 1
            try:
                yield lambda z: self._logits(z, view.run, view.form)
            finally:
                self.users -= 1
                if self.users == 0:
                    view.stand_in.release()

    def training_logits(self, x: Tensor, labels: Tensor) -> Tensor:
        """Logits as `classifier.fit` computes them, in the update's form; see `TensorClassifier`."""
        if not self.update_tried:
            self.update_form, self.update_tried = self._form_of_updates(x[:PROBE]), True
        return super().training_logits(x, labels)

    def _up_to_date(self, x: Tensor) -> View:
        if self.view is None or not self._still_good(self.view, x[:PROBE]):
            self.view = self._compiled(self._chosen(x[:PROBE]), x)
        self.trusted = True
        return self.view

    def _still_good(self, view: View, probe: Tensor) -> bool:
        if _hooked(self.module):
            return view.run is self.module
        try:
            view.stand_in.refresh()
        except (AttributeError, RuntimeError):  # the model has been rebuilt, or holds tensors of other shapes
            return False
        if self.trusted:
            return True
        with self._undone():
            try:
                expected = self._answer(self.module, PLAIN, probe)
            except Exception:
                return view.run is self.module
            return self._objection(view.stand_in, view.form, probe, expected) is None

    def _chosen(self, probe: Tensor) -> View:
        """Return the fastest view that agrees with the model: folded or not, in the better memory format or not."""
        if _hooked(self.module):
            return self._as_it_is(Form(dtype=self.dtype), [HOOKS])
        objections = []
        with self._undone():
            try:
                expected = self._answer(self.module, PLAIN, probe)
            except Exception as error:
                return self._as_it_is(PLAIN, [f"it cannot be run on {len(probe)} samples alone: {_line(error)}"])
            for stand_in_of in (FoldedModule, lambda module, x: AsItIs(module)):
                try:
                    stand_in = stand_in_of(self.module, self.preprocessed(probe))
                except Exception as error:
                    objections.append(f"it cannot be traced: {_line(error)}")
                    continue
                for form in self._forms():
                    objection = self._objection(stand_in, form, probe, expected)
                    if objection is None:
                        self._tell("attacked", stand_in, form, objections)
                        return View(stand_in, form, stand_in.module)
                    objections.append(objection)
                stand_in.release()
        return self._as_it_is(PLAIN, objections)

    def _compiled(self, view: View, x: Tensor) -> View:
        """Return the view run through torch.compile if that is asked for and can be done here."""
        if not self.compiled or isinstance(view.stand_in, AsItIs):
            return view
        compiled = replace(view, run=torch.compile(view.stand_in.module))
        try:
            with self._undone():
                self._answer(compiled.run, view.form, x)
        except Exception as error:
            self._tell("attacked", view.stand_in, view.form, [f"it cannot be compiled: {_line(error)}"])
            return view
        return compiled

    def _as_it_is(self, form: Form, objections: list[str]) -> View:
        self._tell("attacked", AsItIs(self.module), form, objections)
        return View(AsItIs(self.module), form, self.module)

    def _forms(self) -> list[Form]:
        images = [torch.channels_last] if len(self.input_shape) == 3 else []
        return [Form(memory_format, self.dtype) for memory_format in (*images, torch.contiguous_format)]

    def _objection(self, stand_in: FoldedModule | AsItIs, form: Form, probe: Tensor, expected: Answer) -> str | None:
        """Say what speaks against a view, or None; it is held against the model in float32, and left in its form."""
        exact, (logits, gradient) = replace(form, dtype=torch.float32), expected
        try:
            stand_in.run_as(exact)
            came_logits, came_gradient = self._answer(stand_in.module, exact, probe)
            stand_in.run_as(form)
            finite = torch.isfinite(self._answer(stand_in.module, form, probe)[0]).all()
        except Exception as error:
            return f"in {_words(form)} it fails: {_line(error)}"
        off = _distance(came_logits, logits)
        turned = (came_gradient - gradient).norm() / gradient.norm().clamp(min=TINY)
        if off <= LOGITS_TOLERANCE and turned <= GRADIENT_TOLERANCE and finite:
            return None
        return f"in {_words(form)} logits differ by {off:.1g} and gradients by {turned:.1g} of their size"

    @contextmanager
    def _undone(self) -> Iterator[None]:
        """Look at the model and leave no trace: its buffers and all generators are put back."""
        buffers = [(b, b.detach().clone()) for b in self.module.buffers()]
        with generators.restored(self.device):
            try:
                yield
            finally:
                assign([own for own, _ in buffers], [kept for _, kept in buffers])

    def _answer(self, module: Any, form: Form, probe: Tensor) -> Answer:
        """Logits, and the input gradient of a sum over them that tells the classes apart; the same noise each time."""
        generators.seed(self.device, 0)
        with torch.enable_grad():
            x = probe.detach().clone().requires_grad_(True)
            logits = self._logits(x, module, form)
            total = (logits * torch.linspace(-1.0, 1.0, self.nb_classes, device=self.device)).sum()
            (gradient,) = torch.autograd.grad(total, x)
        return logits.detach(), gradient

    def _form_of_updates(self, probe: Tensor) -> Form:
        """Return the fastest form that a copy of the model can be trained in."""
        if _hooked(self.module):
            return Form(dtype=self.dtype)
        objections = []
        for form in self._forms():
            try:
                with generators.restored(self.device), torch.enable_grad():
                    copied = copy.deepcopy(self.module).requires_grad_(False)
                    exact = self._answer(copied.eval(), replace(form, dtype=torch.float32), probe)[0]
                    off = _distance(exact, self._answer(copied, PLAIN, probe)[0])
                    x = torch.cat([probe, probe]).detach().requires_grad_(True)  # BatchNorm asks for more than one
                    torch.autograd.grad(self._logits(x, copied.train(), form).sum(), x)
            except Exception as error:
                objections.append(f"in {_words(form)} it fails: {_line(error)}")
                continue
            if off <= LOGITS_TOLERANCE:
                self._tell("updated", None, form, objections)
                return form
            objections.append(f"in {_words(form)} logits differ by {off:.1g} of their size")
        self._tell("updated", None, PLAIN, objections)
        return PLAIN

    def _tell(self, what: str, stand_in: FoldedModule | AsItIs | None, form: Form, objections: list[str]) -> None:
        """Log, once a model for attacks and once for updates, what it has to do without and why."""
        told = _told.setdefault(self.module, set())
        if objections and what not in told:
            told.add(what)
            how = " without folding," if isinstance(stand_in, AsItIs) else ""
            logger.warning(
                "%s is %s%s in %s; %s.", type(self.module).__name__, what, how, _words(form), "; ".join(objections)
            )


def _distance(came: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return float((came - expected).abs().max() / expected.abs().max().clamp(min=TINY))


HOOK_TABLES = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def _hooked(module: nn.Module) -> bool:
    if torch_module._has_any_global_hook():
        return True
    return any(getattr(m, table) for m in module.modules() for table in HOOK_TABLES)


def _words(form: Form) -> str:
    return f"{str(form.dtype).removeprefix('torch.')} and {str(form.memory_format).removeprefix('torch.')}"


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
