"""Weightings on logits against literal formulas, and what all weightings hold."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from art_gair.weighting import (
    BoundaryWeighting,
    DiscreteWeighting,
    EntropyWeighting,
    InstanceWeighting,
    KappaBoundaryWeighting,
    KLDROWeighting,
    MarginWeighting,
    Mixed,
    SigmoidWeighting,
    TanhWeighting,
    UniformWeighting,
    WMMRWeighting,
    floored,
)
from tests.discovery import concrete_subclasses
from tests.reference import objectives as literal

SCHEMES: list[Any] = [
    UniformWeighting(),
    TanhWeighting(-1.0),
    SigmoidWeighting(0.0),
    DiscreteWeighting(),
    MarginWeighting(),
    MarginWeighting(slope=2.0, bias=0.0),
    WMMRWeighting(3.0),
    BoundaryWeighting(),
    BoundaryWeighting(slope=50.0, floor=0.0),
    KappaBoundaryWeighting(),
    EntropyWeighting(),
    KLDROWeighting(0.5),
    Mixed(TanhWeighting(-1.0), MarginWeighting(), 0.3),
    floored(TanhWeighting(-1.0), 0.2),
]


def test_every_weighting_of_the_package_is_tested() -> None:
    assert concrete_subclasses(InstanceWeighting) <= {type(s) for s in SCHEMES}


@pytest.mark.parametrize(
    ("scheme", "formula"),
    [
        (MarginWeighting(10.0, 0.5), lambda z, y: literal.mail(z, y, 10.0, -0.5)),
        (MarginWeighting(2.0, 0.0), lambda z, y: literal.mail(z, y, 2.0, 0.0)),
        (WMMRWeighting(2.5), lambda z, y: literal.wmmr(z, y, 2.5)),
        (BoundaryWeighting(3.0, 0.5), lambda z, y: literal.boundary(z, y, 3.0, 0.5)),
        (BoundaryWeighting(8.0, 0.0), lambda z, y: literal.boundary(z, y, 8.0, 0.0)),
        (EntropyWeighting(), literal.entropy),
        (KLDROWeighting(0.7), lambda z, y: literal.kl_dro(z, y, 0.7)),
    ],
    ids=["MAIL-AT", "MAIL-TRADES", "WMMR", "boundary", "boundary without floor", "EWAT", "KL-DRO"],
)
def test_equals_the_literal_formula(scheme: Any, formula: Callable[[list[float], int], float]) -> None:
    logits, labels = 2 * torch.randn(60, 5), torch.randint(5, (60,))
    raw = [formula(z, y) for z, y in zip(logits.tolist(), labels.tolist(), strict=True)]
    expected = torch.tensor(literal.mean_one(raw))
    torch.testing.assert_close(scheme(logits=logits, labels=labels, kappa=None, max_iter=0), expected)


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 20), spread=st.sampled_from([0.0, 1.0, 50.0, 1e4]))
def test_weights_are_sound_for_any_batch(scheme: Any, seed: int, n: int, spread: float) -> None:
    torch.manual_seed(seed)
    logits, labels, kappa = spread * torch.randn(n, 4), torch.randint(4, (n,)), torch.randint(11, (n,))
    w = scheme(kappa=kappa, max_iter=10, logits=logits, labels=labels, epoch=0)
    assert w.shape == (n,)
    assert torch.isfinite(w).all()
    assert (w >= 0).all()
    assert w.double().mean().item() == pytest.approx(1, abs=1e-5)
    order = torch.randperm(n)
    permuted = scheme(kappa=kappa[order], max_iter=10, logits=logits[order], labels=labels[order], epoch=0)
    torch.testing.assert_close(permuted, w[order], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scheme", [MarginWeighting(), WMMRWeighting(2.0), KLDROWeighting(1.0)], ids=repr)
def test_weights_rise_with_the_danger(scheme: Any) -> None:
    """Two classes: as the logit of the true one falls, margin and loss rise, and so do the weights."""
    logits = torch.stack([torch.linspace(4, -4, 30), torch.zeros(30)], dim=1)
    w = scheme(kappa=None, max_iter=0, logits=logits, labels=torch.zeros(30, dtype=torch.int64))
    assert (w.diff() >= 0).all()
    assert w[-1] > w[0]


def test_entropy_weights_peak_where_the_model_is_undecided() -> None:
    logits = torch.stack([torch.linspace(-4, 4, 31), torch.zeros(31)], dim=1)
    w = EntropyWeighting()(logits=logits, labels=torch.zeros(31, dtype=torch.int64))
    assert w.argmax() == 15
    assert (w[:16].diff() > 0).all()


@pytest.mark.parametrize("floor", [0.0, 0.25])
def test_boundary_weights_peak_on_the_boundary_and_fall_on_both_sides(floor: float) -> None:
    logits = torch.stack([torch.linspace(-4, 4, 31), torch.zeros(31)], dim=1)
    w = BoundaryWeighting(5.0, floor)(logits=logits, labels=torch.zeros(31, dtype=torch.int64))
    assert w.argmax() == 15
    assert (w[:16].diff() > 0).all()
    torch.testing.assert_close(w, w.flip(0))
    assert (w.min() / w.max()).item() == pytest.approx(floor, abs=0.01)


def test_boundary_weights_of_kappa_equal_the_literal_formula() -> None:
    """kappa = 0, misclassified without any perturbation, gets the floor; kappa = 1 the peak."""
    w = KappaBoundaryWeighting(3.0, 0.2)(kappa=torch.arange(5), max_iter=4)
    raw = [0.2, *(0.2 + 0.8 * math.exp(-3.0 * (kappa - 1) / 4) for kappa in (1, 2, 3, 4))]
    torch.testing.assert_close(w, torch.tensor(literal.mean_one(raw)))
    assert KappaBoundaryWeighting(3.0, 0.0)(kappa=torch.tensor([0, 1]), max_iter=4).tolist() == [0.0, 2.0]


@pytest.mark.parametrize("make", [BoundaryWeighting, KappaBoundaryWeighting])
@pytest.mark.parametrize("settings", [(0.0, 0.3), (5.0, 1.0)])
def test_flat_boundary_weights_are_uniform(make: Any, settings: tuple[float, float]) -> None:
    """But for kappa = 0 of a floor below 1, which is none of the boundary's."""
    batch: dict[str, Any] = {"logits": torch.randn(6, 3), "labels": torch.arange(6) % 3}
    assert make(*settings)(**batch, kappa=torch.arange(1, 7), max_iter=6).tolist() == [1.0] * 6


