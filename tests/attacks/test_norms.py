"""Random starts, projections and directions of the three norms."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from art_gair.attacks.norms import L1, NORMS, find_norm
from art_gair.engine.inputs import Box
from tests.reference.algorithm_1 import _onto_l1_ball

EPS = torch.tensor(0.7, dtype=torch.float64)


@pytest.mark.parametrize("norm", NORMS)
def test_random_starts_are_uniform_in_the_ball(norm: float) -> None:
    """||delta||^d is uniform on [0, eps^d] for a uniform point of any d-dimensional ball; signs are even."""
    d, n = 3, 20_000
    noise = NORMS[norm].sample(torch.zeros(n, 1, d, dtype=torch.float64), EPS).flatten(1)
    quantiles = (torch.linalg.vector_norm(noise, ord=norm, dim=1) / EPS) ** d
    assert quantiles.max() <= 1 + 1e-12
    uniform = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    assert (quantiles.sort().values - uniform).abs().max() < 1.63 / math.sqrt(n)  # Kolmogorov-Smirnov at 1 %
    assert ((noise > 0).double().mean(dim=0) - 0.5).abs().max() < 4 * 0.5 / math.sqrt(n)


@settings(max_examples=100)
@given(st.lists(st.floats(-3, 3), min_size=1, max_size=8))
def test_l1_projection_equals_bisection(values: list[float]) -> None:
    delta = torch.tensor([values, values[::-1]], dtype=torch.float64)
    projected = L1().project(delta, EPS)
    expected = torch.stack([_onto_l1_ball(row, EPS.item()) for row in delta])
    torch.testing.assert_close(projected, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_projection_leaves_the_inside_alone_and_takes_a_radius_for_each_sample(norm: float) -> None:
    inside = NORMS[norm].sample(torch.zeros(50, 2, 3, dtype=torch.float64), EPS * 0.99)
    torch.testing.assert_close(NORMS[norm].project(inside, EPS), inside, rtol=0, atol=1e-15)
    outside = torch.randn(50, 2, 3, dtype=torch.float64) * 10
    radii = torch.linspace(0.1, 2, 50, dtype=torch.float64).view(-1, 1, 1)
    lengths = torch.linalg.vector_norm(NORMS[norm].project(outside, radii).flatten(1), ord=norm, dim=1)
    torch.testing.assert_close(lengths, radii.flatten())


@pytest.mark.parametrize("norm", NORMS)
def test_a_zero_gradient_or_perturbation_stays_zero(norm: float) -> None:
    zero = torch.zeros(2, 5)
    assert torch.equal(NORMS[norm].direction(zero, zero, None), zero)
    assert torch.equal(NORMS[norm].project(zero, torch.tensor(0.1)), zero)


def test_l1_steps_along_a_feature_that_can_still_move() -> None:
    grad, x_adv = torch.tensor([[5.0, -3.0, 1.0]]), torch.tensor([[1.0, 0.0, 0.5]])
    unit_box = Box(torch.tensor(0.0), torch.tensor(1.0))
    assert L1().direction(grad, x_adv, None).tolist() == [[1, 0, 0]]
    assert L1().direction(grad, x_adv, unit_box).tolist() == [[0, 0, 1]]


@pytest.mark.parametrize("norm", ["2", 3, 0.5, None, True, "Inf", (2,)])
def test_unknown_norms_are_named(norm: object) -> None:
    with pytest.raises(ValueError, match=r"norm is .*; expected \"inf\", np.inf, 1 or 2"):
        find_norm(norm)
