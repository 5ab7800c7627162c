"""An epoch that is gone on with in its middle gets the batches that it would have got."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from art_gair.plugins import Plugin
from art_gair.plugins.base import Run
from art_gair.plugins.checkpoint import Checkpoint
from art_gair.training import epoch_batches
from art_gair.training.data import Batch
from tests.models import digits, digits_classifier, state_of, trainer_of

pytestmark = pytest.mark.usefixtures("one_thread")


class Varied(Dataset[tuple[Tensor, int]]):
    """Digits darkened at random, as all three generators have it."""

    def __init__(self) -> None:
        self.x, self.y = digits(97)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        factors = random.random(), np.random.random(), torch.rand(()).item()
        return torch.from_numpy(self.x[i]) * (1 - 0.1 * sum(factors)), int(self.y[i])


class Stop(Plugin):
    """Stops the training with an error."""

    affects_training = False

    def __init__(self, epoch: int, batch: int) -> None:
        self.place = epoch, batch

    def between_steps(self, run: Run) -> None:
        if (run.epoch, run.batch) == self.place:
            raise InterruptedError


def train(*plugins: Plugin, resume: bool = False, accumulate: int = 1) -> dict[str, Tensor]:
    trainer = trainer_of(digits_classifier())
    trainer.plugins = plugins
    loader = DataLoader(Varied(), batch_size=16, shuffle=True)
    trainer.fit_generator(loader, nb_epochs=2, seed=1, resume=resume, verbose=False, accumulate=accumulate)
    return state_of(trainer.classifier.model)


def one_ahead(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield batches as to a GPU, which has the next one while it works."""
    ahead: list[Batch] = []
    for batch in batches:
        ahead.append(batch)
        if len(ahead) > 1:
            yield ahead.pop(0)
    yield from ahead


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("ahead", [False, True], ids=["CPU", "as on a GPU"])
def test_batches_that_were_asked_for_ahead_are_drawn_anew_as_they_were(
    ahead: bool, accumulate: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last batch has one sample, and is merged into the one before."""
    if ahead:
        monkeypatch.setattr(epoch_batches, "on_device", one_ahead)
    expected = train(accumulate=accumulate)
    steps = -(-6 // accumulate)
    for batch in range(1, steps + 1):
        folder = tmp_path / str(batch)
        with pytest.raises(InterruptedError):
            train(Checkpoint(folder, every_batches=1), Stop(1, batch), accumulate=accumulate)
        resumed = train(Checkpoint(folder, every_batches=1), resume=True, accumulate=accumulate)
        assert all(torch.equal(resumed[name], value) for name, value in expected.items()), batch
