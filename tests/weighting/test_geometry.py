"""GAIRAT's weights against Eq. 6 and their invariants."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from art_gair import DiscreteWeighting, SigmoidWeighting, TanhWeighting, UniformWeighting
from art_gair.weighting import normalise
from tests.reference import equation_6

ANY_LAM = st.one_of(
    st.floats(-10, 10), st.floats(allow_nan=False), st.sampled_from([math.inf, -math.inf, 0.0, -1e30, 1e30])
)


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[int], int]:
    max_iter = draw(st.integers(1, 50))
    return draw(st.lists(st.integers(0, max_iter), min_size=1, max_size=40)), max_iter


def schemes(lam: float) -> list[Any]:
    return [TanhWeighting(lam), SigmoidWeighting(lam), DiscreteWeighting(), UniformWeighting()]


@pytest.mark.parametrize(
    ("scheme", "formula"),
    [
        (TanhWeighting, equation_6.tanh),
        (SigmoidWeighting, equation_6.sigmoid),
        (DiscreteWeighting, equation_6.discrete),
    ],
)
@given(batch=batches(), lam=st.floats(-3, 6))
def test_equals_equation_6(scheme: Any, formula: Any, batch: tuple[list[int], int], lam: float) -> None:
    kappas, max_iter = batch
    made = scheme() if scheme is DiscreteWeighting else scheme(lam)
    w = made(kappa=torch.tensor(kappas), max_iter=max_iter)
    np.testing.assert_allclose(w.numpy(), equation_6.weights(formula, kappas, max_iter, lam), rtol=2e-6, atol=2e-6)


@given(batch=batches(), lam=ANY_LAM)
def test_invariants_hold_for_any_lam_and_kappa(batch: tuple[list[int], int], lam: float) -> None:
    kappas, max_iter = batch
    kappa, order = torch.tensor(kappas), torch.randperm(len(kappas))
    for scheme in schemes(lam):
        w = scheme(kappa=kappa, max_iter=max_iter)
        assert w.shape == kappa.shape
        assert w.dtype == torch.float32
        assert torch.isfinite(w).all()
        assert (w >= 0).all()
        assert abs(w.double().mean().item() - 1) < 1e-5
        assert (w[kappa.argsort()].diff() <= 0).all()
        torch.testing.assert_close(scheme(kappa=kappa[order], max_iter=max_iter), w[order], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("scheme", [TanhWeighting, SigmoidWeighting])
@pytest.mark.parametrize("n", [1, 3, 49, 128])
def test_lam_inf_gives_exactly_one(scheme: Any, n: int) -> None:
    w = scheme(math.inf)(kappa=torch.arange(n) % 11, max_iter=10)
    assert torch.equal(w, torch.ones(n))


@pytest.mark.parametrize(("scheme", "rate"), [(TanhWeighting, 20.0), (SigmoidWeighting, 10.0)])
def test_lam_minus_inf_is_the_limit(scheme: Any, rate: float) -> None:
    kappa = torch.arange(11)
    limit = torch.exp(-rate * kappa.double() / 10)
    w = scheme(-math.inf)(kappa=kappa, max_iter=10)
    torch.testing.assert_close(w.double(), limit / limit.mean(), rtol=1e-5, atol=1e-9)


def test_all_guarded_batches_with_a_small_lam_have_weight_one() -> None:
    assert TanhWeighting(-20)(kappa=torch.full((7,), 10), max_iter=10).tolist() == [1.0] * 7


def test_ten_near_points_of_128_are_an_effective_sample_of_ten() -> None:
    """The paper's default and its danger, as facts of the method: 118 safe points count for nothing."""
    kappa = torch.tensor([0] * 10 + [10] * 118)
    w = TanhWeighting(-1.0)(kappa=kappa, max_iter=10)
    assert (w.sum() ** 2 / (w**2).sum()).item() == pytest.approx(10, abs=0.01)


def test_lam_follows_its_schedule() -> None:
    scheme = TanhWeighting(lambda epoch: math.inf if epoch < 2 else -1.0)
    kappa = torch.tensor([0, 10])
    assert scheme(kappa=kappa, max_iter=10, epoch=1).tolist() == [1.0, 1.0]
    assert torch.equal(
        scheme(kappa=kappa, max_iter=10, epoch=2), TanhWeighting(-1.0)(kappa=kappa, max_iter=10, epoch=0)
    )


@pytest.mark.parametrize("lam", ["1", None, True, [1.0], lambda epoch: "a"])
def test_a_lam_that_is_no_number_is_refused(lam: Any) -> None:
    with pytest.raises(TypeError, match=r"lam is .* in epoch 0; expected a number"):
        TanhWeighting(lam)


def test_a_lam_of_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="lam is NaN in epoch 0"):
        SigmoidWeighting(math.nan)


def test_normalise_takes_logarithms_of_any_size() -> None:
    log_w = torch.tensor([-2000.0, -2001.0, -3000.0], dtype=torch.float64)
    expected = torch.tensor([1.0, math.exp(-1), 0.0], dtype=torch.float64)
    torch.testing.assert_close(normalise(log_w).double(), expected / expected.mean(), rtol=1e-6, atol=1e-9)
    assert torch.equal(normalise(log_w + 5000), normalise(log_w))


def test_what_cannot_be_weighed_is_named() -> None:
    with pytest.raises(ValueError, match="max_iter is 0; expected an int of at least 1"):
        TanhWeighting()(kappa=torch.tensor([0]), max_iter=0)
    with pytest.raises(ValueError, match=r"kappa has shape \(0,\); expected .*at least one sample"):
        TanhWeighting()(kappa=torch.tensor([], dtype=torch.int64), max_iter=3)
