"""Models with a branch, rarely taken, that fails on images in channels-last memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from art_gair import AWP, AdversarialTrainerGAIRAT, GeometryAwarePGD
from art_gair.engine import FastClassifier
from art_gair.plugins import Plugin
from art_gair.plugins.base import BatchLoss
from tests.models import classifier_of, digits


class Branches(nn.Module):
    """Joins the dimensions of its images where it is told to.

    :param joins: is told the mode and the number of samples; a view is tried out on 4, an update on 8.
    :param how: it joins them: `view` fails in channels-last memory, `reshape` does not.
    """

    def __init__(self, joins: Callable[[bool, int], bool], how: str = "view") -> None:
        super().__init__()
        self.joins, self.how = joins, how
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.last = nn.BatchNorm2d(4), nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.norm(self.first(x)))
        if self.joins(self.training, len(h)):
            h = 0.5 * getattr(h, self.how)(len(h), -1).reshape(h.shape)
        out: Tensor = self.last(self.second(h).reshape(len(h), -1))
        return out


@pytest.mark.parametrize("training", [True, False], ids=["update", "attack"])
def test_such_a_branch_does_not_end_a_training(training: bool, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    model = Branches(lambda mode, n: mode == training and n > 8)
    classifier = classifier_of(model, (1, 8, 8))
    attack = GeometryAwarePGD(classifier, eps=0.1, eps_step=0.05, max_iter=2)
    trainer = AdversarialTrainerGAIRAT(classifier, attack, burn_in=0)
    trainer.fit(*digits(96), batch_size=16, nb_epochs=2, seed=0, verbose=False)
    assert model.norm.num_batches_tracked == 12  # the update that was run twice counts once
    assert f"{'Updates' if training else 'Attacks'} run in float32 and contiguous_format from here on" in caplog.text


def test_another_error_is_raised_as_it_is() -> None:
    torch.manual_seed(0)

    def fails(mode: bool, n: int) -> bool:
        if n > 8:
            raise RuntimeError("out of luck")
        return False

    classifier = FastClassifier(classifier_of(Branches(fails), (1, 8, 8)))
    x = torch.rand(9, 1, 8, 8)
    with classifier.attacked(x) as logits_of, pytest.raises(RuntimeError, match="out of luck"):
        logits_of(x)


class OfTheUser(Plugin):
    """A plugin that may leave something behind if the loss fails: nobody knows."""

    @contextmanager
    def around_loss(self, loss: BatchLoss) -> Iterator[None]:
        yield


@pytest.mark.parametrize(("plugins", "accumulate"), [([OfTheUser()], 1), ([], 2)], ids=["plugin", "parts"])
def test_what_may_not_be_undone_is_not_run_again(plugins: list[Plugin], accumulate: int) -> None:
    torch.manual_seed(0)
    classifier = classifier_of(Branches(lambda mode, n: mode and n > 8), (1, 8, 8))
    trainer = AdversarialTrainerGAIRAT(classifier, GeometryAwarePGD(classifier, max_iter=1), plugins=plugins)
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        trainer.fit(*digits(64), batch_size=16, accumulate=accumulate, nb_epochs=1, verbose=False)


@pytest.mark.parametrize("plugins", [[], [AWP(0.01)]], ids=["none", "AWP"])
def test_a_second_run_leaves_no_trace_of_the_first(plugins: list[Plugin]) -> None:
    states = []
    for how in ("view", "reshape"):
        torch.manual_seed(0)
        model = Branches(lambda mode, n: mode and n > 8, how)
        classifier = classifier_of(model, (1, 8, 8))
        attack = GeometryAwarePGD(classifier, eps=0.1, eps_step=0.05, max_iter=2)
        trainer = AdversarialTrainerGAIRAT(classifier, attack, burn_in=0, plugins=plugins)
        trainer.fit(*digits(64), batch_size=16, nb_epochs=1, seed=0, verbose=False)
        states.append(model.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=1e-4, atol=1e-5, msg=name)
