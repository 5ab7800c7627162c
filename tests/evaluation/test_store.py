"""Results are reused only for what they were measured on."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from art.attacks.evasion import FastGradientMethod
from torch import Tensor, nn

from art_gair.engine.precision import exact_float32
from art_gair.evaluation import RobustnessReport, evaluate_robustness
from art_gair.report.text import origin
from tests.evaluation.planted import EPS, adversarially_trained, held_out
from tests.models import classifier_of, conv_net


class Scaled(nn.Module):
    """A model with an attribute that changes what it computes."""

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        self.model, self.temperature = adversarially_trained().model, temperature
        self.register_buffer("shift", torch.zeros(10), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x) * self.temperature + self.shift
        return out


class Squared(Scaled):
    """The same state, another forward."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x**2) * self.temperature
        return out


def make(model: nn.Module | None = None, **settings: Any) -> Any:
    return classifier_of(Scaled() if model is None else model, (1, 8, 8), optimizer=None, **settings)


def evaluate(classifier: Any, folder: Path, n: int = 12, **settings: Any) -> RobustnessReport:
    x, y = held_out(n)
    report: RobustnessReport = evaluate_robustness(
        classifier, x, y, **{"eps": EPS, "verbose": False, "resume_from": folder, **settings}
    )
    return report


def shifted() -> nn.Module:
    model = Scaled()
    with torch.no_grad():
        model.get_buffer("shift").add_(0.1)
    return model


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (lambda: make(preprocessing=(0.1, 1.0)), "preprocessing"),
        (lambda: make(clip_values=(0.0, 1.5)), "clip_values"),
        (lambda: make(Scaled(temperature=2.0)), "model's attributes"),
        (lambda: make(Squared()), "model's architecture, model's source"),
        (lambda: make(shifted()), "model's values"),
        (lambda: make(adversarially_trained().model), "model's architecture, model's attributes, model's source"),
    ],
    ids=["preprocessing", "clip_values", "temperature", "forward", "buffer", "names"],
)
def test_results_of_another_classifier_are_refused(tmp_path: Path, change: Callable[[], Any], difference: str) -> None:
    evaluate(make(), tmp_path)
    evaluate(make(), tmp_path)
    with pytest.raises(ValueError, match=f"another evaluation: {difference}.* differ"):
        evaluate(change(), tmp_path)


def test_results_on_other_data_or_with_other_attacks_are_refused(tmp_path: Path) -> None:
    classifier = make()
    evaluate(classifier, tmp_path)
    with pytest.raises(ValueError, match="another evaluation: x, y differ"):
        evaluate(classifier, tmp_path, n=13)
    with pytest.raises(ValueError, match="another evaluation: attacks differ"):
        evaluate(classifier, tmp_path, attacks=[FastGradientMethod(classifier, eps=EPS)])


def test_results_of_float32_that_was_computed_otherwise_are_refused(tmp_path: Path) -> None:
    with exact_float32():
        torch.set_float32_matmul_precision("medium")
        report = evaluate(make(), tmp_path)
    assert report.environment["arithmetic"].startswith("float32 mat")
    assert report.environment["arithmetic"] in origin(report)["machine"]
    with pytest.raises(ValueError, match="float32 mat"):
        evaluate(make(), tmp_path)


def test_results_of_another_surrogate_model_are_refused(tmp_path: Path) -> None:
    classifier, surrogate = make(), make(Squared())
    evaluate(classifier, tmp_path, attacks=[FastGradientMethod(surrogate, eps=EPS)])
    evaluate(classifier, tmp_path, attacks=[FastGradientMethod(surrogate, eps=EPS)])
    other = make(conv_net())
    for attack in (FastGradientMethod(other, eps=EPS), FastGradientMethod(surrogate, eps=EPS, eps_step=0.01)):
        with pytest.raises(ValueError, match="another evaluation: attacks differ"):
            evaluate(classifier, tmp_path, attacks=[attack])


@pytest.mark.parametrize("damage", ["torn", "changed", "empty"])
def test_a_damaged_result_is_measured_again(tmp_path: Path, damage: str) -> None:
    first = evaluate(make(), tmp_path)
    path = tmp_path / "margin.json"
    text = path.read_text()
    content = json.loads(text)
    content["result"]["broken"] = [0] * 12
    path.write_text({"torn": text[: len(text) // 2], "changed": json.dumps(content), "empty": ""}[damage])
    with pytest.warns(UserWarning, match=r"margin.json is damaged .*; the attack is run again"):
        again = evaluate(make(), tmp_path)
    np.testing.assert_array_equal(first.attack("margin").broken, again.attack("margin").broken)


def test_a_torn_fingerprint_is_refused(tmp_path: Path) -> None:
    evaluate(make(), tmp_path)
    (tmp_path / "evaluation.json").write_text('{"eps"')
    with pytest.raises(ValueError, match=r"resume_from.* holds a torn evaluation.json"):
        evaluate(make(), tmp_path)


def test_a_folder_that_goes_away_costs_no_result(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "kept"

    class Removing(FastGradientMethod):
        def generate(self, x: Any, y: Any = None, **kwargs: Any) -> Any:
            shutil.rmtree(folder)
            return super().generate(x, y, **kwargs)

    classifier = make()
    with caplog.at_level(logging.WARNING, "art_gair"):
        report = evaluate(classifier, folder, attacks=[Removing(classifier, eps=EPS)])
    assert "Removing.json could not be written" in caplog.text
    assert report.attack("Removing").attacked.any()
