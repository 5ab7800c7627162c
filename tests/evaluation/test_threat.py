"""Examples are judged inside the ball, beside features of any size; the truth is that of a linear model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from art_gair.engine.classifier import TensorClassifier
from art_gair.evaluation import RobustnessReport, evaluate_robustness
from art_gair.evaluation.attacks import PGDAttack, Try
from art_gair.evaluation.threat import Threat
from tests.evaluation.planted import EPS, adversarially_trained, held_out
from tests.models import classifier_of

DUAL = {np.inf: 1, 2: 2, 1: np.inf}
"""A linear score changes by at most eps times the dual norm of its weights."""


class LinearInDouble(nn.Module):
    """Logits (-s, s) of a linear score s around a point, computed in float64 so that only x is rounded."""

    def __init__(self, weights: NDArray[np.float64], centre: NDArray[np.float64]) -> None:
        super().__init__()
        self.weights, self.centre = nn.Parameter(torch.from_numpy(weights)), nn.Buffer(torch.from_numpy(centre))

    def forward(self, x: Tensor) -> Tensor:
        score = (x.double() - self.centre) @ self.weights
        return torch.stack([-score, score], dim=1).float()


def linear_report(
    x: NDArray[Any], centre: NDArray[np.float64], clip: Any, eps: float, norm: float
) -> tuple[RobustnessReport, float]:
    """Report on a linear model through a point.

    :return: the report, and the share of samples that no perturbation within eps moves across the boundary.
    """
    weights = np.random.default_rng(1).normal(size=x.shape[1])
    weights /= np.linalg.norm(weights, ord=DUAL[norm])
    x = x.astype(np.float32)
    score = (x.astype(np.float64) - centre) @ weights
    classifier = classifier_of(LinearInDouble(weights, centre), x.shape[1:], 2, clip_values=clip, optimizer=None)
    report = evaluate_robustness(classifier, x, (score > 0).astype(int), eps, norm, verbose=False)
    return report, float((np.abs(score) > eps).mean())


@pytest.mark.parametrize(("norm", "width"), [(np.inf, 4.0), (2, 3.0), (1, 3.0)])
def test_a_small_ball_beside_large_features_is_attacked_truly(norm: float, width: float) -> None:
    """Features of about 50,000 have a float32 spacing of 0.004, far more than a fixed slack of 1e-4 eps."""
    centre = np.full(8, 5e4)
    x = centre + np.random.default_rng(0).uniform(-width, width, (400, 8))
    report, truth = linear_report(x, centre, (0.0, 1e5), 2.3, norm)
    assert 0.0 < truth < 0.9
    assert report.worst_case == pytest.approx(truth, abs=0.01)
    assert report.warnings == []


def test_four_shares_and_an_income_are_attacked_truly() -> None:
    centre = np.array([0.5, 0.5, 0.5, 0.5, 5e4])
    x = centre + np.random.default_rng(0).uniform(-0.15, 0.15, (400, 5))
    clip = (np.zeros(5, dtype=np.float32), np.array([1, 1, 1, 1, 1e5], dtype=np.float32))
    report, truth = linear_report(x, centre, clip, 0.05, np.inf)
    assert 0.1 < truth < 0.9
    assert report.worst_case == pytest.approx(truth, abs=0.02)


def tries_that_return(*examples: Tensor) -> Any:
    def tries(self: Any, threat: Any, x: Tensor, labels: Tensor, seed: int, notes: list[str]) -> Iterator[Try]:
        for i, x_adv in enumerate(examples):
            yield Try(f"try {i}", x_adv.expand_as(x))

    return tries


def evaluate(n: int = 30) -> RobustnessReport:
    return evaluate_robustness(adversarially_trained(), *held_out(n), eps=EPS, verbose=False)


def test_an_example_outside_the_ball_is_projected_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PGDAttack, "tries", tries_that_return(torch.full((1, 8, 8), 7.0)))
    with pytest.warns(UserWarning, match=r"PGD-20: \d+ examples lay outside the ball"):
        report = evaluate()
    result = report.attack("pgd_20")
    assert result.projected == report.clean.correct.sum()
    x = torch.from_numpy(held_out(30)[0])
    brightened = torch.clamp(x + EPS, max=1.0)
    classes = adversarially_trained().predict(brightened.numpy()).argmax(axis=1)
    np.testing.assert_array_equal(result.broken, report.clean.correct & (classes != held_out(30)[1]))
    assert any("lay outside the ball" in warning for warning in report.warnings)
    assert "lay outside the ball" in report.table()


def test_an_example_that_is_no_number_is_discarded_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PGDAttack, "tries", tries_that_return(torch.tensor(torch.nan), torch.tensor(-torch.inf)))
    with pytest.warns(UserWarning, match=r"examples were NaN or infinite; the samples themselves were judged"):
        report = evaluate()
    for attack in report.attacks:
        assert attack.discarded == 2 * report.clean.correct.sum()
        assert not attack.broken.any()
    assert report.worst_case == report.clean_accuracy


@pytest.mark.parametrize("norm", [np.inf, 2, 1])
def test_settled_examples_lie_in_the_ball_and_rounding_is_not_counted(norm: float) -> None:
    threat = Threat(TensorClassifier(adversarially_trained()), norm, 0.4, 16)
    x = torch.rand(50, 1, 8, 8)
    inside, _ = threat.pgd(x, torch.zeros(50, dtype=torch.int64), loss="ce", max_iter=3, step=0.5)
    settled = threat.settle(x, inside)
    assert not (settled.projected | settled.discarded).any()
    torch.testing.assert_close(settled.x_adv, inside, rtol=0, atol=1e-6)
    settled = threat.settle(x, x + 3 * torch.randn_like(x))
    distance = torch.linalg.vector_norm((settled.x_adv.double() - x.double()).flatten(1), ord=float(norm), dim=1)
    assert settled.projected.all()
    assert (distance <= 0.4 * (1 + 1e-6)).all()
    assert settled.x_adv.min() >= 0.0
    assert settled.x_adv.max() <= 1.0
