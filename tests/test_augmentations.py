"""The examples' augmentations, by Kornia: what they do, and that a training with them can be repeated and resumed."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from art_gair import AdversarialTrainerGAIRAT, Checkpoint, GeometryAwarePGD
from art_gair.augmentations import crop, crop_and_flip
from tests.models import assert_same_state, digits, digits_classifier, state_of

MAKERS = [crop, crop_and_flip]


def crops(x: Tensor, padding: int, *, flipped: bool) -> set[tuple[float, ...]]:
    """Return all shifted copies of an image (c, h, w), and their mirror images."""
    _, height, width = x.shape
    padded = nn.functional.pad(x, (padding,) * 4)
    shifts = range(2 * padding + 1)
    copies = [padded[:, top : top + height, left : left + width] for top in shifts for left in shifts]
    return {tuple(c.flatten().tolist()) for c in [*copies, *([c.flip(-1) for c in copies] if flipped else [])]}


@pytest.mark.parametrize("make", MAKERS)
def test_each_image_becomes_one_of_its_shifted_copies(make: Callable[[int, int], nn.Module]) -> None:
    x = torch.arange(1, 2 * 5 * 5 + 1).float().reshape(1, 2, 5, 5).expand(300, -1, -1, -1)
    augmented = make(5, 1)(x)
    assert {tuple(a.flatten().tolist()) for a in augmented} == crops(x[0], 1, flipped=make is crop_and_flip)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("shape", [(128, 3, 32, 32), (1, 1, 32, 32), (5, 3, 32, 32)], ids=str)
def test_shape_and_type_stay_and_pixels_are_copied(make: Callable[[int, int], nn.Module], shape: Any) -> None:
    x = torch.rand(shape)
    augmented = make(32, 4)(x)
    assert (augmented.shape, augmented.dtype, augmented.device) == (x.shape, x.dtype, x.device)
    assert set(augmented.unique().tolist()) <= {0.0, *x.unique().tolist()}


@pytest.mark.parametrize("make", MAKERS)
def test_all_is_drawn_from_torchs_generator_and_nothing_kept(make: Callable[[int, int], nn.Module]) -> None:
    x, used = torch.rand(64, 1, 8, 8), make(8, 1)
    numpy_state, python_state = np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]
    used(x)
    torch.manual_seed(7)
    again = used(x)
    torch.manual_seed(7)
    fresh = make(8, 1)(x)
    assert torch.equal(again, fresh)
    assert not torch.equal(again, used(x))
    assert used.state_dict() == {}
    assert (np.random.get_state()[1].tolist(), random.getstate()) == (numpy_state, python_state)  # type: ignore[index]


def train(folder: Path, *, arrays: bool, resume: bool = False) -> AdversarialTrainerGAIRAT:
    """Train on 60 digits for two epochs of four steps, on arrays or a DataLoader, and save after each step."""
    classifier = digits_classifier()
    attack = GeometryAwarePGD(classifier, eps=0.2, eps_step=0.1, max_iter=2)
    checkpoint = Checkpoint(folder, keep=100, every_batches=1)
    trainer = AdversarialTrainerGAIRAT(classifier, attack, burn_in=0, plugins=[checkpoint])
    x, y = digits(60)
    options: dict[str, Any] = {"augment": crop_and_flip(8, 1), "seed": 5, "resume": resume, "verbose": False}
    if arrays:
        trainer.fit(x, y, batch_size=16, nb_epochs=2, **options)
    else:
        data = TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
        trainer.fit_generator(DataLoader(data, batch_size=16, shuffle=True), nb_epochs=2, **options)
    return trainer


def state(trainer: AdversarialTrainerGAIRAT) -> dict[str, Tensor]:
    return state_of(trainer.classifier.model)


@pytest.mark.parametrize("arrays", [True, False], ids=["fit", "fit_generator"])
def test_a_training_is_repeated_and_resumed_bit_for_bit(arrays: bool, tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", arrays=arrays)
    assert_same_state(train(tmp_path / "again", arrays=arrays).classifier.model, state(whole))
    saves = sorted((tmp_path / "whole").glob("*.checkpoint"))
    assert saves[2].name == "epoch-0000-batch-000002.checkpoint"
    for lost in saves[3:]:
        lost.unlink()
    resumed = train(tmp_path / "whole", arrays=arrays, resume=True)
    assert_same_state(resumed.classifier.model, state(whole))
    for before, after in zip(whole.history, resumed.history, strict=True):
        assert {**before, "seconds": 0} == {**after, "seconds": 0}
