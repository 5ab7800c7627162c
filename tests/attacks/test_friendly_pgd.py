"""FAT's attack: it stops, keeps its rows, and counts kappa all the same."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from art_gair import AdversarialTrainerGAIRAT, FriendlyPGD, GeometryAwarePGD, TanhWeighting
from art_gair.attacks.norms import NORMS
from art_gair.attacks.stopping import Friendly, StoppingPGD
from art_gair.engine.classifier import TensorClassifier
from art_gair.schedules import Linear, Piecewise
from tests.models import classifier_of, digits, digits_classifier, mlp
from tests.reference import algorithm_1

SETTINGS: dict[str, Any] = {"eps": 0.2, "eps_step": 0.03, "max_iter": 8, "num_random_init": 0}


def data(n: int = 60) -> tuple[Any, Any, Any]:
    """Return a classifier with inputs it classifies as labelled, so that they are fooled at different steps."""
    classifier = classifier_of(mlp((6,), 3), (6,), 3)
    x = np.random.rand(n, 6).astype(np.float32)
    return classifier, x, classifier.predict(x).argmax(axis=1)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    norm=st.sampled_from([math.inf, 2.0, 1.0]),
    max_iter=st.integers(1, 7),
    tau=st.integers(0, 4),
)
def test_equals_fats_literal_algorithm(seed: int, norm: float, max_iter: int, tau: int) -> None:
    """Sample by sample: PGD, cut off at the look that finds it misclassified for the (tau + 1)th time."""
    torch.manual_seed(seed)
    model = mlp((6,), 3).double()
    x = torch.rand(5, 6, dtype=torch.float64)
    labels = model(x).argmax(dim=1)
    eps, eps_step = {math.inf: (0.2, 0.05), 2.0: (0.6, 0.15), 1.0: (1.0, 0.3)}[norm]
    radii = torch.tensor(eps, dtype=torch.float64), torch.tensor(eps_step, dtype=torch.float64)
    x_adv, kappa = StoppingPGD(NORMS[norm], "ce", max_iter, 0, None, Friendly(tau))(model, x, labels, *radii)
    for i in range(5):
        point, looks, left = x[i], 0, tau
        for _ in range(max_iter):
            if int(model(point[None])[0].argmax()) == int(labels[i]):
                looks += 1
            elif left == 0:
                break
            else:
                left -= 1
            point, _ = algorithm_1.attack_one(
                model,
                x[i],
                int(labels[i]),
                norm=norm,
                eps=eps,
                eps_step=eps_step,
                max_iter=1,
                start=point,
                bounds=None,
                loss=algorithm_1.cross_entropy,
            )
        assert kappa[i] == looks
        torch.testing.assert_close(x_adv[i], point, rtol=0, atol=1e-9)


def test_samples_that_depend_on_their_company_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """BatchNorm on the batch's own statistics: were a sample to leave, the others would be another attack's."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16, track_running_stats=False), nn.ReLU(), nn.Linear(16, 3))
    classifier = classifier_of(model, (6,), 3)
    x = np.random.rand(60, 6).astype(np.float32)
    y = classifier.predict(x, batch_size=60).argmax(axis=1)
    results = []
    for devices in (("cpu",), ()):
        monkeypatch.setattr(FriendlyPGD, "compact_on", devices)
        results.append(FriendlyPGD(classifier, tau=0, **SETTINGS).generate_with_kappa(x, y))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])
    assert len(np.unique(results[0][1])) > 2


def test_tau_of_max_iter_is_pgd() -> None:
    classifier, x, y = data()
    friendly = FriendlyPGD(classifier, tau=8, **SETTINGS).generate_with_kappa(x, y)
    plain = GeometryAwarePGD(classifier, **SETTINGS).generate_with_kappa(x, y)
    assert (friendly[0] == plain[0]).all()
    assert (friendly[1] == plain[1]).all()


def test_each_example_stays_with_its_own_row_and_label() -> None:
    """The bug of the released GAIR-FAT: samples that stop at different times must not move each other.

    Attacked one by one, each sample gives the same example and the same kappa; and an example that was stopped at once
    is misclassified against its own label, which in another row it would not have to be.
    """
    classifier, x, y = data()
    attack = FriendlyPGD(classifier, tau=0, **SETTINGS)
    x_adv, kappa = attack.generate_with_kappa(x, y)
    assert len(set(kappa)) > 4
    for i in range(len(x)):
        alone, kappa_alone = attack.generate_with_kappa(x[i : i + 1], y[i : i + 1])
        np.testing.assert_allclose(x_adv[i], alone[0], atol=1e-6)
        assert kappa[i] == kappa_alone[0]
    assert np.abs(x_adv - x).max() <= 0.2 + 1e-6
    stopped = kappa < 8
    assert stopped.sum() > 10
    assert (classifier.predict(x_adv[stopped]).argmax(axis=1) != y[stopped]).all()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    norm=st.sampled_from([math.inf, 2.0, 1.0]),
    loss=st.sampled_from(["ce", "margin", "kl"]),
    tau=st.integers(0, 3),
    own_eps=st.booleans(),
    masked=st.booleans(),
)
def test_leaving_the_computation_changes_nothing(
    seed: int, norm: float, loss: str, tau: int, own_eps: bool, masked: bool
) -> None:
    """Each row has the result it has when stopped samples stay, whatever belongs to it alone."""
    torch.manual_seed(seed)
    model, n = mlp((6,), 3).double(), 12
    x = torch.rand(n, 6, dtype=torch.float64)
    labels = model(x).argmax(dim=1)
    eps = torch.rand(n, 1, dtype=torch.float64) + 0.1 if own_eps else torch.tensor(0.4, dtype=torch.float64)
    mask = torch.rand(n, 6) < 0.7 if masked else None
    results, seen = [], []
    for compact in (False, True):
        pgd = StoppingPGD(NORMS[norm], loss, 6, 2, None, Friendly(tau), compact)
        sizes: list[int] = []

        def counted(z: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(len(z))
            out: torch.Tensor = model(z)
            return out

        torch.manual_seed(seed)
        results.append(pgd(counted, x, labels, eps, eps / 3, mask))
        seen.append(sum(sizes))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-9, atol=1e-9)
    assert (results[0][1] == results[1][1]).all()
    assert seen[1] <= seen[0]


