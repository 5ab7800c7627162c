"""Validation of models that squeeze, have no gradient somewhere, run in bfloat16, or find one class alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from art.attacks.evasion import ProjectedGradientDescent
from torch import Tensor, nn

from art_gair import (
    TRADES,
    AdversarialTrainerGAIRAT,
    ARoW,
    GeometryAwarePGD,
    UniformWeighting,
    evaluate_robustness,
    recipes,
)
from art_gair.attacks.art_attack import generate
from art_gair.engine.classifier import TensorClassifier
from art_gair.objectives import Batch, CompositeKL
from art_gair.training.make_validation import make_validation
from tests.models import classifier_of, digits


class Squeezing(nn.Module):
    """A model whose forward drops the batch of a lone sample."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.last = nn.Conv2d(1, 8, 4), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(torch.relu(self.convolution(x)).amax((2, 3), keepdim=True).squeeze())
        return out


class Standardised(nn.Module):
    """A model that has no derivative at a constant sample."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer((x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True).sqrt() + 1e-3))
        return out


def pgd(classifier: Any, **settings: Any) -> GeometryAwarePGD:
    return GeometryAwarePGD(classifier, **{"eps": 0.05, "eps_step": 0.02, "max_iter": 3, **settings})


def standardised(objective: Any = None, **settings: Any) -> Any:
    attack = pgd(classifier_of(Standardised(), (4,), 2), num_random_init=0, **settings)
    return AdversarialTrainerGAIRAT(attack.estimator, attack, UniformWeighting(), objective=objective, burn_in=0)


def points(n: int, constant: int | None = None) -> tuple[Tensor, Tensor]:
    x = torch.rand(n, 4, generator=torch.Generator().manual_seed(n))
    y = (x[:, 0] > x[:, 1]).long()
    if constant is not None:
        x[constant] = 0.5
    return x, y


@pytest.mark.parametrize("n", [1, 9, 11])
def test_a_model_that_squeezes_a_lone_sample_is_validated(n: int) -> None:
    """Whatever number of samples stands after an attack: each number from n on leaves one over in batches of two."""
    x, y = digits(30 + n)
    trainer = recipes.robust(classifier_of(Squeezing(), (1, 8, 8), 10), eps=0.05)
    judge = pgd(trainer.classifier, batch_size=2)
    for attacks in (judge, [judge, judge.with_loss("margin")]):
        trainer.fit(x[:30], y[:30], (x[30:], y[30:]), nb_epochs=2, validation_attack=attacks, verbose=False)


def test_a_lone_sample_of_a_squeezing_model_has_its_row_of_logits() -> None:
    """In attacks and reports, whose batches may leave one sample over."""
    x, y = digits(17)
    classifier = classifier_of(Squeezing(), (1, 8, 8), 10)
    logits = TensorClassifier(classifier).logits
    inputs = torch.from_numpy(x)
    torch.testing.assert_close(logits(inputs[:1]), logits(inputs[:2])[:1])
    assert pgd(classifier, batch_size=16).generate(x, y).shape == x.shape
    assert evaluate_robustness(classifier, x, y, eps=0.05, batch_size=16, verbose=False).labels.shape == (17,)


@pytest.mark.parametrize("batch_size", [20, 32])
def test_validation_without_a_gradient_is_warned_of_and_not_laid_to_the_training(
    batch_size: int, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = standardised()
    trainer.fit(*points(64), points(20, constant=7), batch_size=batch_size, nb_epochs=3, seed=0, verbose=False)
    assert [record["skipped_batches"] for record in trainer.history] == [0, 0, 0]
    assert caplog.text.count("The attack's gradient to some samples of validation_data is not finite") == 1


def test_a_second_attack_without_a_gradient_is_laid_to_its_own_batch(caplog: pytest.LogCaptureFixture) -> None:
    trainer = standardised(CompositeKL(), loss="kl")
    with pytest.raises(FloatingPointError, match="gradient to the inputs became non-finite in epoch 0") as raised:
        trainer.fit(*points(56, constant=7), batch_size=16, nb_epochs=2, seed=0, verbose=False)
    text = str(raised.value)
    rows = text[text.index("Its samples were") + len("Its samples were ") :].split(".")[0].split(", ")
    assert "7" in rows
    assert "stale copy" not in caplog.text


@pytest.mark.parametrize("seed", [0, 1])
def test_validation_in_bfloat16_counts_what_predict_finds(seed: int) -> None:
    x, y = digits(1_000)
    classifier = classifier_of(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)), (1, 8, 8), 10
    )
    trainer = AdversarialTrainerGAIRAT(
        classifier, pgd(classifier, eps=0.1), UniformWeighting(), burn_in=0, precision="bf16"
    )
    for _ in range(3):
        trainer.fit(x[:300], y[:300], (x[300:], y[300:]), nb_epochs=1, seed=seed, verbose=False, batch_size=64)
        right = (classifier.predict(x[300:]).argmax(axis=1) == y[300:]).mean()
        assert trainer.history[-1]["clean_accuracy"] == pytest.approx(right, abs=1e-9)


def test_a_kept_model_that_finds_one_class_alone_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    def fit(bias: float) -> str:
        caplog.clear()
        model = nn.Linear(4, 2)
        with torch.no_grad():
            model.weight.copy_(torch.tensor([[-1.0, 1.0, 0.0, 0.0], [1.0, -1.0, 0.0, 0.0]]))
            model.bias.copy_(torch.tensor([bias, 0.0]))
        classifier = classifier_of(model, (4,), 2, lr=1e-6)
        attack = pgd(classifier, eps=0.001)
        trainer = AdversarialTrainerGAIRAT(classifier, attack, UniformWeighting(), burn_in=0)
        trainer.fit(*points(30), points(20), keep_best=True, validation_attack=attack, nb_epochs=1, verbose=False)
        return caplog.text

    assert "The model that is kept finds class 0 alone" in fit(bias=9.0)
    assert "finds class" not in fit(bias=0.0)


@pytest.mark.parametrize("objective", [ARoW(), TRADES()])
def test_training_moves_a_rounding_error_into_the_box(objective: Any) -> None:
    seen = []

    class Spy(type(objective)):  # type: ignore[misc]
        def __call__(self, classifier: Any, loss: Any, batch: Batch) -> Any:
            seen.append(max(float(batch.x.max()), float(batch.x_adv.max())))
            return super().__call__(classifier, loss, batch)

    x, y = points(32)
    x[5] = float(np.nextafter(np.float32(1), np.float32(2)))
    classifier = classifier_of(nn.Linear(4, 2), (4,), 2)
    attack = pgd(classifier, loss="kl")
    trainer = AdversarialTrainerGAIRAT(classifier, attack, UniformWeighting(), objective=Spy(), burn_in=0)
    trainer.fit(x, y, nb_epochs=1, verbose=False)
    assert max(seen) == 1.0


class NormalisesTheBatch(nn.Module):
    """A model whose logits depend on the company of a sample."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(x)[:, :2]
        return out


