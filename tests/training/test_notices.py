"""What a training warns of, once, in the log."""

from __future__ import annotations

import logging
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from art_gair import AdversarialTrainerGAIRAT, GeometryAwarePGD, TanhWeighting, UniformWeighting, recipes
from art_gair.training.history import EpochMeter
from art_gair.training.notices import Notices
from tests.models import classifier_of, digits, digits_classifier, mlp


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "art_gair.training.notices"]


def fit(classifier: Any, weighting: Any = None, nb_epochs: int = 3, **attack: Any) -> Any:
    settings = {"eps": 0.2, "eps_step": 0.1, "max_iter": 3, **attack}
    weighting = UniformWeighting() if weighting is None else weighting
    trainer = AdversarialTrainerGAIRAT(classifier, GeometryAwarePGD(classifier, **settings), weighting, burn_in=0)
    trainer.fit(*digits(96), batch_size=32, nb_epochs=nb_epochs, verbose=False)
    return trainer


def test_weights_on_few_samples_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    def one_of_them(*, labels: Tensor, **batch: Any) -> Tensor:
        weights = torch.zeros(len(labels))
        weights[0] = len(labels)
        return weights

    fit(digits_classifier(), one_of_them)
    (message,) = warnings_of(caplog)
    assert message.startswith(
        "Epoch 0, counted from 0: the effective sample size of the weights is 1.0 of 32 samples a batch"
    )


def test_spread_weights_are_not_told(caplog: pytest.LogCaptureFixture) -> None:
    fit(digits_classifier(), TanhWeighting(0.0))
    assert warnings_of(caplog) == []


