"""Objectives against literal formulas, ART's TRADES, and their special cases."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from art.attacks.evasion import ProjectedGradientDescentPyTorch
from art.defences.trainer import AdversarialTrainerTRADESPyTorch
from torch import Tensor, nn

from art_gair import AdversarialTrainerGAIRAT, GeometryAwarePGD, UniformWeighting
from art_gair.engine.classifier import TensorClassifier
from art_gair.objectives import AT, MART, TRADES, ARoW, Batch, CompositeKL, Objective
from art_gair.objectives.mart import log_one_minus_best_other
from art_gair.objectives.per_sample import per_sample
from tests.discovery import concrete_subclasses
from tests.models import classifier_of, digits, mlp
from tests.reference import objectives as literal

OBJECTIVES = [AT(), ARoW(), TRADES(), TRADES(3.0, "ce"), TRADES(3.0, "both"), MART(), CompositeKL()]


def test_every_objective_of_the_package_is_tested() -> None:
    assert concrete_subclasses(Objective) <= {type(o) for o in OBJECTIVES}


def batch_of(n: int = 12) -> tuple[TensorClassifier, Callable[[Tensor, Tensor], Tensor], Batch]:
    """Return a float64 model with its loss and a batch whose adversarial inputs are random neighbours."""
    classifier = TensorClassifier(classifier_of(mlp((5,), 4).double(), (5,), 4, clip_values=None))
    x = torch.rand(n, 5, dtype=torch.float64)
    neighbours = [x + 0.3 * torch.randn_like(x) for _ in range(2)]
    batch = Batch(x, neighbours[0], torch.arange(n) % 4, neighbours[1])
    return classifier, per_sample(nn.CrossEntropyLoss(), 4, classifier.device), batch


@pytest.mark.parametrize("weigh", ["kl", "ce", "both"])
def test_trades_equals_its_formula(weigh: str) -> None:
    classifier, loss, batch = batch_of()
    objective, w = TRADES(4.0, weigh), torch.rand(12, dtype=torch.float64) + 0.1
    total = objective.total(w, objective(classifier, loss, batch))
    expected = [
        literal.trades(c, a, y, 4.0, wi if weigh in ("ce", "both") else 1.0, wi if weigh in ("kl", "both") else 1.0)
        for c, a, y, wi in rows(classifier, batch, w)
    ]
    assert total.item() == pytest.approx(np.mean(expected), rel=1e-9)


def test_mart_equals_its_formula() -> None:
    classifier, loss, batch = batch_of()
    objective, w = MART(3.0), torch.rand(12, dtype=torch.float64) + 0.1
    total = objective.total(w, objective(classifier, loss, batch))
    expected = [literal.mart(c, a, y, 3.0, wi) for c, a, y, wi in rows(classifier, batch, w)]
    assert total.item() == pytest.approx(np.mean(expected), rel=1e-9)


@pytest.mark.parametrize("smoothing", [0.0, 0.2, 1.0])
def test_arow_equals_its_formula(smoothing: float) -> None:
    classifier, loss, batch = batch_of()
    objective, w = ARoW(3.0, smoothing), torch.rand(12, dtype=torch.float64) + 0.1
    total = objective.total(w, objective(classifier, loss, batch))
    expected = [literal.arow(c, a, y, 3.0, smoothing, wi) for c, a, y, wi in rows(classifier, batch, w)]
    assert total.item() == pytest.approx(np.mean(expected), rel=1e-9)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_arow_smooths_labels_as_torch_does(reduction: str) -> None:
    classifier, _, batch = batch_of()
    loss = per_sample(nn.CrossEntropyLoss(reduction=reduction), 4, classifier.device)
    smoothed = nn.CrossEntropyLoss(reduction=reduction, label_smoothing=0.2)
    total = ARoW(0.0, 0.2).total(torch.ones(12), ARoW(0.0, 0.2)(classifier, loss, batch))
    torch.testing.assert_close(total * loss.factor(12), smoothed(classifier.module(batch.x), batch.labels))


def test_the_composite_mixes_two_divergences() -> None:
    classifier, loss, batch = batch_of()
    objective, w = CompositeKL(3.0), torch.rand(12, dtype=torch.float64) + 0.1
    total = objective.total(objective.scaled(w), objective(classifier, loss, batch))
    assert batch.x_second is not None
    seconds = classifier.module(batch.x_second).tolist()
    expected = []
    for (c, a, y, wi), s in zip(rows(classifier, batch, w), seconds, strict=True):
        share = wi / w.max().item()
        mixed = share * literal.kl(c, a) + (1 - share) * literal.kl(c, s)
        expected.append(literal.cross_entropy(c, y) + 3.0 * mixed)
    assert total.item() == pytest.approx(np.mean(expected), rel=1e-9)


def rows(classifier: TensorClassifier, batch: Batch, w: Tensor) -> list[tuple[list[float], list[float], int, float]]:
    clean, adversarial = classifier.module(batch.x), classifier.module(batch.x_adv)
    return list(zip(clean.tolist(), adversarial.tolist(), batch.labels.tolist(), w.tolist(), strict=True))


@pytest.mark.parametrize(
    "objective", [TRADES(2.0), TRADES(2.0, "both"), MART(2.0), ARoW(3.0), CompositeKL(2.0)], ids=repr
)
def test_gradients_are_those_of_the_formula(objective: Objective) -> None:
    """Against finite differences of the total: nothing is detached that the formula does not detach."""
    classifier, loss, batch = batch_of(4)
    w = torch.rand(4, dtype=torch.float64) + 0.1
    inputs = {name: p.detach().clone().requires_grad_(True) for name, p in classifier.module.named_parameters()}

    def total(*values: Tensor) -> Tensor:
        def forward(x: Tensor, labels: Tensor) -> Tensor:
            out: Tensor = torch.func.functional_call(classifier.module, dict(zip(inputs, values, strict=True)), (x,))
            return out

        view = copy.copy(classifier)
        view.training_logits = forward  # type: ignore[method-assign]
        return objective.total(w, objective(view, loss, batch))

    assert torch.autograd.gradcheck(total, tuple(inputs.values()))


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (TRADES(0.0), lambda c, a, y: literal.cross_entropy(c, y)),
        (MART(0.0), lambda c, a, y: literal.mart(c, a, y, 0.0, 1.0)),
        (CompositeKL(0.0), lambda c, a, y: literal.cross_entropy(c, y)),
        (ARoW(0.0, 0.0), lambda c, a, y: literal.cross_entropy(c, y)),
    ],
    ids=["TRADES", "MART", "CompositeKL", "ARoW"],
)
def test_beta_of_zero_leaves_the_first_term(objective: Objective, expected: Callable[..., float]) -> None:
    classifier, loss, batch = batch_of()
    w = torch.ones(12, dtype=torch.float64)
    total = objective.total(w, objective(classifier, loss, batch)).item()
    assert total == pytest.approx(np.mean([expected(c, a, y) for c, a, y, _ in rows(classifier, batch, w)]), rel=1e-9)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_permuting_the_batch_permutes_the_terms(objective: Objective) -> None:
    classifier, loss, batch = batch_of()
    order = torch.randperm(12)
    assert batch.x_second is not None
    permuted = Batch(batch.x[order], batch.x_adv[order], batch.labels[order], batch.x_second[order])
    terms, other = objective(classifier, loss, batch), objective(classifier, loss, permuted)
    torch.testing.assert_close(other.weighted, terms.weighted[order])
    if terms.plain is not None:
        assert other.plain is not None
        torch.testing.assert_close(other.plain, terms.plain[order])


@pytest.mark.parametrize("objective", [TRADES(2.0), CompositeKL(2.0)], ids=repr)
def test_samples_without_a_label_add_only_divergence(objective: Objective) -> None:
    classifier, loss, batch = batch_of()
    assert batch.x_second is not None
    half = Batch(batch.x, batch.x_adv, torch.where(torch.arange(12) < 6, batch.labels, -1), batch.x_second)
    w = torch.ones(12, dtype=torch.float64)
    total = objective.total(w, objective(classifier, loss, half)).item()
    data = rows(classifier, batch, w)
    ce = np.mean([literal.cross_entropy(c, y) for c, _, y, _ in data[:6]])
    divergence = np.mean([literal.kl(c, a) for c, a, _, _ in data])
    assert total == pytest.approx(ce + 2.0 * divergence, rel=1e-9)


def test_marts_logarithm_is_finite_where_the_formula_is_not() -> None:
    logits, labels = torch.tensor([[0.0, 200.0, 1.0]]), torch.tensor([0])
    assert log_one_minus_best_other(logits, labels).item() == pytest.approx(-199 + np.log1p(np.exp(-1.0)), abs=1e-4)


def test_the_first_step_equals_arts_trades() -> None:
    """Same start, same batch, the same attack: the loss and every weight after one step of SGD."""
    x, y = digits(32)
    losses: list[float] = []
    models = []
    for ours in (True, False):
        torch.manual_seed(0)
        classifier = classifier_of(mlp((1, 8, 8), 10, scale=1.0), (1, 8, 8))
        model = classifier.model
        if ours:
            attack = GeometryAwarePGD(classifier, eps=0.1, eps_step=0.03, max_iter=5, num_random_init=0)
            trainer: Any = AdversarialTrainerGAIRAT(classifier, attack, UniformWeighting(), objective=TRADES(6.0))
            trainer.fit(x, y, batch_size=32, nb_epochs=1)
            losses.append(trainer.history[0]["loss"])
        else:
            attack = ProjectedGradientDescentPyTorch(classifier, eps=0.1, eps_step=0.03, max_iter=5, verbose=False)
            trainer = AdversarialTrainerTRADESPyTorch(classifier, attack, beta=6.0)
            seen: list[float] = []
            inner = trainer._batch_process

            def record(*batch: Any, inner: Any = inner, seen: list[float] = seen) -> Any:
                result = inner(*batch)
                seen.append(result[0] / result[2])
                return result

            trainer._batch_process = record
            trainer.fit(x, np.eye(10)[y], batch_size=32, nb_epochs=1)
            losses += seen
        models.append(model)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for p, q in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: TRADES(-1.0), ValueError, "beta is -1.0; expected a finite number, >= 0"),
        (lambda: TRADES(6.0, "all"), ValueError, "weigh is 'all'; expected 'kl', 'ce' or 'both'"),
        (lambda: MART(-1.0), ValueError, "beta is -1.0; expected a finite number, >= 0"),
        (lambda: MART("5"), TypeError, "beta is '5'; expected a number"),  # type: ignore[arg-type]
        (lambda: CompositeKL(float("inf")), ValueError, "beta is inf; expected a finite number"),
    ],
)
def test_bad_arguments_are_named(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
