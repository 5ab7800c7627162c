"""Choosing the view that attacks run on: the same predictions and gradients, in fewer and cheaper passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from art_gair.engine.attributes import Attributes
from art_gair.engine.classifier import Model, TensorClassifier
from art_gair.engine.compare import PROBE, REPEATS, ROUNDED_AWAY, Answer, Comparison, NoAnswerError, first_line
from art_gair.engine.fold import FoldedModule
from art_gair.engine.form import PLAIN, Form
from art_gair.engine.log import UNCHANGED, log_once, log_rounding, log_stale
from art_gair.engine.precision import compute_dtype
from art_gair.engine.record import Record
from art_gair.engine.trial import leaving_no_trace
from art_gair.engine.update import find_update_form
from art_gair.engine.view import ModelItself, View, has_hooks

HOOKS = "it has hooks, which must see each of its runs"


class FastClassifier(TensorClassifier):
    """A PyTorchClassifier whose attacks run on a fast view of its model; everything else is as in `TensorClassifier`.

    For attacks the model is traced once, and BatchNorm folded into the layer before it; weights need no gradients;
    images lie channel by channel for each pixel (channels-last); convolutions and matrix products run in bfloat16 if
    that is asked for. The update runs the model itself, in the same memory format and precision, with weights,
    gradients and optimizer state in float32.

    A view is used only while it gives the model's logits and input gradients on the first samples of a batch. It is
    held against the model when it is made, at each end of an epoch, whenever an attribute of the model has changed, and
    every RECHECK_EVERY batches. Otherwise your model runs unchanged, and the log says why.

    :param classifier: and `used_by`: as for `TensorClassifier`.
    :param precision: "fp32", "bf16" or "auto", which is bf16 on a device with instructions for it.
    :param compiled: whether attacks run the view through torch.compile.
    :raises TypeError, ValueError: if precision is another word, or compiled no bool; if the model is of another
        precision and does not take float32.
    """

    def __init__(
        self, classifier: Any, used_by: type | None = None, *, precision: str = "fp32", compiled: bool = False
    ) -> None:
        super().__init__(classifier, used_by)
        if not isinstance(compiled, bool):
            raise TypeError(f"compile is {compiled!r}; expected True or False.")
        self._require_float32()
        self.dtype = compute_dtype(precision, self.device)
        self.compiled = compiled
        self.view: View | None = None
        self.comparison = Comparison(self)
        self.attributes = Attributes(self.module)
        self.record = Record()
        self.update_tried = False
        self.users = 0

    def _require_float32(self) -> None:
        """Refuse a model of another precision that cannot take float32, which it is given."""
        other = {str(p.dtype) for p in self.module.parameters() if p.is_floating_point()} - {"torch.float32"}
        if not other:
            return
        try:
            with leaving_no_trace(self.module, self.device), self.evaluating(), torch.no_grad():
                self.logits(self.random_inputs(2))
        except RuntimeError as error:
            if "type" in str(error):  # of "Float and Double", or of another kind
                raise ValueError(
                    f"classifier's model has parameters of {', '.join(sorted(other))} and does not take float32, which "
                    f"it is given: {str(error).splitlines()[0]}. Expected a model in float32, as model.float() is; "
                    'precision="bf16" computes in bfloat16.'
                ) from error
        except Exception:  # random inputs are not for every model
            return

    def take_over(self, view: View | None) -> None:
        """Go on with the view of an earlier FastClassifier of the same settings; it is held against the model anew."""
        if view is not None and view.stand_in.source is self.module:
            self.view = view

    def begin_epoch(self) -> None:
        """Hold the view against the model again at the next batch, whose cause to differ may lie between epochs."""
        self.record.trusted = False

    def end_epoch(self) -> None:
        """Hold the view against the model once more, on the last batch, so that no batch goes unchecked."""
        probe = self.record.probe
        if probe is not None and self.users == 0:
            self.record.trusted = False
            with self.attacked(probe):
                self.record.probe, self.record.unchecked = None, 0

    @contextmanager
    def attacked(self, x: Tensor) -> Iterator[Model]:
        """Yield the view's logits, with the model's weights as they are now; the model itself is in eval mode.

        Enter it anew for each batch: a view is held against the model here, and nowhere else.
        """
        with self.evaluating():
            view = self._up_to_date(x)
            self.users += 1
            try:
                yield self._view_logits
            finally:
                self.users -= 1
                if self.users == 0:
                    view.stand_in.release()

    def _view_logits(self, x: Tensor) -> Tensor:
        view = self.view
        assert view is not None
        try:
            return self.logits_by(view.run, view.form, x)
        except RuntimeError as error:
            form = view.form.after(error)
            if form is None:
                raise
            self._say_contiguous("Attacks", form, error)
        self.view = view = replace(view, form=form)
        view.stand_in.run_as(form)
        return self.logits_by(view.run, form, x)

    def updates_otherwise(self, error: RuntimeError) -> bool:
        """Change the form of the update after an error that comes of it; return whether it was changed."""
        form = self.update_form.after(error)
        if form is None:
            return False
        self._say_contiguous("Updates", form, error)
        self.update_form = form
        return True

    def _say_contiguous(self, what: str, form: Form, error: RuntimeError) -> None:
        log_once(self.module, what, [first_line(error)], f"{what} run in {form} from here on")

    def training_logits(self, x: Tensor, labels: Tensor) -> Tensor:
        """Logits as `classifier.fit` computes them, in the update's form; see `TensorClassifier`."""
        if not self.update_tried:
            self.update_form, self.update_tried = self._choose_update_form(x[:PROBE]), True
        return super().training_logits(x, labels)

    def _choose_update_form(self, probe: Tensor) -> Form:
        if has_hooks(self.module):
            return Form(dtype=self.dtype)
        form, objections = find_update_form(self.comparison, self._forms(), probe)
        log_once(self.module, "update", objections, f"Updates run in {form}")
        return form

    def _up_to_date(self, x: Tensor) -> View:
        probe, view = x[:PROBE], self.view
        if view is None or not self._follows(view):
            return self._begin(x)
        if view.is_model:
            return view
        reading = self.attributes.read()
        changed = reading != self.record.reading
        if not (self.record.is_due or changed):
            self.record.count(probe)
            return view
        objection = self._object(view, probe)
        if objection is None:
            self.record.agreed(reading, probe)
            return view
        return self._replace(objection, x, changed=changed)

    def _follows(self, view: View) -> bool:
        """Take over the model's values; False if the model has other tensors now, or hooks that it had not."""
        if has_hooks(self.module):
            return view.run is self.module
        try:
            view.stand_in.refresh()
        except (AttributeError, RuntimeError, ValueError):
            return False
        return True

    def _object(self, view: View, probe: Tensor) -> str | None:
        with self.comparison.traceless():
            try:
                expected = self.comparison.expected(probe)
            except NoAnswerError as error:
                return str(error)
            return self.comparison.objection(view, probe, expected)

    def _replace(self, objection: str, x: Tensor, *, changed: bool) -> View:
        """Trace again where an attribute's change explains it, unless that is so all the time; else give up."""
        if changed and self.record.may_trace_again():
            return self._begin(x)
        if changed:
            reason = f"its attributes change every few batches, and then {objection}"
            log_once(self.module, "attributes", [reason], UNCHANGED)
        else:
            log_stale(self.module, objection, self.record.unchecked)
        self.view = View.unfolded(self.module)
        return self.view

    def _begin(self, x: Tensor) -> View:
        """Choose a view."""
        self.view = view = self._compile(self._choose(x[:PROBE]), x)
        self.record.begin(self.attributes.read(), x[:PROBE])
        return view

    def _choose(self, probe: Tensor) -> View:
        """Return the fastest view that agrees with the model: folded or not, in the better memory format or not."""
        if has_hooks(self.module):
            return self._explained(View.unfolded(self.module, Form(dtype=self.dtype)), [HOOKS])
        with self.comparison.traceless():
            try:
                expected = self.comparison.expected(probe, REPEATS)
            except NoAnswerError as error:
                return self._explained(View.unfolded(self.module), [str(error)])
            if self.dtype != torch.float32:
                share = self.comparison.rounded_away(probe, expected, self.dtype)
                if share > ROUNDED_AWAY:
                    log_rounding(self.module, self.dtype, share)
            return self._first_that_agrees(probe, expected)

    def _first_that_agrees(self, probe: Tensor, expected: Answer) -> View:
        objections: list[str] = []
        makers: tuple[Callable[[], FoldedModule | ModelItself], ...] = (
            lambda: FoldedModule(self.module, self.preprocessed(probe), self.dtype),
            lambda: ModelItself(self.module),
        )
        for make in makers:
            try:
                stand_in = make()
            except Exception as error:
                objections.append(f"it cannot be traced: {first_line(error)}")
                continue
            for form in self._forms():
                view = View(stand_in, form, stand_in.module)
                objection = self.comparison.objection(view, probe, expected)
                if objection is None:
                    return self._explained(view, objections)
                objections.append(objection)
            stand_in.release()
        return self._explained(View.unfolded(self.module), objections)

    def _compile(self, view: View, x: Tensor) -> View:
        """Return the view run through torch.compile if that is asked for and can be done here."""
        if not self.compiled or isinstance(view.stand_in, ModelItself):
            return view
        compiled = replace(view, run=torch.compile(view.stand_in.module))
        try:
            with self.comparison.traceless():
                self.comparison.answer(compiled.run, view.form, x)
        except Exception as error:
            return self._explained(view, [f"it cannot be compiled: {first_line(error)}"])
        return compiled

    def _explained(self, view: View, objections: list[str]) -> View:
        consequence = UNCHANGED if view.form == PLAIN else f"{UNCHANGED} in {view.form}"
        if isinstance(view.stand_in, FoldedModule):
            consequence = f"Attacks run a folded copy in {view.form}"
        log_once(self.module, "attack", objections, consequence)
        return view

    def _forms(self) -> list[Form]:
        images = [torch.channels_last] if len(self.input_shape) == 3 else []
        return [Form(memory_format, self.dtype) for memory_format in (*images, torch.contiguous_format)]