def test_a_floor_holds() -> None:
    kappa = torch.tensor([0] + [10] * 99)
    batch: dict[str, Any] = {"max_iter": 10, "logits": torch.zeros(100, 2), "labels": torch.zeros(100).long()}
    assert TanhWeighting(-1.0)(kappa=kappa, **batch).min() < 1e-3
    w = floored(TanhWeighting(-1.0), 0.25)(kappa=kappa, **batch)
    assert w.min() >= 0.25
    assert w.mean().item() == pytest.approx(1)


@pytest.mark.parametrize(("rho", "index"), [(0.0, 0), (1.0, 1)])
def test_mixed_at_its_ends_is_one_of_the_two(rho: float, index: int) -> None:
    parts = [TanhWeighting(0.0), MarginWeighting()]
    batch: dict[str, Any] = {"kappa": torch.arange(8), "max_iter": 10, "logits": torch.randn(8, 3)}
    batch |= {"labels": torch.randint(3, (8,)), "epoch": 0}
    assert torch.equal(Mixed(parts[0], parts[1], rho)(**batch), parts[index](**batch))


@pytest.mark.parametrize(
    "scheme",
    [MarginWeighting(1e308, 5.0), KLDROWeighting(1e-305), WMMRWeighting(1e308), BoundaryWeighting(1e308, 0.0)],
    ids=repr,
)
def test_extreme_settings_and_logits_give_no_nan(scheme: Any) -> None:
    logits = torch.tensor([[0.0, -torch.inf], [3.0, 1.0], [-50.0, 60.0]])
    w = scheme(logits=logits, labels=torch.tensor([1, 0, 0]))
    assert torch.isfinite(w).all()
    assert w.mean().item() == pytest.approx(1)


@pytest.mark.parametrize("bad", [lambda **b: [1.0, 1.0], lambda **b: torch.ones(1)])
def test_mixed_names_weights_that_are_none(bad: Any) -> None:
    batch: dict[str, Any] = {"kappa": torch.zeros(2), "max_iter": 3, "logits": torch.zeros(2, 3)}
    with pytest.raises(ValueError, match=r"weightings a and b returned .* expected two tensors of one shape"):
        Mixed(bad, UniformWeighting(), 0.5)(**batch, labels=torch.zeros(2).long())


def test_mixed_says_what_lam_is() -> None:
    schedule = TanhWeighting(lambda epoch: 3.0 - epoch)
    assert [floored(schedule, 0.1).lam_at(epoch) for epoch in (0, 2)] == [3.0, 1.0]
    assert Mixed(MarginWeighting(), UniformWeighting(), 0.5).lam_at(0) is None


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: MarginWeighting(slope=0.0), ValueError, "slope is 0.0; expected a finite number, > 0"),
        (lambda: MarginWeighting(bias=math.nan), ValueError, "bias is nan; expected a finite number"),
        (lambda: WMMRWeighting(-1.0), ValueError, "alpha is -1.0; expected a finite number, >= 0"),
        (lambda: BoundaryWeighting(slope=-1.0), ValueError, "slope is -1.0; expected a finite number, >= 0"),
        (lambda: BoundaryWeighting(floor=1.5), ValueError, "floor is 1.5; .* >= 0 and <= 1"),
        (lambda: KappaBoundaryWeighting(floor=-0.1), ValueError, "floor is -0.1; .* >= 0 and <= 1"),
        (lambda: KLDROWeighting("1"), TypeError, "temperature is '1'; expected a number"),  # type: ignore[arg-type]
        (lambda: Mixed(UniformWeighting(), UniformWeighting(), 1.5), ValueError, "rho is 1.5; .* >= 0 and <= 1"),
        (lambda: Mixed(UniformWeighting(), 3, 0.5), TypeError, "b is 3; expected a weighting"),  # type: ignore[arg-type]
        (lambda: Mixed(TanhWeighting, UniformWeighting(), 0.5), TypeError, "a is <class .*TanhWeighting'>; expected"),  # type: ignore[arg-type]
        (lambda: floored(UniformWeighting(), -0.1), ValueError, "share is -0.1"),
        (lambda: MarginWeighting()(kappa=torch.zeros(3), max_iter=3), ValueError, "MarginWeighting weighs by logits"),
        (lambda: TanhWeighting()(logits=torch.zeros(3, 2)), ValueError, "TanhWeighting weighs by kappa, which is None"),
        (lambda: UniformWeighting()(), ValueError, "UniformWeighting needs kappa, labels or logits"),
    ],
)
def test_bad_arguments_are_named(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
