"""Augmentation of training inputs before the attack."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from art_gair.plugins import Plugin
from tests.models import assert_same_state, digits, digits_classifier, state_of, trainer_of


def fitted(augment: Any, **kwargs: Any) -> Any:
    trainer = trainer_of(digits_classifier(), num_random_init=0)
    trainer.fit(*digits(64), batch_size=32, nb_epochs=2, seed=0, augment=augment, verbose=False, **kwargs)
    return trainer


def test_the_attack_starts_from_the_augmented_inputs_and_validation_is_left_alone() -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    class Watches(Plugin):
        def end_epoch(self, record: Any) -> None:
            seen.append((record.examples.x, record.examples.x_adv))

    trainer = trainer_of(digits_classifier())
    trainer.plugins = [Watches()]
    shapes: list[int] = []

    def flipped(x: Tensor) -> Tensor:
        shapes.append(len(x))
        return x.flip(3)

    x, y = digits(64)
    trainer.fit(x, y, batch_size=64, nb_epochs=1, augment=flipped, validation_data=(x[:8], y[:8]), verbose=False)
    assert shapes == [64]
    rows = {row.tobytes() for row in np.ascontiguousarray(x[..., ::-1])}
    assert all(row.numpy().tobytes() in rows for row in seen[0][0])
    assert ((seen[0][1] - seen[0][0]).abs() <= trainer.attack.eps + 1e-6).all()


def test_nothing_changes_by_an_augmentation_that_changes_nothing() -> None:
    assert_same_state(fitted(lambda x: x).classifier.model, state_of(fitted(None).classifier.model))


def test_arrays_and_generators_are_augmented_alike() -> None:
    x, y = (torch.from_numpy(a) for a in digits(64))
    models = []
    for flip_before in (True, False):
        trainer = trainer_of(digits_classifier(), num_random_init=0)
        loader = DataLoader(TensorDataset(x.flip(3) if flip_before else x, y), batch_size=32)
        augment = None if flip_before else (lambda batch: batch.flip(3))
        trainer.fit_generator(loader, nb_epochs=2, seed=1, augment=augment, verbose=False)
        models.append(trainer.classifier.model)
    assert_same_state(models[0], state_of(models[1]))


def test_what_leaves_clip_values_is_clipped() -> None:
    assert_same_state(
        fitted(lambda x: x * 3).classifier.model, state_of(fitted(lambda x: (x * 3).clamp(0, 1)).classifier.model)
    )


def test_an_augmentation_in_place_leaves_the_data_alone() -> None:
    x, y = digits(64)
    before = x.copy()
    trainer_of(digits_classifier()).fit(x, y, nb_epochs=1, augment=lambda batch: batch.zero_(), verbose=False)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize(
    ("augment", "error", "message"),
    [
        (3, TypeError, "augment is 3; expected a callable on a batch of tensors"),
        (torch.nn.Identity, TypeError, "augment is <class .*Identity'>; expected a callable"),
        (lambda x: x[:, :, :4], ValueError, r"augment returned \(\(32, 1, 4, 8\), torch.float32"),
        (lambda x: x[:5], ValueError, r"augment returned \(\(5, 1, 8, 8\), torch.float32"),
        (lambda x: x.double(), ValueError, "augment returned .* torch.float64"),
        (lambda x: x.numpy(), ValueError, "augment returned ndarray; expected"),
        (lambda x: x * torch.nan, ValueError, "augment returned NaN or infinite values"),
        (lambda x: x / 0, ValueError, "augment returned NaN or infinite values"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_before_a_step(augment: Any, error: Any, message: str) -> None:
    trainer = trainer_of(digits_classifier())
    before = state_of(trainer.classifier.model)
    with pytest.raises(error, match=message):
        trainer.fit(*digits(64), batch_size=32, nb_epochs=1, augment=augment, verbose=False)
    assert_same_state(trainer.classifier.model, before)