def test_a_lone_sample_of_a_model_that_mixes_samples_joins_a_batch() -> None:
    x = torch.rand(21, 4, generator=torch.Generator().manual_seed(0))
    x[:, 0] = torch.linspace(0, 1, 21)
    x[:, 1] = 1 - x[:, 0]
    y = (x[:, 0] < x[:, 1]).long()
    classifier = classifier_of(NormalisesTheBatch(), (4,), 2)
    attack = pgd(classifier, batch_size=20)
    validation = make_validation(TensorClassifier(classifier), classifier, attack, (x, y), None, False)
    assert validation is not None
    assert validation._right(torch.arange(21), (lambda x, y: (x, None), 20)).all()


@pytest.mark.parametrize("n", [1, 32, 33])
def test_arts_attacks_leave_no_lone_sample_over(n: int) -> None:
    x, y = digits(n)
    classifier = classifier_of(Squeezing(), (1, 8, 8), 10)
    attack = ProjectedGradientDescent(classifier, eps=0.01, eps_step=0.01, max_iter=1, batch_size=32, verbose=False)
    x_adv = generate(attack, x, np.eye(10)[y])
    assert x_adv.shape == x.shape
    assert (abs(x_adv - x).reshape(n, -1).max(axis=1) > 0).all()


def test_a_sample_that_is_wrong_anyway_is_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    x, y = points(20, constant=7)
    trainer = standardised()
    with torch.no_grad():
        trainer.classifier.model.layer.bias.copy_(torch.tensor([5.0, -5.0]))
    y[7] = 1
    for group in trainer.classifier.optimizer.param_groups:
        group["lr"] = 1e-6
    trainer.fit(*points(64), (x, y), nb_epochs=1, seed=0, verbose=False)
    assert "gradient" not in caplog.text
