"""A training needs no more memory the longer it runs."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from art_gair import EMA, AdversarialTrainerGAIRAT, FriendlyPGD, GeometryAwarePGD, TanhWeighting
from art_gair.plugins import Plugin
from art_gair.plugins.checkpoint import Checkpoint
from tests.models import classifier_of, digits, digits_classifier, mlp, trainer_of

STATUS = Path("/proc/self/statm")
PAGE = 4096

pytestmark = [
    pytest.mark.skipif(not STATUS.exists(), reason="resident memory is read from /proc"),
    pytest.mark.usefixtures("one_thread"),
]


def resident() -> int:
    """Return this process's resident memory, bytes."""
    return int(STATUS.read_text().split()[1]) * PAGE


@pytest.mark.slow
@pytest.mark.parametrize("friendly", [False, True])
def test_resident_memory_is_flat_over_500_steps(friendly: bool) -> None:
    """After 100 steps to settle, 400 more may add 4 MiB; one forgotten graph a step would add over 100."""
    classifier = digits_classifier()
    sizes: list[int] = []
    trainer = trainer_of(classifier, TanhWeighting(-1.0))
    if friendly:
        trainer.attack = FriendlyPGD(classifier, eps=0.2, eps_step=0.1, max_iter=3)

    class Watched(list):  # type: ignore[type-arg]
        """Batches that note the memory each time they are gone through."""

        def __iter__(self) -> Iterator[Any]:
            sizes.append(resident())
            return super().__iter__()

    x, y = digits(640)
    batches = Watched((x[i : i + 64], y[i : i + 64]) for i in range(0, 640, 64))
    trainer.fit_generator(batches, nb_epochs=50)
    assert max(sizes[10:]) - sizes[10] < 4 * 2**20


class Sizes(Plugin):
    """Notes the resident memory and how many tensors there are, every so many steps."""

    affects_training = False

    def __init__(self, every: int) -> None:
        self.every, self.steps = every, 0
        self.memory: list[int] = []
        self.tensors: list[int] = []

    def after_step(self) -> None:
        self.steps += 1
        if self.steps % self.every == 0:
            gc.collect()
            self.tensors.append(sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects()))
            self.memory.append(resident())


@pytest.mark.slow
def test_memory_and_tensors_are_flat_over_2000_steps_that_are_saved_in_between(tmp_path: Path) -> None:
    """A save that is not forgotten keeps where torch's generator stood, at the least one tensor; there are 26 saves."""
    classifier = classifier_of(mlp((1, 8, 8), 10), (1, 8, 8))
    sizes, saving = Sizes(every=200), Checkpoint(tmp_path, every_batches=100)
    attack = GeometryAwarePGD(classifier, eps=0.2, eps_step=0.2, max_iter=1)
    plugins = [saving, EMA(0.99), sizes]
    trainer = AdversarialTrainerGAIRAT(classifier, attack, TanhWeighting(-1.0), burn_in=0, plugins=plugins)
    trainer.fit(*digits(1600), batch_size=8, nb_epochs=10, verbose=False)
    assert len(sizes.memory) == 10
    assert max(sizes.tensors[2:]) - sizes.tensors[2] < 10
    assert max(sizes.memory[2:]) - sizes.memory[2] < 4 * 2**20
