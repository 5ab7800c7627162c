"""What an attack that sees a part of a batch knows of the whole, which several processes share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from art_gair import generators

LARGEST_DRAW = 1 << 28
"""Values of a whole batch that are drawn on each process at most; of a larger one each draws its own part."""


@dataclass(frozen=True)
class Place:
    """Where the rows at hand lie in the whole batch.

    :param n: samples of the whole batch.
    :param first: place in it of the first row at hand.
    :param rows: rows at hand.
    :param generator: that all processes have in the same state.
    :param gather: returns the values (n, ...) of the whole batch from those of the rows at hand; all processes call it.
    """

    n: int
    first: int
    rows: int
    generator: torch.Generator
    gather: Callable[[Tensor], Tensor]


_places: list[Place] = []
"""The present one comes last, if there is one."""


@contextmanager
def part_at(place: Place) -> Iterator[None]:
    """Surround an attack on a part of a batch."""
    _places.append(place)
    try:
        yield
    finally:
        _places.pop()


def place_of(x: Tensor) -> Place | None:
    """Return where x, one row a sample, lies in a whole batch; None: it is the whole."""
    place = _places[-1] if _places else None
    return None if place is None or len(x) != place.rows else place


def draw(x: Tensor, sample: Callable[[Tensor], Tensor]) -> Tensor:
    """Return random values for a batch x, (n, ...); for a part those that its rows have in the whole batch.

    :param sample: draws for a batch, of which it takes the form, from the global generators.
    """
    place = place_of(x)
    if place is None or place.n * x[0].numel() > LARGEST_DRAW:
        return sample(x)
    with generators.lent(place.generator):
        whole = sample(x.new_empty(place.n, *x.shape[1:]))
    return whole[place.first : place.first + place.rows]
