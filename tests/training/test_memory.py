"""A training needs no more memory the longer it runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from art_gair import FriendlyPGD, TanhWeighting
from tests.models import digits, digits_classifier, trainer_of

STATUS = Path("/proc/self/statm")
PAGE = 4096


def resident() -> int:
    """Return this process's resident memory, bytes."""
    return int(STATUS.read_text().split()[1]) * PAGE


@pytest.mark.skipif(not STATUS.exists(), reason="resident memory is read from /proc")
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
