"""`fit(seed=...)`: the same seed, the same bits, and nothing else is disturbed."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from art_gair import AWP, EMA, TRADES, AdversarialTrainerGAIRAT, FriendlyPGD, GeometryAwarePGD
from tests.models import assert_same_state, digits, digits_classifier, state_of, trainer_of


def fitted(seed: Any, **kwargs: Any) -> Any:
    trainer = trainer_of(digits_classifier())
    trainer.fit(*digits(96), batch_size=32, nb_epochs=2, seed=seed, verbose=False, **kwargs)
    return trainer


def draws() -> tuple[float, float, float]:
    return torch.rand(1).item(), np.random.rand(), random.random()


def histories_agree(a: Any, b: Any) -> bool:
    pairs = zip(a.history, b.history, strict=True)
    return all({**one, "seconds": 0} == {**other, "seconds": 0} for one, other in pairs)


def test_the_same_seed_gives_the_same_bits() -> None:
    first = fitted(7)
    draws()
    second = fitted(7)
    assert_same_state(first.classifier.model, state_of(second.classifier.model))
    assert histories_agree(first, second)
    other = fitted(8)
    assert not histories_agree(first, other)


@pytest.mark.parametrize("attack", [GeometryAwarePGD, FriendlyPGD])
def test_so_do_all_parts_together(attack: Any) -> None:
    models = []
    for _ in range(2):
        classifier = digits_classifier()
        trainer = AdversarialTrainerGAIRAT(
            classifier, attack(classifier, max_iter=3), objective=TRADES(3.0), plugins=[AWP(0.01), EMA(0.9)]
        )
        x, y = digits(96)
        trainer.fit(x, y, (x[:20], y[:20]), batch_size=32, nb_epochs=2, seed=3, verbose=False)
        models.append(classifier.model)
    assert_same_state(models[0], state_of(models[1]))


def test_the_generators_are_put_back() -> None:
    trainer = trainer_of(digits_classifier())
    for values in (torch.manual_seed, np.random.seed, random.seed):
        values(11)
    expected = draws()
    for values in (torch.manual_seed, np.random.seed, random.seed):
        values(11)
    trainer.fit(*digits(64), nb_epochs=1, seed=5, verbose=False)
    assert draws() == expected


def test_without_a_seed_the_generators_are_drawn_from_as_before() -> None:
    models = []
    for _ in range(2):
        trainer = trainer_of(digits_classifier())
        torch.manual_seed(4)
        trainer.fit(*digits(64), nb_epochs=1, verbose=False)
        models.append(trainer.classifier.model)
    assert_same_state(models[0], state_of(models[1]))


@pytest.mark.parametrize(
    ("seed", "error", "message"),
    [
        (-1, ValueError, "seed is -1; expected an int of at least 0"),
        (1.5, TypeError, "seed is 1.5; expected an int"),
        (True, TypeError, "seed is True; expected an int"),
        (2**32, ValueError, "seed is 4294967296; expected an int of at least 0 and at most 4294967295"),
    ],
)
def test_a_seed_that_is_none_is_refused(seed: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        fitted(seed)
