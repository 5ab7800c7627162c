"""A weighting that cannot work is refused on the first batch, not after the burn-in."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from art_gair import MarginWeighting, TanhWeighting, UniformWeighting
from tests.models import assert_same_state, digits, digits_classifier, state_of, trainer_of

BAD: dict[str, Any] = {
    "negative": lambda **b: torch.tensor([3.0, -1.0]).repeat(8),
    "NaN": lambda **b: torch.full((16,), math.nan),
    "infinite": lambda **b: torch.full((16,), math.inf),
    "sum of 1": lambda **b: torch.full((16,), 1 / 16),
}


@pytest.mark.parametrize("burn_in", [3, 0.5, lambda epoch: epoch < 3], ids=["epochs", "share", "function"])
@pytest.mark.parametrize("name", BAD)
def test_unusable_weights_are_refused_on_the_first_batch_of_the_burn_in(name: str, burn_in: Any) -> None:
    classifier = digits_classifier()
    before = state_of(classifier.model)
    trainer = trainer_of(classifier, BAD[name], burn_in=burn_in)
    with pytest.raises(ValueError, match="negative, not finite or not of mean 1, tried on the first batch for epoch 3"):
        trainer.fit(*digits(48), batch_size=16, nb_epochs=6)
    assert_same_state(classifier.model, before)
    assert classifier.optimizer.state_dict()["state"] == {}


def test_an_error_of_the_weighting_itself_comes_on_the_first_batch_too() -> None:
    def fails(**batch: Any) -> Tensor:
        raise ZeroDivisionError

    classifier = digits_classifier()
    before = state_of(classifier.model)
    with pytest.raises(ZeroDivisionError):
        trainer_of(classifier, fails, burn_in=1).fit(*digits(16), nb_epochs=2)
    assert_same_state(classifier.model, before)


def test_it_is_tried_once_with_the_first_batch_for_its_own_first_epoch() -> None:
    seen: list[Any] = []

    def spy(*, kappa: Tensor, max_iter: int, logits: Tensor, labels: Tensor, epoch: int) -> Tensor:
        seen.append((epoch, kappa.shape, max_iter, tuple(logits.shape), logits.requires_grad))
        return torch.ones(len(labels))

    trainer_of(digits_classifier(), spy, burn_in=2).fit(*digits(32), batch_size=16, nb_epochs=3)
    expected = (2, (16,), 3, (16, 10), False)
    assert seen == [expected] * 3  # the trial, and two batches of epoch 2


def test_a_burn_in_of_all_epochs_asks_nothing_of_the_weighting() -> None:
    trainer = trainer_of(digits_classifier(), BAD["NaN"], burn_in=2)
    trainer.fit(*digits(16), nb_epochs=2)
    assert len(trainer.history) == 2


class Draws:
    """Keeps a count and draws at random."""

    calls = 0

    def __call__(self, **batch: Any) -> Tensor:
        self.calls += 1
        torch.rand(7)
        return torch.ones(len(batch["labels"]))


def test_the_trial_changes_nothing() -> None:
    """Not even for a weighting with a memory that draws at random: a copy is tried, and generators are put back."""
    draws, losses = Draws(), []
    for weighting in (UniformWeighting(), TanhWeighting(-1.0), MarginWeighting(), draws):
        trainer = trainer_of(digits_classifier(), weighting, burn_in=1)
        torch.manual_seed(3)
        trainer.fit(*digits(48), batch_size=16, nb_epochs=2)
        losses.append(trainer.history[0]["loss"])
    assert len(set(losses)) == 1
    assert draws.calls == 3
