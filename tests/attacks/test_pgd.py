"""The loop on tensors against the literal Algorithm 1, a closed form, and its invariants."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from art_gair.attacks.losses import LOSSES, cross_entropy, kl
from art_gair.attacks.norms import NORMS
from art_gair.attacks.pgd import PGD, input_gradient
from art_gair.engine.inputs import Box
from art_gair.logits import margin
from tests.models import mlp
from tests.reference import algorithm_1

SHAPES: list[tuple[int, ...]] = [(6,), (1, 9), (2, 3, 4)]
NORM_IDS = st.sampled_from([math.inf, 2.0, 1.0])


def box(bounds: algorithm_1.Bounds) -> Box | None:
    return None if bounds is None else Box(*(torch.tensor(b, dtype=torch.float64) for b in bounds))


def sizes(norm: float, d: int) -> tuple[float, float]:
    """Return eps and eps_step that fool some samples of the test models at different steps."""
    eps = {math.inf: 0.2, 2.0: 0.2 * math.sqrt(d), 1.0: 0.1 * d}[norm]
    return eps, eps / 3


def literal(
    model: nn.Module, x: Tensor, labels: Tensor, starts: list[Tensor], loss_name: str, **settings: Any
) -> tuple[Tensor, list[int]]:
    """Run the reference sample by sample; over the restarts keep the first success and the least kappa."""
    examples, kappas = [], []
    for i in range(len(x)):
        y = int(labels[i])
        with torch.no_grad():
            clean = model(x[i][None])[0]
        loss = {"ce": algorithm_1.cross_entropy, "margin": algorithm_1.margin, "kl": algorithm_1.kl_from(clean)}
        runs = [algorithm_1.attack_one(model, x[i], y, start=s[i], loss=loss[loss_name], **settings) for s in starts]
        successes = [x_adv for x_adv, _ in runs if int(model(x_adv[None])[0].argmax()) != y]
        examples.append(successes[0] if successes else runs[-1][0])
        kappas.append(min(kappa for _, kappa in runs))
    return torch.stack(examples), kappas


@settings(max_examples=150)
@given(
    seed=st.integers(0, 10**6),
    shape=st.sampled_from(SHAPES),
    nb_classes=st.integers(2, 5),
    norm=NORM_IDS,
    max_iter=st.integers(1, 8),
    restarts=st.integers(0, 3),
    loss=st.sampled_from(["ce", "margin", "kl"]),
    bounded=st.booleans(),
)
def test_equals_the_literal_algorithm(
    seed: int,
    shape: tuple[int, ...],
    nb_classes: int,
    norm: float,
    max_iter: int,
    restarts: int,
    loss: str,
    bounded: bool,
) -> None:
    torch.manual_seed(seed)
    model = mlp(shape, nb_classes).double()
    x = torch.rand(4, *shape, dtype=torch.float64)
    labels = torch.randint(nb_classes, (4,))
    labels[:3] = model(x[:3]).argmax(dim=1)
    eps, eps_step = sizes(norm, math.prod(shape))
    bounds = (0.0, 1.0) if bounded else None

    torch.manual_seed(seed)
    radii = torch.tensor(eps, dtype=torch.float64), torch.tensor(eps_step, dtype=torch.float64)
    x_adv, kappa = PGD(NORMS[norm], loss, max_iter, restarts, box(bounds))(model, x, labels, *radii)

    torch.manual_seed(seed)
    starts = [x + NORMS[norm].sample(x, radii[0]) for _ in range(restarts)] or [x]
    if loss == "kl" and restarts == 0:
        starts = [x + 0.001 * torch.randn_like(x)]
    settings_ = {"norm": norm, "eps": eps, "eps_step": eps_step, "max_iter": max_iter, "bounds": bounds}
    expected, kappas = literal(model, x, labels, starts, loss, **settings_)
    assert kappa.tolist() == kappas
    torch.testing.assert_close(x_adv, expected, rtol=0, atol=1e-9)


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), norm=NORM_IDS, max_iter=st.integers(1, 6), restarts=st.integers(0, 1))
def test_equals_the_literal_algorithm_with_masks_and_a_radius_for_each_sample(
    seed: int, norm: float, max_iter: int, restarts: int
) -> None:
    torch.manual_seed(seed)
    model = mlp((2, 5), 3).double()
    x = torch.rand(4, 2, 5, dtype=torch.float64)
    labels = model(x).argmax(dim=1)
    mask = torch.rand(4, 2, 5) < 0.6
    eps = sizes(norm, 10)[0] * (0.5 + torch.rand(4, 1, 1, dtype=torch.float64))
    eps_step = eps / 3
    attack = PGD(NORMS[norm], "ce", max_iter, restarts, box((0.0, 1.0)))
    torch.manual_seed(seed)
    x_adv, kappa = attack(model, x, labels, eps, eps_step, mask)
    torch.manual_seed(seed)
    start = x + NORMS[norm].sample(x, eps) if restarts else x
    for i in range(4):
        expected, looks = algorithm_1.attack_one(
            model,
            x[i],
            int(labels[i]),
            norm=norm,
            eps=eps[i].item(),
            eps_step=eps_step[i].item(),
            max_iter=max_iter,
            start=start[i],
            bounds=(0.0, 1.0),
            loss=algorithm_1.cross_entropy,
            mask=mask[i].double(),
        )
        assert kappa[i] == looks
        torch.testing.assert_close(x_adv[i], expected, rtol=0, atol=1e-9)


def test_the_literal_comparison_sees_every_kappa() -> None:
    """The models above are fooled at different steps, so the comparison is not about one value."""
    seen: set[int] = set()
    for seed in range(20):
        torch.manual_seed(seed)
        model = mlp((6,), 3)
        x = torch.rand(32, 6)
        labels = model(x).argmax(dim=1)
        eps, eps_step = torch.tensor(0.2), torch.tensor(0.05)
        seen |= set(PGD(NORMS[math.inf], "ce", 5, 0, None)(model, x, labels, eps, eps_step)[1].tolist())
    assert seen == {1, 2, 3, 4, 5}


@settings(max_examples=100)
@given(
    weights=st.lists(st.floats(-2, 2).filter(lambda w: abs(w) > 0.01), min_size=2, max_size=6),
    bias=st.floats(-1, 1),
    norm=NORM_IDS,
    max_iter=st.integers(1, 12),
    eps_step=st.floats(0.01, 0.5),
    steps_to_eps=st.floats(0.5, 6.0),
    loss=st.sampled_from(["ce", "margin"]),
)
def test_linear_model_has_kappa_in_closed_form(
    weights: list[float],
    bias: float,
    norm: float,
    max_iter: int,
    eps_step: float,
    steps_to_eps: float,
    loss: str,
) -> None:
    """Each step lowers the margin of a two-class linear model by eps_step times the dual norm of w, up to eps."""
    w = torch.tensor(weights, dtype=torch.float64)
    model = nn.Linear(len(weights), 2).double()
    with torch.no_grad():
        model.weight.copy_(torch.stack([torch.zeros_like(w), w]))
        model.bias.copy_(torch.tensor([0.0, bias]))
    x = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None] * w / w.norm() + 0.3
    margins = (x @ w + bias).tolist()
    labels = torch.tensor([int(m > 0) for m in margins])
    eps = eps_step * steps_to_eps
    dual = {math.inf: w.abs().sum(), 2.0: w.norm(), 1.0: w.abs().max()}[norm].item()

    radii = torch.tensor(eps, dtype=torch.float64), torch.tensor(eps_step, dtype=torch.float64)
    _, kappa = PGD(NORMS[norm], loss, max_iter, 0, None)(model, x, labels, *radii)

    for m, y, k in zip(margins, labels.tolist(), kappa.tolist(), strict=True):
        size = abs(m)
        left = [size - min(i * eps_step, eps) * dual for i in range(max_iter)]
        if min(abs(v) for v in left) < 1e-9:
            continue  # a tie of the logits, which rounding decides
        assert k == sum(v > 0 for v in left), (m, y)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    shape=st.sampled_from(SHAPES),
    norm=NORM_IDS,
    loss=st.sampled_from(sorted(LOSSES)),
    restarts=st.integers(0, 2),
    max_iter=st.integers(1, 7),
)
def test_stays_in_the_ball_the_box_and_the_range_of_kappa(
    seed: int, shape: tuple[int, ...], norm: float, loss: str, restarts: int, max_iter: int
) -> None:
    torch.manual_seed(seed)
    model = mlp(shape, 3)
    x = torch.rand(5, *shape).round(decimals=1)  # some on the very edge
    before = x.clone()
    eps, eps_step = sizes(norm, math.prod(shape))
    bounds = Box(torch.tensor(0.0), torch.tensor(1.0))
    attack = PGD(NORMS[norm], loss, max_iter, restarts, bounds)
    x_adv, kappa = attack(model, x, torch.randint(3, (5,)), torch.tensor(eps), torch.tensor(eps_step))
    delta = (x_adv.double() - x.double()).flatten(1)
    assert (torch.linalg.vector_norm(delta, ord=norm, dim=1) <= eps * (1 + 1e-6) + 1e-7).all()
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    assert kappa.dtype == torch.int64
    assert kappa.min() >= 0
    assert kappa.max() <= max_iter
    assert torch.equal(x, before)
    assert not x_adv.requires_grad


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), norm=NORM_IDS, loss=st.sampled_from(["ce", "margin"]))
def test_permuting_the_batch_permutes_the_outputs(seed: int, norm: float, loss: str) -> None:
    torch.manual_seed(seed)
    model = mlp((2, 3, 4), 4).double()
    x, labels, order = torch.rand(7, 2, 3, 4, dtype=torch.float64), torch.randint(4, (7,)), torch.randperm(7)
    attack = PGD(NORMS[norm], loss, 5, 0, None)
    radii = [torch.tensor(v, dtype=torch.float64) for v in sizes(norm, 24)]
    x_adv, kappa = attack(model, x, labels, *radii)
    x_adv_permuted, kappa_permuted = attack(model, x[order], labels[order], *radii)
    assert torch.equal(kappa[order], kappa_permuted)
    torch.testing.assert_close(x_adv[order], x_adv_permuted, rtol=0, atol=1e-12)


def test_rounding_does_not_leave_the_box() -> None:
    """Where x + (upper - x) is more than upper in float32, the last clip brings it back."""
    upper = torch.tensor(0.7)
    x = torch.rand(100_000, 1) * upper
    assert (x + (upper - x) > upper).any()
    model = nn.Linear(1, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.0], [1.0]]))
    attack = PGD(NORMS[2.0], "ce", 1, 0, Box(torch.tensor(0.0), upper))
    x_adv, _ = attack(model, x, torch.zeros(len(x), dtype=torch.int64), torch.tensor(5.0), torch.tensor(2.0))
    assert (x_adv == upper).float().mean() > 0.5
    assert x_adv.max() <= upper


def test_one_forward_a_step() -> None:
    calls = 0
    inner = mlp((6,), 3)

    def model(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        out: Tensor = inner(x)
        return out

    x, labels = torch.rand(4, 6), torch.randint(3, (4,))
    PGD(NORMS[math.inf], "ce", 7, 1, None)(model, x, labels, torch.tensor(0.1), torch.tensor(0.03))
    assert calls == 7


def test_a_gradient_of_nan_moves_nothing() -> None:
    def model(x: Tensor) -> Tensor:
        return torch.stack([x.sum(1), (x[:, 0] - x[:, 0]).sqrt() + x[:, 1]], dim=1)  # d sqrt(0) / dx is inf - inf

    x, labels = torch.full((2, 3), 0.5), torch.zeros(2, dtype=torch.int64)
    noted: list[Tensor] = []
    _, grad = input_gradient(model, x, labels, cross_entropy, None)
    assert torch.isnan(grad[:, 0]).all()
    attack = PGD(NORMS[math.inf], "ce", 3, 0, None, note_gradient=noted.append)
    x_adv, _ = attack(model, x, labels, torch.tensor(0.1), torch.tensor(0.05))
    assert (x_adv[:, 0] == x[:, 0]).all()
    assert (x_adv[:, 1:] != x[:, 1:]).all()
    assert [bool(torch.isnan(gradient).any()) for gradient in noted] == [True] * 3


def test_works_under_no_grad() -> None:
    model, x = mlp((6,), 3), torch.rand(4, 6)
    with torch.no_grad():
        x_adv, _ = PGD(NORMS[math.inf], "ce", 3, 0, None)(
            model, x, torch.randint(3, (4,)), torch.tensor(0.1), torch.tensor(0.05)
        )
    assert (x_adv != x).any()


def test_the_margin_is_negative_exactly_where_the_model_is_fooled() -> None:
    logits, labels = torch.randn(200, 5), torch.randint(5, (200,))
    assert torch.equal(margin(logits, labels) < 0, logits.argmax(dim=1) != labels)


def test_kl_is_zero_at_the_clean_logits_and_equals_its_formula() -> None:
    clean, logits = torch.randn(2, 50, 4, dtype=torch.float64)
    labels = torch.zeros(50, dtype=torch.int64)
    p, q = clean.softmax(1), logits.softmax(1)
    torch.testing.assert_close(kl(logits, labels, clean), (p * (p / q).log()).sum(1))
    torch.testing.assert_close(kl(clean, labels, clean), torch.zeros(50, dtype=torch.float64))


@pytest.mark.parametrize("norm", [2.0, 1.0])
def test_a_tiny_gradient_still_gives_a_whole_step(norm: float) -> None:
    grad = torch.full((1, 4), 1e-30)
    step = NORMS[norm].direction(grad, torch.full((1, 4), 0.5), None)
    assert np.isclose(torch.linalg.vector_norm(step, ord=norm).item(), 1.0)
