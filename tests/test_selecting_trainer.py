"""The trainer that chooses by held-out data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from art.attacks.evasion import FastGradientMethod
from torch.utils.data import DataLoader, TensorDataset

from art_gair import EMA, TRADES, AdversarialTrainerGAIRAT, BoundaryPGD, Checkpoint, GeometryAwarePGD, UniformWeighting
from art_gair.engine.inputs import as_tensor
from art_gair.selecting_trainer import SelectingTrainer
from tests.models import assert_same_state, digits, digits_classifier, state_of


def trainer_of(plugins: Any = (), kind: Any = SelectingTrainer) -> Any:
    classifier = digits_classifier()
    attack = BoundaryPGD(classifier, eps=0.2, eps_step=0.1, max_iter=4, budget=0.5)
    return kind(classifier, attack, UniformWeighting(), burn_in=0, plugins=plugins)


def test_a_tenth_is_held_out_and_the_best_epoch_kept() -> None:
    """As if the user had done so: the same bits."""
    x, y = digits(100)
    trainer = trainer_of([EMA(0.9, validate="both")])
    trainer.fit(x, y, batch_size=16, nb_epochs=12, seed=1)
    kept_x, kept_y, (held_x, held_y) = trainer._hold_out(x, y)
    assert (len(kept_x), len(held_x)) == (90, 10)
    both = np.concatenate([kept_x, held_x]).reshape(100, -1)
    assert sorted(map(bytes, both)) == sorted(map(bytes, x.reshape(100, -1)))
    by_hand = trainer_of([EMA(0.9, validate="both")], AdversarialTrainerGAIRAT)
    judge = GeometryAwarePGD(by_hand.classifier, eps=0.2, eps_step=0.1, max_iter=4)
    settings: dict[str, Any] = {"keep_best": True, "validation_attack": [judge, judge.with_loss("margin")]}
    by_hand.fit(kept_x, kept_y, (held_x, held_y), batch_size=16, nb_epochs=12, seed=1, **settings)
    assert_same_state(by_hand.classifier.model, state_of(trainer.classifier.model))
    assert trainer.best_epoch == by_hand.best_epoch


def test_the_same_samples_are_held_out_in_each_call_and_labels_stay_with_them() -> None:
    x, y = digits(60)
    first, second = (trainer_of()._hold_out(x, labels) for labels in (y, np.eye(10)[y]))
    for a, b in zip((*first[:2], *first[2]), (*second[:2], *second[2]), strict=True):
        assert (as_tensor(a, "a") == as_tensor(b, "b")).all()
    by_image = {image.tobytes(): int(label) for image, label in zip(x, y, strict=True)}
    for images, labels in (first[:2], first[2]):
        assert [by_image[image.numpy().tobytes()] for image in images] == labels.tolist()


def test_at_most_a_thousand_are_held_out() -> None:
    x, y = digits(1_700)
    _, _, (held, _) = trainer_of()._hold_out(np.tile(x, (8, 1, 1, 1)), np.tile(y, 8))
    assert len(held) == 1_000


def test_what_the_user_says_counts() -> None:
    x, y = digits(40)
    trainer = trainer_of()
    trainer.fit(x, y, (x, y), nb_epochs=4, keep_best=False, validate_every=1)
    assert trainer.best_epoch is None
    assert all(record["robust_accuracy"] is not None for record in trainer.history)


@pytest.mark.parametrize(("plugins", "every"), [([], 4), ([EMA(validate="both")], 7), ([EMA(validate="ema")], 4)])
def test_validation_takes_at_most_half_of_the_passes(plugins: Any, every: int) -> None:
    """20 held-out samples under two attacks of 4 steps, and 31 trained on with 2 steps and an update."""
    trainer = trainer_of(plugins)
    x, y = digits(51)
    trainer.fit(x[20:], y[20:], (x[:20], y[:20]), nb_epochs=9)
    assert validated(trainer) == [*range(every - 1, 8, every), 8]


@pytest.mark.parametrize(("on", "every"), [(10, 2), (0.5, 2), (None, 3)])
def test_validation_on_fewer_samples_comes_more_often(on: Any, every: int) -> None:
    """Two attacks of 4 steps, and 31 samples trained on with a step of ART's FGSM and an update."""
    classifier = digits_classifier()
    judge = GeometryAwarePGD(classifier, eps=0.2, eps_step=0.1, max_iter=4)
    attack = FastGradientMethod(classifier, eps=0.2)
    trainer = SelectingTrainer(classifier, attack, UniformWeighting(), burn_in=0, judge=judge)
    x, y = digits(82)
    trainer.fit(x[20:], y[20:], (x[:20], y[:20]), nb_epochs=7, validate_on=on)
    assert validated(trainer) == [*range(every - 1, 6, every), 6]


