"""The form that a model can be trained in."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from art_gair import generators
from art_gair.engine.compare import LOGITS_TOLERANCE, Comparison, distance, first_line
from art_gair.engine.form import PLAIN, Form


def find_update_form(comparison: Comparison, forms: Sequence[Form], probe: Tensor) -> tuple[Form, list[str]]:
    """Return the first form in which a copy of the model gives its logits and can be trained, else PLAIN.

    :return: the form, and what spoke against the ones before it.
    """
    objections: list[str] = []
    for form in forms:
        objection = _objection(comparison, form, probe)
        if objection is None:
            return form, objections
        objections.append(objection)
    return PLAIN, objections


def _objection(comparison: Comparison, form: Form, probe: Tensor) -> str | None:
    classifier = comparison.classifier
    try:
        with generators.restored(classifier.device), torch.enable_grad():
            copied = copy.deepcopy(classifier.module).requires_grad_(False)
            exact = comparison.answer(copied.eval(), replace(form, dtype=torch.float32), probe)[0]
            off = distance(exact, comparison.answer(copied, PLAIN, probe)[0])
            x = torch.cat([probe, probe]).detach().requires_grad_(True)  # BatchNorm asks for more than one
            torch.autograd.grad(classifier.logits_by(copied.train(), form, x).sum(), x)
    except Exception as error:
        return f"in {form} it fails: {first_line(error)}"
    return None if off <= LOGITS_TOLERANCE else f"in {form} logits differ by {off:.1g} of their size"
