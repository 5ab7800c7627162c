"""BoundaryPGD: who goes on, what it costs, and what kappa says of those that stop."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from art_gair import AdversarialTrainerGAIRAT, BoundaryPGD, FriendlyPGD, GeometryAwarePGD, UniformWeighting
from art_gair.attacks.norms import NORMS
from art_gair.attacks.selective import Between, Nearest, SelectivePGD
from art_gair.engine.classifier import TensorClassifier
from art_gair.schedules import Linear
from tests.models import classifier_of, digits, digits_classifier, mlp
from tests.reference import algorithm_1

SETTINGS: dict[str, Any] = {"eps": 0.2, "eps_step": 0.03, "max_iter": 8, "num_random_init": 0}


def data(n: int = 60) -> tuple[Any, Any, Any]:
    """Return a classifier with random labels, so that samples are safe, near the boundary, and lost."""
    classifier = classifier_of(mlp((6,), 3), (6,), 3)
    return classifier, np.random.rand(n, 6).astype(np.float32), np.random.randint(3, size=n)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    norm=st.sampled_from([math.inf, 2.0, 1.0]),
    max_iter=st.integers(2, 7),
    first=st.integers(1, 6),
    lost=st.floats(-1.0, 0.0),
    safe=st.floats(0.1, 1.0),
)
def test_equals_the_literal_algorithm(
    seed: int, norm: float, max_iter: int, first: int, lost: float, safe: float
) -> None:
    """Sample by sample: Algorithm 1 for the first steps, and for the others where the margin at the last look asks."""
    torch.manual_seed(seed)
    first = min(first, max_iter - 1)
    model = mlp((6,), 3).double()
    x, labels = torch.rand(5, 6, dtype=torch.float64), torch.randint(3, (5,))
    eps, eps_step = {math.inf: (0.2, 0.05), 2.0: (0.6, 0.15), 1.0: (1.0, 0.3)}[norm]
    radii = torch.tensor(eps, dtype=torch.float64), torch.tensor(eps_step, dtype=torch.float64)
    pgd = SelectivePGD(NORMS[norm], "ce", max_iter, 0, None, Between(lost, safe), first)
    x_adv, kappa = pgd(model, x, labels, *radii)
    for i, y in enumerate(labels.tolist()):

        def attack(start: torch.Tensor, steps: int, i: int = i, y: int = y) -> tuple[torch.Tensor, int]:
            ball: dict[str, Any] = {"norm": norm, "eps": eps, "eps_step": eps_step, "bounds": None}
            ball |= {"loss": algorithm_1.cross_entropy, "max_iter": steps, "start": start}
            return algorithm_1.attack_one(model, x[i], y, **ball)

        last_look, _ = attack(x[i], first - 1)
        p = torch.softmax(model(last_look[None])[0], 0).tolist()
        margin = p[y] - max(p[j] for j in range(3) if j != y)
        if lost <= margin <= safe:
            expected, looks = attack(x[i], max_iter)
        else:
            expected, looks = attack(x[i], first)
            looks = max_iter if margin > 0 else looks
        assert kappa[i] == looks
        torch.testing.assert_close(x_adv[i], expected, rtol=0, atol=1e-9)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    norm=st.sampled_from([math.inf, 2.0, 1.0]),
    loss=st.sampled_from(["ce", "margin", "kl"]),
    selection=st.sampled_from([Between(-0.9, 0.6), Between(-0.1, 0.1), Nearest(0.0, 0.5), Nearest(-0.15, 0.0)]),
    own_eps=st.booleans(),
    masked=st.booleans(),
)
def test_leaving_the_computation_changes_nothing(
    seed: int, norm: float, loss: str, selection: Any, own_eps: bool, masked: bool
) -> None:
    torch.manual_seed(seed)
    model, n = mlp((6,), 3).double(), 12
    x, labels = torch.rand(n, 6, dtype=torch.float64), torch.randint(3, (n,))
    eps = torch.rand(n, 1, dtype=torch.float64) + 0.1 if own_eps else torch.tensor(0.4, dtype=torch.float64)
    mask = torch.rand(n, 6) < 0.7 if masked else None
    results = []
    for compact in (False, True):
        torch.manual_seed(seed)
        pgd = SelectivePGD(NORMS[norm], loss, 6, 2, None, selection, 2, compact)
        results.append(pgd(model, x, labels, eps, eps / 3, mask))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-9, atol=1e-9)
    assert (results[0][1] == results[1][1]).all()


def passes_of(attack: BoundaryPGD, x: Any, y: Any) -> list[int]:
    """Return how many samples each pass of the attack took, and run it on one batch."""
    view = TensorClassifier(attack.estimator)
    sizes: list[int] = []
    pgd = attack._pgd(view)

    def counted(z: torch.Tensor) -> torch.Tensor:
        sizes.append(len(z))
        return view.logits(z)

    pgd(counted, torch.from_numpy(x), torch.from_numpy(y), torch.tensor(0.2), torch.tensor(0.03))
    return sizes


@pytest.mark.parametrize(("budget", "going"), [(0.25, 0), (0.5, 20), (0.7, 36), (1.0, 60)])
def test_a_budget_is_the_share_of_passes(budget: float, going: int) -> None:
    classifier, x, y = data()
    sizes = passes_of(BoundaryPGD(classifier, budget=budget, **SETTINGS), x, y)
    assert sizes == [60] * 2 + [going] * (6 if going else 0)
    assert sum(sizes) == pytest.approx(budget * 8 * 60)


@pytest.mark.parametrize(("n", "going"), [(1, 1), (2, 1), (3, 1), (6, 2), (10, 3)])
def test_a_budget_above_the_first_steps_reaches_a_sample_of_each_batch(n: int, going: int) -> None:
    """A third of six more steps: half a sample is one, and so is less."""
    classifier, x, y = data()
    sizes = passes_of(BoundaryPGD(classifier, budget=0.5, **SETTINGS), x[:n], y[:n])
    assert sizes == [n] * 2 + [max(going, min(n, 2))] * 6  # a sample is not left alone


def test_a_budget_of_the_first_steps_but_for_rounding_reaches_none() -> None:
    classifier, x, y = data()
    attack = BoundaryPGD(classifier, eps=0.2, max_iter=10, first_steps=3, budget=0.1 + 0.2, num_random_init=0)
    assert 0.1 + 0.2 > 0.3
    assert passes_of(attack, x, y) == [60] * 3


def test_those_nearest_to_the_boundary_get_the_budget() -> None:
    classifier, x, y = data()
    margins = torch.linspace(-1, 1, 21)
    assert margins[Nearest(0.0, 0.25)(margins)].abs().max() < 0.25
    assert margins[Nearest(-0.5, 0.25)(margins)].add(0.5).abs().max() < 0.25
    bounds = BoundaryPGD(classifier, safe=0.3, lost=-0.3, **SETTINGS)
    assert 0 < passes_of(bounds, x, y)[-1] < 60


def test_all_steps_for_all_samples_is_pgd() -> None:
    classifier, x, y = data()
    plain = GeometryAwarePGD(classifier, **SETTINGS).generate_with_kappa(x, y)
    for attack in (
        BoundaryPGD(classifier, lost=-1.0, safe=1.0, **SETTINGS),
        BoundaryPGD(classifier, budget=1.0, **SETTINGS),
    ):
        x_adv, kappa = attack.generate_with_kappa(x, y)
        np.testing.assert_allclose(x_adv, plain[0], atol=1e-6)
        assert (kappa == plain[1]).all()


def test_kappa_says_never_fooled_of_the_safe_and_keeps_the_count_of_the_lost() -> None:
    classifier = classifier_of(nn.Linear(2, 2, bias=False), (2,), 2, clip_values=None)
    with torch.no_grad():
        classifier.model.weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    x = np.array([[9.0, 0.0], [0.05, 0.0], [-0.01, 0.0], [-9.0, 0.0]], dtype=np.float32)
    x_adv, kappa = BoundaryPGD(classifier, **SETTINGS).generate_with_kappa(x, np.zeros(4, dtype=int))
    assert kappa.tolist() == [8, 2, 0, 0]  # safe; fooled at the third look; fooled at once; lost
    np.testing.assert_allclose((x - x_adv)[:, 0], [0.06, 0.2, 0.2, 0.06], atol=1e-5)


def test_samples_that_depend_on_their_company_stay() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16, track_running_stats=False), nn.ReLU(), nn.Linear(16, 3))
    _, x, y = data()
    sizes = passes_of(BoundaryPGD(classifier_of(model, (6,), 3), budget=0.5, **SETTINGS), x, y)
    assert sizes == [60] * 8


def test_thresholds_follow_the_epochs_of_a_training() -> None:
    classifier, x, y = data()
    attack = BoundaryPGD(classifier, budget=Linear(0.25, 1.0, end=3), **SETTINGS)
    trainer = AdversarialTrainerGAIRAT(classifier, attack, UniformWeighting())
    trainer.fit(x, y, batch_size=60, nb_epochs=4)
    assert [record["attack_passes"] for record in trainer.history] == pytest.approx([2.0, 4.0, 6.0, 8.0])
    with pytest.raises(ValueError, match="budget is a schedule"):
        attack.generate(x, y)


@pytest.mark.parametrize(
    ("attack", "passes"),
    [
        (lambda c: GeometryAwarePGD(c, eps=0.2, max_iter=3, num_random_init=2), 6.0),
        (lambda c: BoundaryPGD(c, eps=0.2, max_iter=4, first_steps=1, budget=0.5), 2.0),
    ],
)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_history_counts_the_attacks_passes(attack: Any, passes: float, accumulate: int) -> None:
    """Per sample, those of the trained batches alone; validation's are not counted."""
    classifier, (x, y) = digits_classifier(), digits(48)
    trainer = AdversarialTrainerGAIRAT(classifier, attack(classifier), UniformWeighting())
    trainer.fit(x, y, validation_data=(x, y), batch_size=12, nb_epochs=2, accumulate=accumulate)
    assert [record["attack_passes"] for record in trainer.history] == pytest.approx([passes, passes], abs=0.2)