def test_restarts_of_the_judge_count() -> None:
    classifier = digits_classifier()
    judge = GeometryAwarePGD(classifier, eps=0.2, eps_step=0.1, max_iter=2, num_random_init=3)
    attack = GeometryAwarePGD(classifier, eps=0.2, eps_step=0.1, max_iter=2)
    trainer = SelectingTrainer(classifier, attack, UniformWeighting(), burn_in=0, judge=judge)
    x, y = digits(60)
    trainer.fit(x[20:], y[20:], (x[:20], y[:20]), nb_epochs=9)
    assert validated(trainer) == [3, 7, 8]


def validated(trainer: Any) -> list[int]:
    return [record["epoch"] for record in trainer.history if record["robust_accuracy"] is not None]


def test_a_class_is_not_held_out_whole(caplog: pytest.LogCaptureFixture) -> None:
    x, y = digits(40)
    trainer = trainer_of()
    single = np.zeros_like(y)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    single[order[0]] = 7  # the first sample that is held out
    _, trained, (_, left) = trainer._hold_out(x, single)
    assert 7 in trained
    assert len(left) == 3
    trainer._hold_out(x[:2], [0, 1])
    assert "the only ones of their classes" in caplog.text


def test_a_training_may_go_on_for_more_epochs_than_it_began_with(tmp_path: Path) -> None:
    x, y = digits(60)
    for epochs, resume in ((2, False), (40, True)):
        trainer = trainer_of([Checkpoint(tmp_path)])
        trainer.fit(x, y, batch_size=30, nb_epochs=epochs, seed=0, resume=resume)
    assert len(trainer.history) == 40


def test_a_training_that_was_stopped_goes_on_bit_for_bit(tmp_path: Path) -> None:
    x, y = digits(60)
    whole = trainer_of()
    whole.fit(x, y, batch_size=16, nb_epochs=3, seed=0)
    for epochs, resume in ((1, False), (3, True)):
        trainer = trainer_of([Checkpoint(tmp_path)])
        trainer.fit(x, y, batch_size=16, nb_epochs=epochs, seed=0, resume=resume)
    assert_same_state(trainer.classifier.model, state_of(whole.classifier.model))


def test_a_generator_needs_validation_data() -> None:
    x, y = (as_tensor(a, "a") for a in digits(40))
    loader = DataLoader(TensorDataset(x, y), batch_size=20)
    trainer = trainer_of()
    with pytest.raises(ValueError, match="validation_data is None; expected"):
        trainer.fit_generator(loader, nb_epochs=2)
    trainer.fit_generator(loader, 2, (x.numpy(), y.numpy()))
    assert trainer.best_epoch is not None