@pytest.mark.parametrize(("settings", "value"), [({"eps": 1.0, "eps_step": 1.0}, 0), ({"eps": 1e-6}, 3)])
def test_a_kappa_that_says_nothing_is_told(settings: Any, value: int, caplog: pytest.LogCaptureFixture) -> None:
    """A model that is right on each digit of two classes; the radius decides."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
        model[1].bias.copy_(torch.linspace(0, 1, 10) if value == 0 else torch.zeros(10))  # type: ignore[operator]
    classifier = classifier_of(model, (1, 8, 8), lr=1e-9)
    attack = GeometryAwarePGD(classifier, **{"max_iter": 3, "eps_step": 0.01, **settings})
    trainer = AdversarialTrainerGAIRAT(classifier, attack, burn_in=0)
    x = digits(96)[0]
    y = np.zeros(96, dtype=np.int64)  # class 0 is the least likely of all, or wins the tie
    trainer.fit(x, y, batch_size=32, nb_epochs=2, verbose=False)
    messages = [m for m in warnings_of(caplog) if "kappa is" in m]
    assert len(messages) == 1
    assert messages[0].startswith(f"Epoch 0, counted from 0: kappa is {value} for each sample")


def test_an_attack_that_changes_nothing_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """The gradient of a step function is zero everywhere, and no random start moves x."""

    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = mlp((1, 8, 8), 10)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.inner(torch.round(x * 4))
            return out

    fit(classifier_of(Steps(), (1, 8, 8)), num_random_init=0)
    assert any(
        message.startswith("Epoch 0, counted from 0: the attack changed no sample") for message in warnings_of(caplog)
    )


def test_an_attack_that_moves_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    fit(digits_classifier(), num_random_init=0)
    assert not any("changed no sample" in message for message in warnings_of(caplog))


def curves(training: list[float], validation: list[float | None]) -> list[Any]:
    """Return records that show these robust accuracies."""
    common: Any = {"effective_sample_size": 32.0, "kappa_histogram": [5, 5]}
    pairs = enumerate(zip(training, validation, strict=True))
    return [{**common, "epoch": i, "train_robust_accuracy": t, "robust_accuracy": v} for i, (t, v) in pairs]


def looked_at(history: list[Any], n: int = 1000) -> Notices:
    meter = EpochMeter(1, torch.device("cpu"))
    meter.samples, meter.batches = 64, 2
    meter.moved.fill_(True)
    notices = Notices(n)
    for i in range(len(history)):
        notices.look(history[: i + 1], meter)
    return notices


RISING = [0.3, 0.4, 0.5, 0.6, 0.7, 0.8]


@pytest.mark.parametrize(
    ("training", "validation", "n", "told"),
    [
        (RISING, [0.3, 0.40, 0.34, 0.33, 0.32, 0.31], 1000, True),
        (RISING, [0.3, 0.40, None, 0.34, 0.33, 0.32], 1000, True),
        (RISING, [0.3, 0.40, 0.39, 0.39, 0.39, 0.39], 1000, False),  # within chance
        (RISING, [0.3, 0.40, 0.34, 0.33, 0.32, 0.31], 20, False),  # within the chance of 20 samples
        (RISING, [0.3, 0.31, 0.32, 0.33, 0.34, 0.35], 1000, False),
        (RISING[::-1], [0.3, 0.40, 0.34, 0.33, 0.32, 0.31], 1000, False),  # training falls as well: no overfitting
        (RISING, [None] * 6, 0, False),
    ],
)
def test_robust_overfitting_is_told(
    training: list[float], validation: list[float | None], n: int, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        looked_at(curves(training, validation), n)
    messages = warnings_of(caplog)
    assert len(messages) == told
    for message in messages:
        assert re.search(r"fell from 40\.0%, its best, in epoch 1, to 3[23]\.\d%, the mean of the last 3,", message)


def told(caplog: pytest.LogCaptureFixture, text: str) -> bool:
    return any(text in message for message in warnings_of(caplog))


FAR = "an adversarial example lies"


@pytest.mark.parametrize(
    ("eps", "clip_values", "far"), [(8.0, (0.0, 1.0), True), (8.0, (0.0, 255.0), True), (0.2, (0.0, 1.0), False)]
)
def test_an_eps_in_other_units_is_told(
    eps: float, clip_values: Any, far: bool, caplog: pytest.LogCaptureFixture
) -> None:
    fit(digits_classifier(clip_values=clip_values), eps=eps, eps_step=eps / 2, nb_epochs=1)
    assert told(caplog, FAR) == far


def test_samples_that_are_all_the_same_are_no_sign(caplog: pytest.LogCaptureFixture) -> None:
    classifier = digits_classifier()
    trainer = AdversarialTrainerGAIRAT(classifier, GeometryAwarePGD(classifier, eps=0.2, max_iter=2), burn_in=0)
    trainer.fit(np.full((32, 1, 8, 8), 0.5, dtype=np.float32), np.arange(32) % 10, nb_epochs=1, verbose=False)
    assert not told(caplog, FAR)


@pytest.mark.parametrize("softmax", [True, False])
def test_a_model_that_returns_probabilities_is_told(softmax: bool, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    last = nn.Softmax(dim=1) if softmax else nn.LogSoftmax(dim=1)
    fit(classifier_of(nn.Sequential(mlp((1, 8, 8), 10), last), (1, 8, 8)))
    assert told(caplog, "the model seems to return probabilities; expected logits") == softmax


def test_copies_of_a_sample_beside_each_other_are_no_sign(caplog: pytest.LogCaptureFixture) -> None:
    classifier = digits_classifier()
    attack = GeometryAwarePGD(classifier, eps=0.2, eps_step=0.1, max_iter=2)
    x, y = (np.repeat(a, 2, axis=0) for a in digits(32))
    loader = DataLoader(TensorDataset(torch.from_numpy(x), torch.from_numpy(y)), batch_size=32)
    AdversarialTrainerGAIRAT(classifier, attack, burn_in=0).fit_generator(loader, nb_epochs=1, verbose=False)
    assert not told(caplog, FAR)


@pytest.mark.parametrize(("burn_in", "told"), [(0.75, True), (2, True), (1, False)])
def test_a_burn_in_that_takes_all_epochs_is_told(burn_in: Any, told: bool, caplog: pytest.LogCaptureFixture) -> None:
    classifier = digits_classifier()
    trainer = AdversarialTrainerGAIRAT(classifier, GeometryAwarePGD(classifier, max_iter=2), burn_in=burn_in)
    trainer.fit(*digits(40), batch_size=40, nb_epochs=2, verbose=False)
    assert any("burn_in takes all 2 epochs" in message for message in warnings_of(caplog)) == told


def test_training_without_weights_has_no_burn_in_to_tell_of(caplog: pytest.LogCaptureFixture) -> None:
    recipes.at(digits_classifier(), max_iter=2).fit(*digits(40), nb_epochs=1, verbose=False)
    assert not any("burn_in" in message for message in warnings_of(caplog))