def test_stopped_samples_are_not_computed() -> None:
    classifier, x, y = data()
    sizes: list[int] = []
    view = TensorClassifier(classifier)
    pgd = FriendlyPGD(classifier, **SETTINGS)._pgd(view)

    def counted(z: torch.Tensor) -> torch.Tensor:
        sizes.append(len(z))
        return view.logits(z)

    _, kappa = pgd(counted, torch.from_numpy(x), torch.from_numpy(y), torch.tensor(0.2), torch.tensor(0.03))
    assert sizes == [int((kappa >= look).sum()) for look in range(8)]
    assert sizes[-1] < sizes[0]


def test_friendly_examples_lie_nearer_than_pgds() -> None:
    classifier, x, y = data()
    near = np.abs(FriendlyPGD(classifier, tau=0, **SETTINGS).generate(x, y) - x).mean()
    far = np.abs(GeometryAwarePGD(classifier, **SETTINGS).generate(x, y) - x).mean()
    assert near < far


@pytest.mark.parametrize(
    "schedule", [Piecewise((0, 8), (2,)), Linear(0.0, 8.0, end=2), Linear(0.4, 8.9, end=2)], ids=repr
)
def test_tau_follows_the_epochs_of_a_training(schedule: Any) -> None:
    """The attack that runs: in epoch 0 that of tau 0, in epoch 2 that of tau 8, which is PGD."""
    classifier, x, y = data()
    attack = FriendlyPGD(classifier, tau=schedule, **SETTINGS)
    for epoch, tau in ((0, 0), (2, 8)):
        x_adv, _ = attack.on_batches(TensorClassifier(classifier), epoch)(torch.from_numpy(x), torch.from_numpy(y))
        fixed = FriendlyPGD(classifier, tau=tau, **SETTINGS).generate(x, y)
        assert (x_adv.numpy() == fixed).all()
        assert (attack.at_epoch(epoch).generate(x, y) == fixed).all()
    AdversarialTrainerGAIRAT(classifier, attack, TanhWeighting(0.0)).fit(x, y, nb_epochs=2)
    assert attack.tau is schedule
    assert f"tau={schedule!r}" in repr(attack)


def test_eps_follows_the_epochs_of_a_training() -> None:
    classifier = digits_classifier()
    attack = GeometryAwarePGD(classifier, eps=Linear(0.05, 0.2, end=3), eps_step=0.2, max_iter=2)
    x, y = digits(20)
    AdversarialTrainerGAIRAT(classifier, attack, TanhWeighting(0.0)).fit(x, y, nb_epochs=4)
    for epoch, eps in ((0, 0.05), (3, 0.2)):
        assert np.abs(attack.at_epoch(epoch).generate(x, y) - x).max() == pytest.approx(eps, abs=1e-6)


@pytest.mark.parametrize("name", ["eps", "tau"])
def test_generate_does_not_guess_where_a_schedule_stands(name: str) -> None:
    settings = {"eps": 0.1, "tau": 1, name: Linear(0.1, 0.2, end=3)}
    attack = FriendlyPGD(digits_classifier(), **settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"{name} is a schedule, Linear.*at_epoch"):
        attack.generate(*digits(2))


@pytest.mark.parametrize(
    ("tau", "error", "message"),
    [
        (-1, ValueError, "tau is -1; expected a finite number, >= 0"),
        ("1", TypeError, "tau is '1'; expected a number"),
        (math.inf, ValueError, "tau is inf"),
        (lambda epoch: -1, ValueError, "tau is -1"),
    ],
)
def test_a_bad_tau_is_named(tau: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        FriendlyPGD(digits_classifier(), tau=tau)


def test_a_schedule_that_fails_later_is_refused_at_the_start() -> None:
    classifier = digits_classifier()
    for attack, message in (
        (FriendlyPGD(classifier, tau=lambda epoch: 1 - epoch, **SETTINGS), "in epoch 2: tau is -1"),
        (
            GeometryAwarePGD(classifier, eps=lambda epoch: 0.1 * (2 - epoch)),
            "in epoch 2: eps is 0.0; expected positive",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            AdversarialTrainerGAIRAT(classifier, attack).fit(*digits(8), nb_epochs=4)


def test_kappa_counts_no_look_after_the_stop() -> None:
    """A model that draws noise: a sample that has stopped may be found right again, which counts no more."""

    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = mlp((6,), 3)
            self.looks: list[torch.Tensor] = []

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.inner(x + 0.2 * torch.randn_like(x))
            self.looks.append(out.detach().argmax(dim=1))
            return out

    model = Noisy()
    x = torch.rand(60, 6)
    labels = model.inner(x).argmax(dim=1)
    model.looks.clear()
    radii = torch.tensor(0.1), torch.tensor(0.03)
    _, kappa = StoppingPGD(NORMS[math.inf], "ce", 8, 0, None, Friendly(0))(model, x, labels, *radii)
    right = torch.stack([look == labels for look in model.looks])
    assert kappa.equal(right.long().cumprod(dim=0).sum(dim=0))
    assert not kappa.equal(right.sum(dim=0))