def test_of_semi_supervised_data_a_tenth_of_the_labelled_samples_is_held_out() -> None:
    x, y = digits(100)
    y[30:] = -1
    classifier = digits_classifier()
    attack = GeometryAwarePGD(classifier, eps=0.2, eps_step=0.1, max_iter=2, loss="kl", num_random_init=0)
    trainer = SelectingTrainer(classifier, attack, UniformWeighting(), objective=TRADES(), burn_in=0)
    kept_x, kept_y, (held_x, held_y) = trainer._hold_out(x, y)
    assert (len(kept_x), len(held_x)) == (97, 3)
    assert (held_y >= 0).all()
    assert int((kept_y >= 0).sum()) == 27
    trainer.fit(x, y, nb_epochs=1)
    with pytest.raises(ValueError, match=r"y has 0 labelled sample\(s\)"):
        trainer.fit(x, np.full(100, -1))


def test_the_judge_follows_the_training_attack_unless_one_is_given() -> None:
    trainer = trainer_of()
    trainer.attack.set_params(eps=0.3)
    assert [judge.eps for judge in trainer._judges()] == [0.3, 0.3]
    judge = GeometryAwarePGD(trainer.classifier, eps=0.1)
    given = SelectingTrainer(trainer.classifier, trainer.attack, UniformWeighting(), judge=judge)
    given.attack.set_params(eps=0.4)
    assert [judge.eps for judge in given._judges()] == [0.1, 0.1]
    assert [judge.loss for judge in given._judges()] == ["ce", "margin"]
    assert f"judge={judge!r})" in repr(given)


def test_a_judge_that_cannot_judge_is_refused_by_name() -> None:
    classifier = digits_classifier()
    fixed, scheduled = GeometryAwarePGD(classifier), GeometryAwarePGD(classifier, eps=lambda epoch: 0.1)
    for attack, judge, message in (
        (fixed, GeometryAwarePGD(digits_classifier()), "judge is on another estimator"),
        (fixed, scheduled, "judge has a schedule as its eps"),
        (scheduled, None, "judge is None, and the training attack has a schedule as its eps"),
        (fixed, 3, "judge is 3; expected a GeometryAwarePGD"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            SelectingTrainer(classifier, attack, judge=judge)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"nb_epoch'\]; it takes x, y, validation_data, .*keep_best"):
        trainer_of().fit(*digits(20), nb_epoch=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": digits(1)[0], "y": digits(1)[1]}, r"y has 1 labelled sample\(s\); expected two or more"),
        ({"y": digits(40)[1][:10]}, "y has"),
        ({"nb_epochs": 0}, "nb_epochs is 0"),
        ({"validation_data": 3}, "validation_data is a int"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    x, y = digits(40)
    with pytest.raises(ValueError, match=message):
        trainer_of().fit(**{"x": x, "y": y, "nb_epochs": 1, **arguments})


def test_validation_of_ones_own_and_each_average_count_in_its_cost() -> None:
    def every(plugins: Any = (), **settings: Any) -> int:
        trainer = trainer_of(plugins)
        if "steps" in settings:
            attack = GeometryAwarePGD(trainer.classifier, eps=0.2, eps_step=0.1, max_iter=settings.pop("steps"))
            settings["validation_attack"] = [attack, attack.with_loss("margin")]
        return int(trainer._every(x, (x[:30], y[:30]), settings))

    x, y = digits(60)
    one, both = EMA(0.9), EMA(0.9, validate="both")
    assert [every(), every([one]), every([both]), every([both, EMA(0.8, validate="both")])] == [3, 3, 6, 8]
    assert [every(steps=4), every(steps=40), every(steps=1)] == [3, 27, 1]
    assert every(validate_on=10) == 1


def test_few_looks_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    x, y = digits(60)
    trainer = trainer_of()
    settings: dict[str, Any] = {"validation_data": (x[:30], y[:30]), "verbose": False, "nb_epochs": 5}
    trainer.fit(x, y, **settings)
    assert "Validation comes every 3 epochs" in caplog.text
    assert [r["epoch"] for r in trainer.history if r["robust_accuracy"] is not None] == [2, 4]
    caplog.clear()
    trainer.fit(x, y, **settings, validate_every=3)
    trainer.fit(x, y, **settings, validate_on=10)
    assert "Validation comes" not in caplog.text
