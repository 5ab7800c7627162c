"""What the words for a precision mean on a device."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from art_gair import AdversarialTrainerGAIRAT, GeometryAwarePGD, evaluate_robustness
from art_gair.engine import precision
from art_gair.engine.precision import compute_dtype, computes_bf16, exact_float32, find_inexact
from tests.models import digits, digits_classifier

CPU = torch.device("cpu")


@pytest.mark.parametrize("has_it", [True, False])
def test_auto_is_bf16_where_the_device_has_instructions_for_it(has_it: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "computes_bf16", lambda device: has_it)
    assert compute_dtype("auto", CPU) == (torch.bfloat16 if has_it else torch.float32)
    assert compute_dtype("bf16", CPU) == torch.bfloat16
    assert compute_dtype("fp32", CPU) == torch.float32


@pytest.mark.parametrize(
    ("capabilities", "has_it"),
    [({}, False), ({"avx512_f": True}, False), ({"avx512_bf16": True}, True), ({"amx_bf16": True}, True)],
)
def test_a_cpu_is_asked_for_its_capabilities(
    capabilities: dict[str, bool], has_it: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert computes_bf16(CPU) == has_it
    assert not computes_bf16(torch.device("meta"))


def test_switches_that_shorten_float32_are_found() -> None:
    with exact_float32():
        assert find_inexact(CPU) == {}
        torch.set_float32_matmul_precision("medium")
        found = find_inexact(CPU)
    assert len(found) == 1
    assert next(iter(found)).startswith("float32 mat")
    assert find_inexact(CPU) == {}


def test_an_autocast_of_the_callers_changes_no_number() -> None:
    classifier = digits_classifier()
    x, y = digits(40)
    attack = GeometryAwarePGD(classifier, eps=0.2, eps_step=0.05, max_iter=4, num_random_init=0)
    trainer = AdversarialTrainerGAIRAT(classifier, attack)
    outside = *attack.generate_with_kappa(x, y), trainer.predict(x)
    report = evaluate_robustness(classifier, x, y, eps=0.1, verbose=False)
    with torch.autocast("cpu", torch.bfloat16):
        inside = *attack.generate_with_kappa(x, y), trainer.predict(x)
        report_inside = evaluate_robustness(classifier, x, y, eps=0.1, verbose=False)
    for a, b in zip(outside, inside, strict=True):
        assert (a == b).all()
    assert (report.robust == report_inside.robust).all()
    for there, here in zip(report.attacks, report_inside.attacks, strict=True):
        assert np.array_equal(there.margins, here.margins, equal_nan=True)


def test_training_inside_an_autocast_is_refused_before_any_work() -> None:
    """The context would keep the weights as they were first cast, and train on a model that does not move."""
    trainer = AdversarialTrainerGAIRAT(classifier := digits_classifier())
    before = [p.detach().clone() for p in classifier.model.parameters()]
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(RuntimeError, match=r"inside torch\.autocast"):
        trainer.fit(*digits(40), nb_epochs=1, verbose=False)
    assert all(torch.equal(a, b) for a, b in zip(before, classifier.model.parameters(), strict=True))
    with torch.autocast("cuda", enabled=False):
        trainer.fit(*digits(40), nb_epochs=1, verbose=False)


@pytest.mark.parametrize(("offset", "told"), [(0.0, False), (1000.0, True)])
def test_a_model_that_bfloat16_rounds_away_is_told(offset: float, told: bool, caplog: pytest.LogCaptureFixture) -> None:
    """What all logits share says nothing, and beside it bfloat16 has no digits for what does."""
    classifier = digits_classifier()
    with torch.no_grad():
        list(classifier.model.parameters())[-1].add_(offset)
    attack = GeometryAwarePGD(classifier, eps=0.2, eps_step=0.1, max_iter=2)
    trainer = AdversarialTrainerGAIRAT(classifier, attack, precision="bf16")
    with caplog.at_level(logging.WARNING):
        trainer.fit(*digits(64), batch_size=32, nb_epochs=2, verbose=False)
    assert sum("bfloat16 rounds too much" in message for message in caplog.messages) == told
