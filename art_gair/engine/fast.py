"""Choosing the view that attacks run on: the same predictions and gradients, in fewer and cheaper passes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from art_gair.engine.classifier import Model, TensorClassifier
from art_gair.engine.compare import PROBE, Answer, Comparison, first_line
from art_gair.engine.fold import FoldedModule
from art_gair.engine.form import PLAIN, Form
from art_gair.engine.precision import compute_dtype
from art_gair.engine.update import find_update_form
from art_gair.engine.view import ModelItself, View, has_hooks

logger = logging.getLogger(__name__)

HOOKS = "it has hooks, which must see each of its runs"

UNCHANGED = "Your model runs unchanged"

_logged: WeakKeyDictionary[nn.Module, set[str]] = WeakKeyDictionary()


class FastClassifier(TensorClassifier):
    """A PyTorchClassifier whose attacks run on a fast view of its model; everything else is as in `TensorClassifier`.

    For attacks the model is traced once, and BatchNorm folded into the layer before it; weights need no gradients;
    images lie channel by channel for each pixel (channels-last); convolutions and matrix products run in bfloat16 if
    that is asked for. The update runs the model itself, in the same memory format and precision, with weights,
    gradients and optimizer state in float32.

    A view is taken only if it gives the model's own logits and input gradients on the first samples that come, looked
    at anew in each epoch. Otherwise your model runs unchanged, and the log says so once.

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
        self.comparison = Comparison(self)

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
                yield lambda z: self.logits_by(view.run, view.form, z)
            finally:
                self.users -= 1
                if self.users == 0:
                    view.stand_in.release()

    def training_logits(self, x: Tensor, labels: Tensor) -> Tensor:
        """Logits as `classifier.fit` computes them, in the update's form; see `TensorClassifier`."""
        if not self.update_tried:
            self.update_form, self.update_tried = self._choose_update_form(x[:PROBE]), True
        return super().training_logits(x, labels)

    def _choose_update_form(self, probe: Tensor) -> Form:
        if has_hooks(self.module):
            return Form(dtype=self.dtype)
        form, objections = find_update_form(self.comparison, self._forms(), probe)
        self._log("updated", f"Updates run in {form}", objections)
        return form

    def _up_to_date(self, x: Tensor) -> View:
        if self.view is None or not self._still_good(self.view, x[:PROBE]):
            self.view = self._compile(self._choose(x[:PROBE]), x)
        self.trusted = True
        return self.view

    def _still_good(self, view: View, probe: Tensor) -> bool:
        if has_hooks(self.module):
            return view.run is self.module
        try:
            view.stand_in.refresh()
        except (AttributeError, RuntimeError):  # the model has been rebuilt, or holds tensors of other shapes
            return False
        if self.trusted:
            return True
        with self.comparison.undone():
            try:
                expected = self.comparison.expected(probe)
            except Exception:
                return view.run is self.module
            return self.comparison.objection(view.stand_in, view.form, probe, expected) is None

    def _choose(self, probe: Tensor) -> View:
        """Return the fastest view that agrees with the model: folded or not, in the better memory format or not."""
        if has_hooks(self.module):
            return self._unfolded(Form(dtype=self.dtype), [HOOKS])
        with self.comparison.undone():
            try:
                expected = self.comparison.expected(probe)
            except Exception as error:
                return self._unfolded(PLAIN, [f"it cannot be run on {len(probe)} samples alone: {first_line(error)}"])
            return self._first_that_agrees(probe, expected)

    def _first_that_agrees(self, probe: Tensor, expected: Answer) -> View:
        objections: list[str] = []
        makers: tuple[Callable[[], FoldedModule | ModelItself], ...] = (
            lambda: FoldedModule(self.module, self.preprocessed(probe)),
            lambda: ModelItself(self.module),
        )
        for make in makers:
            try:
                stand_in = make()
            except Exception as error:
                objections.append(f"it cannot be traced: {first_line(error)}")
                continue
            for form in self._forms():
                objection = self.comparison.objection(stand_in, form, probe, expected)
                if objection is None:
                    return self._explained(View(stand_in, form, stand_in.module), objections)
                objections.append(objection)
            stand_in.release()
        return self._unfolded(PLAIN, objections)

    def _compile(self, view: View, x: Tensor) -> View:
        """Return the view run through torch.compile if that is asked for and can be done here."""
        if not self.compiled or isinstance(view.stand_in, ModelItself):
            return view
        compiled = replace(view, run=torch.compile(view.stand_in.module))
        try:
            with self.comparison.undone():
                self.comparison.answer(compiled.run, view.form, x)
        except Exception as error:
            return self._explained(view, [f"it cannot be compiled: {first_line(error)}"])
        return compiled

    def _unfolded(self, form: Form, objections: list[str]) -> View:
        return self._explained(View.unfolded(self.module, form), objections)

    def _explained(self, view: View, objections: list[str]) -> View:
        if view.stand_in.module is not self.module:
            self._log("attacked", f"Attacks run in {view.form}", objections)
        elif view.form == PLAIN:
            self._log("attacked", UNCHANGED, objections)
        else:
            self._log("attacked", f"{UNCHANGED} but for {view.form}", objections)
        return view

    def _forms(self) -> list[Form]:
        images = [torch.channels_last] if len(self.input_shape) == 3 else []
        return [Form(memory_format, self.dtype) for memory_format in (*images, torch.contiguous_format)]

    def _log(self, what: str, consequence: str, objections: list[str]) -> None:
        """Log, once a model for attacks and once for updates, what it has to do without and why."""
        logged = _logged.setdefault(self.module, set())
        if objections and what not in logged:
            logged.add(what)
            reasons = "; ".join(objections)
            logger.warning("Fast path off for %s: %s. %s.", type(self.module).__name__, reasons, consequence)
