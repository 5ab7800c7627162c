"""An attack of one's own needs three names and nothing private."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from art.attacks.evasion import FastGradientMethod
from torch import Tensor

from art_gair import AdversarialTrainerGAIRAT, GeometryAwarePGD, TanhWeighting, UniformWeighting
from art_gair.attacks.art_attack import ArtAttack, as_inner_attack
from art_gair.attacks.base import InnerAttack, Perturb
from art_gair.engine.classifier import TensorClassifier
from tests.models import classifier_of, digits, digits_classifier


class RandomCorners:
    """Tries random corners of the ball and counts how many of them the model withstands."""

    max_iter = 4
    batch_size = 16

    def __init__(self) -> None:
        self.epochs: list[int] = []

    def on_batches(self, classifier: TensorClassifier, epoch: int) -> Perturb:
        self.epochs.append(epoch)

        def perturb(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            kappa, x_adv = torch.zeros_like(labels), x
            assert classifier.box is not None
            with classifier.attacked(x) as model, torch.no_grad():
                for _ in range(self.max_iter):
                    x_adv = classifier.box.clip(x + 0.2 * torch.randn_like(x).sign())
                    kappa = kappa + (model(x_adv).argmax(dim=1) == labels)
            return x_adv, kappa

        return perturb


def test_kappa_of_an_attack_of_ones_own_reaches_the_weights_and_the_history() -> None:
    attack, seen = RandomCorners(), []

    def weighting(*, kappa: Tensor, max_iter: int, **others: Any) -> Tensor:
        seen.append((int(kappa.max()), max_iter))
        return TanhWeighting(-1.0)(kappa=kappa, max_iter=max_iter)

    trainer = AdversarialTrainerGAIRAT(digits_classifier(), attack, weighting, burn_in=0)
    trainer.fit(*digits(64), batch_size=32, nb_epochs=3, validation_data=digits(20), validation_attack=attack)
    for record in trainer.history:
        assert len(record["kappa_histogram"]) == 5
        assert sum(record["kappa_histogram"]) == 64
        assert record["robust_accuracy"] is not None
    assert {max_iter for _, max_iter in seen} == {4}
    assert set(attack.epochs) == {0, 1, 2}


def test_our_attacks_are_inner_attacks_and_arts_are_adapted() -> None:
    classifier = digits_classifier()
    ours, arts = GeometryAwarePGD(classifier), FastGradientMethod(classifier)
    assert isinstance(ours, InnerAttack)
    assert as_inner_attack(ours) is ours
    assert isinstance(as_inner_attack(arts), ArtAttack)
    assert as_inner_attack(RandomCorners()).max_iter == 4


@pytest.mark.parametrize("thing", [None, "pgd", object(), RandomCorners], ids=["None", "str", "object", "class"])
def test_what_is_no_attack_is_refused(thing: Any) -> None:
    with pytest.raises(TypeError, match=r"attack is .*; expected .*on_batches\(classifier, epoch\)"):
        as_inner_attack(thing)


class Faulty(RandomCorners):
    """Returns what a function makes of a correct result."""

    def __init__(self, spoil: Callable[[Tensor, Tensor], Any], max_iter: int = 4) -> None:
        super().__init__()
        self.spoil, self.max_iter = spoil, max_iter

    def on_batches(self, classifier: TensorClassifier, epoch: int) -> Perturb:
        return lambda x, labels: self.spoil(x, torch.ones_like(labels))


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (Faulty(lambda x, k: (x[:1], k)), r"returned x_adv \(\(1, 1, 8, 8\), torch.float32"),
        (Faulty(lambda x, k: (x.double(), k)), "returned x_adv .*torch.float64"),
        (Faulty(lambda x, k: (x, k.float())), "returned kappa .*torch.float32"),
        (Faulty(lambda x, k: (x, k[:, None])), r"returned kappa \(\(8, 1\)"),
        (Faulty(lambda x, k: (x, None)), "has max_iter 4 and returned kappa None"),
        (Faulty(lambda x, k: (x, k), max_iter=0), "has max_iter 0 and returned kappa"),
        (Faulty(lambda x, k: (x, 5 * k)), "returned kappa 5 to 5; expected 0 to max_iter, 4"),
        (Faulty(lambda x, k: (x / 0.0, k)), "returned x_adv with NaN or infinite values"),
    ],
)
def test_what_a_faulty_attack_returns_is_named(attack: Faulty, message: str) -> None:
    trainer = AdversarialTrainerGAIRAT(digits_classifier(), attack, UniformWeighting())
    with pytest.raises(ValueError, match=f"attack Faulty {message}"):
        trainer.fit(*digits(8), nb_epochs=1)


def test_a_scheme_that_needs_kappa_is_refused_where_none_is_counted() -> None:
    attack = Faulty(lambda x, kappa: (x, None), max_iter=0)
    with pytest.raises(ValueError, match="attack Faulty counts no kappa, which TanhWeighting"):
        AdversarialTrainerGAIRAT(digits_classifier(), attack, TanhWeighting())


def test_a_training_changes_nothing_about_the_users_attacks() -> None:
    classifier = digits_classifier()
    ours = GeometryAwarePGD(classifier, eps=lambda epoch: 0.1 + 0.1 * epoch, max_iter=1)
    arts = FastGradientMethod(classifier, eps=0.1)
    arts.verbose = True
    arts.attack_params = [*arts.attack_params, "verbose"]
    for attack, weighting in ((ours, TanhWeighting()), (arts, UniformWeighting())):
        before = dict(vars(attack))
        AdversarialTrainerGAIRAT(classifier, attack, weighting).fit(*digits(8), nb_epochs=2)
        assert vars(attack) == before


def wide_range_classifier(model: torch.nn.Module) -> Any:
    """Return a classifier of six features between 0 and 100,000."""
    return classifier_of(model, (6,), 3, clip_values=(0.0, 1e5))


@pytest.mark.parametrize("norm", [np.inf, 2, 1])
def test_examples_beside_large_features_leave_the_ball_by_rounding_alone(norm: float) -> None:
    """Features of 50,000 have a float32 spacing of 0.004: x + delta can be no closer to the ball than half of it."""
    torch.manual_seed(0)
    model = torch.nn.Linear(6, 3)
    classifier = wide_range_classifier(model)
    x = np.random.default_rng(0).uniform(4e4, 6e4, (50, 6)).astype(np.float32)
    x_adv = GeometryAwarePGD(classifier, norm=norm, eps=2.3, eps_step=0.6).generate(x, np.zeros(50, dtype=int))
    delta = x_adv.astype(np.float64) - x
    rounding = np.linalg.norm(np.spacing(x_adv).astype(np.float64) / 2, ord=norm, axis=1)
    distance = np.linalg.norm(delta, ord=norm, axis=1)
    assert (distance <= 2.3 * (1 + 1e-6) + rounding).all()
    assert distance.max() > 2.2


def test_an_attack_that_changes_no_sample_says_so(caplog: pytest.LogCaptureFixture) -> None:
    classifier = wide_range_classifier(torch.nn.Linear(6, 3))
    x = np.full((4, 6), 5e4, dtype=np.float32)
    GeometryAwarePGD(classifier, eps=1e-3, eps_step=1e-3).generate(x, np.zeros(4, dtype=int))
    assert "GeometryAwarePGD changed no sample" in caplog.text
