"""Augmentations by Kornia: what they do, and that a training with them can be repeated and resumed."""

from __future__ import annotations

import pickle
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from art_gair import AdversarialTrainerGAIRAT, Checkpoint, GeometryAwarePGD
from art_gair.augmentations import CropShift, color_or_shape, crop, crop_and_flip, idbh_weak
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


def shifted_crops(x: Tensor, most: int) -> set[tuple[float, ...]]:
    """Return all that CropShift may make of an image (c, h, w): literal loops over cuts and places."""
    _, height, width = x.shape
    found = set()
    for lost in range(most + 1):
        for lost_columns in range(lost + 1):
            h, w = height - lost + lost_columns, width - lost_columns
            for top in range(height - h + 1):
                for left in range(width - w + 1):
                    for put_top in range(height - h + 1):
                        for put_left in range(width - w + 1):
                            canvas = torch.zeros_like(x)
                            piece = x[:, top : top + h, left : left + w]
                            canvas[:, put_top : put_top + h, put_left : put_left + w] = piece
                            found.add(tuple(canvas.flatten().tolist()))
    return found


def test_crop_shift_makes_each_of_its_images_and_no_other() -> None:
    x = torch.arange(1, 2 * 4 * 3 + 1).float().reshape(1, 2, 4, 3).expand(6_000, -1, -1, -1)
    assert {tuple(a.flatten().tolist()) for a in CropShift(2)(x)} == shifted_crops(x[0], 2)


def test_crop_shift_loses_each_number_of_rows_and_columns_as_often() -> None:
    x = torch.ones(20_000, 1, 8, 8)
    lost = (x - CropShift(3)(x)).sum(dim=(1, 2, 3))
    by_rows_and_columns = {0: 1 / 4}
    for total in (1, 2, 3):
        for columns in range(total + 1):
            area = 64 - (8 - total + columns) * (8 - columns)
            by_rows_and_columns[area] = by_rows_and_columns.get(area, 0) + 1 / 4 / (total + 1)
    for area, share in by_rows_and_columns.items():
        assert (lost == area).float().mean().item() == pytest.approx(share, abs=0.015)


@pytest.mark.parametrize("shape", [(64, 3, 32, 32), (64, 1, 28, 28), (1, 3, 8, 12), (64, 2, 9, 9)], ids=str)
@pytest.mark.parametrize("flip", [True, False])
def test_idbh_keeps_shape_range_and_generators(shape: Any, flip: bool) -> None:
    x, used = torch.rand(shape), idbh_weak(flip=flip)
    before = x.clone()
    numpy_state, python_state = np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]
    used(x)
    torch.manual_seed(7)
    again = used(x)
    torch.manual_seed(7)
    assert torch.equal(again, idbh_weak(flip=flip)(x))
    assert torch.equal(x, before)
    assert (again.shape, again.dtype) == (x.shape, x.dtype)
    assert 0 <= again.min() <= again.max() <= 1
    assert (np.random.get_state()[1].tolist(), random.getstate()) == (numpy_state, python_state)  # type: ignore[index]


def test_idbh_moves_each_image_by_itself() -> None:
    x = torch.rand(1, 3, 32, 32).expand(200, -1, -1, -1)
    augmented = idbh_weak()(x)
    assert len({tuple(a.flatten().tolist()) for a in augmented}) > 190
    black = (augmented == 0).all(dim=1).float().mean(dim=(1, 2))
    assert 0.05 < black.mean() < 0.4  # CropShift, a shear or rotation, and a rectangle erased from half of them


@pytest.mark.parametrize("number", range(8))
def test_each_operation_keeps_shape_and_range(number: int) -> None:
    x = torch.rand(40, 3, 16, 16)
    changed = color_or_shape()[number](x)
    assert changed.shape == x.shape
    assert changed.min() >= 0
    assert changed.max() <= 1
    moved = (changed - x).abs().flatten(1).amax(dim=1) > 0
    assert moved.float().mean() > 0.5  # a rotation by a few degrees moves no pixel by half its width