def test_friendly_passes_are_those_of_the_samples_that_go_on() -> None:
    classifier, (x, y) = digits_classifier(), digits(40)
    attack = FriendlyPGD(classifier, eps=0.3, eps_step=0.1, max_iter=6)
    trainer = AdversarialTrainerGAIRAT(classifier, attack, UniformWeighting())
    trainer.fit(x, y, nb_epochs=1)
    kappas = trainer.history[0]["kappa_histogram"]
    looks = sum(min(kappa + 1, 6) * count for kappa, count in enumerate(kappas))
    assert trainer.history[0]["attack_passes"] == pytest.approx(looks / 40)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"lost": 0.7}, ValueError, "lost is 0.7 and safe is 0.6; expected lost to be the smaller"),
        ({"lost": -1.1}, ValueError, "lost is -1.1; expected a finite number, >= -1"),
        ({"safe": 1.5}, ValueError, "safe is 1.5"),
        ({"safe": math.nan}, ValueError, "safe is nan"),
        ({"safe": "0.6"}, TypeError, "safe is '0.6'; expected a number"),
        ({"budget": 1.2}, ValueError, "budget is 1.2"),
        ({"budget": -0.5}, ValueError, "budget is -0.5"),
        ({"budget": 0.1}, ValueError, r"budget is 0.1; expected at least first_steps / max_iter, 2 / 8"),
        ({"first_steps": 8}, ValueError, "first_steps is 8; expected less than max_iter, 8"),
        ({"first_steps": 0}, ValueError, "first_steps is 0"),
        ({"first_steps": 1.5}, TypeError, "first_steps is 1.5"),
    ],
    ids=str,
)
def test_bad_settings_are_named(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    classifier = digits_classifier()
    with pytest.raises(error, match=message):
        BoundaryPGD(classifier, **SETTINGS, **settings)
    attack = BoundaryPGD(classifier, **SETTINGS)
    with pytest.raises(error, match=message):
        attack.set_params(**settings)
    assert attack.generate(*digits(2)).shape == (2, 1, 8, 8)


def test_a_threshold_that_fails_later_is_refused_at_the_start() -> None:
    classifier = digits_classifier()
    attack = BoundaryPGD(classifier, lost=lambda epoch: 0.3 * epoch, **SETTINGS)
    with pytest.raises(ValueError, match=r"in epoch 2: lost is 0\.6 and safe is 0\.6"):
        AdversarialTrainerGAIRAT(classifier, attack).fit(*digits(8), nb_epochs=4)


class Root(nn.Module):
    """A square root, whose gradient is infinite at 0, and so NaN further down."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, 2) to logits."""
        out: torch.Tensor = self.layer(torch.sqrt(x * (x > -1)))
        return out


@pytest.mark.parametrize("attack", [BoundaryPGD, FriendlyPGD])
def test_a_gradient_that_is_not_finite_is_seen_of_samples_that_stop(
    attack: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a safe sample under BoundaryPGD, of a misclassified one under FriendlyPGD."""
    classifier = classifier_of(Root(), (2,), 2)
    with torch.no_grad():
        classifier.model.layer.weight.copy_(torch.tensor([[0.0, 0.0], [0.0, 4.0]]))
        classifier.model.layer.bias.copy_(torch.tensor([0.0, -2.0]))
    x = np.array([[0.0, 0.0], [0.5, 0.25]], dtype=np.float32)  # the second lies on the boundary
    y = np.array([0, 0]) if attack is BoundaryPGD else np.array([1, 0])
    settings: dict[str, Any] = {"safe": 0.6, "lost": -0.6} if attack is BoundaryPGD else {"tau": 0}
    attack(classifier, **SETTINGS, **settings).generate(x, y)
    assert "gradient is NaN or infinite" in caplog.text
    trainer = AdversarialTrainerGAIRAT(classifier, attack(classifier, **SETTINGS, **settings), UniformWeighting())
    with pytest.raises(FloatingPointError, match="gradient"):
        trainer.fit(x, y, nb_epochs=1)


SIZES: list[int] = []


class Squeezing(nn.Module):
    """A model that drops the batch dimension of a lone sample, and notes how many it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = mlp((6,), 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, 6) to logits (n, 3)."""
        SIZES.append(len(x))
        out: torch.Tensor = self.inner(x)
        return out.squeeze()


@pytest.mark.parametrize(("kind", "settings"), [(BoundaryPGD, {"budget": 0.45}), (FriendlyPGD, {"tau": 0})])
def test_a_model_that_squeezes_a_batch_of_one_never_sees_one(kind: Any, settings: dict[str, Any]) -> None:
    """Where one sample of a batch goes on; its example is the one that it has without squeezing."""
    model = Squeezing()
    squeezing, plain = classifier_of(model, (6,), 3), classifier_of(model.inner, (6,), 3)
    x = np.random.rand(4, 6).astype(np.float32)
    y = (plain.predict(x).argmax(axis=1) + np.array([0, 1, 1, 1])) % 3
    SIZES.clear()
    found = [kind(c, **SETTINGS, **settings).generate_with_kappa(x, y) for c in (squeezing, plain)]
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert set(SIZES) == {4, 2}


def test_a_budget_may_be_a_float32() -> None:
    classifier = digits_classifier()
    budget: Any = np.float32(0.7)
    BoundaryPGD(classifier, max_iter=10, first_steps=7, budget=budget)
