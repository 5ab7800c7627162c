"""Submodules that the user froze in eval mode stay in it."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import nn

from art_gair.plugins import Plugin
from tests.models import assert_same_state, classifier_of, conv_net, digits, state_of, trainer_of


def fine_tuned() -> nn.Module:
    """A backbone with BatchNorm, frozen in eval mode, and a head in train mode."""
    backbone = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    model = nn.Sequential(backbone, nn.Flatten(), nn.BatchNorm1d(144), nn.Linear(144, 10))
    backbone.requires_grad_(False).eval()
    return model


class Flags(Plugin):
    """Notes, in each step, the modules in eval mode."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.seen: set[tuple[str, ...]] = set()

    def after_backward(self) -> None:
        self.seen.add(tuple(name for name, m in self.model.named_modules() if not m.training))


def flags(trainer: Any, nb_epochs: int = 1) -> set[tuple[str, ...]]:
    """Train; return which modules were in eval mode during the updates."""
    watch = Flags(trainer.classifier.model)
    trainer.plugins = [watch]
    trainer.fit(*digits(32), batch_size=16, nb_epochs=nb_epochs, validation_data=digits(8))
    return watch.seen


FROZEN = ("0", "0.0", "0.1", "0.2")


def test_a_backbone_frozen_in_eval_mode_does_not_move(caplog: pytest.LogCaptureFixture) -> None:
    model = fine_tuned()
    before = state_of(model[0])  # type: ignore[index]
    trainer = trainer_of(classifier_of(model, (1, 8, 8)))
    with caplog.at_level(logging.INFO, logger="art_gair"):
        assert flags(trainer, nb_epochs=2) == {FROZEN}
    assert_same_state(model[0], before)  # type: ignore[index]
    assert model[2].num_batches_tracked == 4  # type: ignore[index]
    assert [m for m in caplog.messages if "eval mode" in m] == ["Submodules in eval mode stay in it: 0."]


def test_the_choice_outlives_predict_and_an_earlier_training() -> None:
    """Both leave all of the model in eval mode, as ART does."""
    classifier = classifier_of(fine_tuned(), (1, 8, 8))
    trainer = trainer_of(classifier)
    classifier.predict(digits(8)[0])
    assert flags(trainer) == {FROZEN}
    assert flags(trainer) == {FROZEN}


def test_a_new_choice_before_fit_counts() -> None:
    trainer = trainer_of(classifier_of(fine_tuned(), (1, 8, 8)))
    trainer.classifier.model.train()
    assert flags(trainer) == {()}
    trainer.classifier.model.train()
    trainer.classifier.model[2].eval()
    assert flags(trainer) == {("2",)}


def test_a_child_in_train_mode_below_one_in_eval_mode_stays_in_train_mode() -> None:
    model = fine_tuned()
    model[0][1].train()  # type: ignore[index]
    assert flags(trainer_of(classifier_of(model, (1, 8, 8)))) == {("0", "0.0", "0.2")}


def test_a_model_in_eval_mode_as_a_whole_is_trained_as_a_whole() -> None:
    """As after ART's `fit` or `predict`; where layers look frozen, a warning tells what to do."""
    model = conv_net().eval()
    assert flags(trainer_of(classifier_of(model, (1, 8, 8)))) == {()}


def test_frozen_batchnorm_that_moves_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    model = fine_tuned()
    classifier = classifier_of(model, (1, 8, 8))
    classifier.predict(digits(8)[0])
    trainer = trainer_of(classifier)
    assert flags(trainer) == {()}
    assert "moves the running statistics of 0.1, whose parameters are frozen" in caplog.text
    caplog.clear()
    torch.manual_seed(0)
    plain = trainer_of(classifier_of(conv_net(), (1, 8, 8)))
    flags(plain)
    assert "statistics" not in caplog.text