def test_colour_operations_equal_their_formulas() -> None:
    """The draw of the strength is repeated; grey is ITU-R 601, the contrast is that to the mean grey."""
    x = torch.rand(30, 3, 6, 6)
    grey = (0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2])[:, None]
    mean = grey.mean(dim=(1, 2, 3), keepdim=True)
    formulas: list[tuple[float, Callable[[Tensor], Tensor]]] = [
        (0.1, lambda f: f * x + (1 - f) * grey),
        (0.5, lambda f: f * x),
        (0.5, lambda f: f * x + (1 - f) * mean),
    ]
    for operation, (least, formula) in zip(color_or_shape(), formulas, strict=False):
        torch.manual_seed(3)
        factor = torch.empty(30).uniform_(least, 1.9).view(-1, 1, 1, 1)
        torch.manual_seed(3)
        torch.testing.assert_close(operation(x), formula(factor).clamp(0, 1), rtol=0, atol=1e-5)


def test_a_constant_channel_is_not_stretched() -> None:
    x = torch.full((2, 3, 4, 4), 0.8)
    x[0, 0, 0, 0] = 0.3
    stretched = color_or_shape()[4](x)
    assert torch.equal(stretched[1], x[1])
    assert stretched[0, 0].unique().tolist() == [0.0, 1.0]


def test_idbh_can_be_pickled() -> None:
    x, again = torch.rand(8, 3, 8, 8), pickle.loads(pickle.dumps(idbh_weak()))
    torch.manual_seed(1)
    expected = idbh_weak()(x)
    torch.manual_seed(1)
    assert torch.equal(again(x), expected)


@pytest.mark.parametrize("clip_values", [(0.0, 255.0), (-1.0, 1.0)], ids=str)
def test_a_training_on_another_range_refuses_idbh_at_once(clip_values: Any) -> None:
    classifier = digits_classifier(clip_values=clip_values)
    x, y = digits(16)
    x = x * (clip_values[1] - clip_values[0]) + clip_values[0]
    attack = GeometryAwarePGD(classifier, eps=0.2, eps_step=0.1, max_iter=2)
    with pytest.raises(ValueError, match=r"idbh_weak got images from .* to .*; expected values in \[0, 1\]"):
        AdversarialTrainerGAIRAT(classifier, attack).fit(x, y, nb_epochs=1, augment=idbh_weak())


def test_a_training_with_idbh_is_resumed_bit_for_bit(tmp_path: Path) -> None:
    def trained(epochs: int, *, resume: bool, folder: Path) -> AdversarialTrainerGAIRAT:
        classifier = digits_classifier()
        attack = GeometryAwarePGD(classifier, eps=0.2, eps_step=0.1, max_iter=2)
        trainer = AdversarialTrainerGAIRAT(classifier, attack, burn_in=0, plugins=[Checkpoint(folder)])
        options: dict[str, Any] = {"augment": idbh_weak(flip=False), "seed": 5, "resume": resume, "verbose": False}
        trainer.fit(*digits(60), batch_size=16, nb_epochs=epochs, **options)
        return trainer

    whole = trained(2, resume=False, folder=tmp_path / "whole")
    trained(1, resume=False, folder=tmp_path / "parts")
    resumed = trained(2, resume=True, folder=tmp_path / "parts")
    assert_same_state(resumed.classifier.model, state(whole))


def test_without_kornia_an_augmentation_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kornia", None)
    for make in (crop, crop_and_flip, idbh_weak):
        with pytest.raises(ImportError, match=r"augmentations need Kornia: pip install art-gair\[augment\]"):
            make()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: idbh_weak(flip=1), TypeError, "flip is 1; expected True or False"),  # type: ignore[arg-type]
        (lambda: crop(8, padding=-1), ValueError, "padding is -1"),
        (lambda: crop("a"), TypeError, "size is 'a'"),  # type: ignore[arg-type]
        (lambda: crop_and_flip(0), ValueError, "size is 0"),
        (lambda: idbh_weak()(torch.rand(4, 5)), ValueError, r"idbh_weak got \(4, 5\); expected images"),
        (lambda: idbh_weak()(torch.rand(4, 32, 32, 3)), ValueError, r"idbh_weak got .*, channels last it seems"),
        (lambda: idbh_weak()(torch.rand(4, 1, 2, 2)), ValueError, "of at least 3 x 3"),
        (lambda: CropShift(-1), ValueError, "most is -1"),
        (lambda: CropShift(1.5), TypeError, r"most is 1\.5"),  # type: ignore[arg-type]
        (lambda: CropShift(8)(torch.rand(2, 1, 8, 9)), ValueError, "most is 8 on images of 8 x 9; expected less"),
    ],
)
def test_bad_arguments_are_named(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
