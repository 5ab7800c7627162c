"""A stream without an end, in epochs of so many batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any


class Stream:
    """Goes on where the epoch before left off; where the stream ends all the same, it is begun again.

    :param begin: begins the stream.
    :param batches: of an epoch; one of a single sample, which joins its larger neighbour, counts with that.
    """

    def __init__(self, begin: Callable[[], Iterable[Any]], batches: int) -> None:
        self.begin, self.batches = begin, batches
        self.stream: Iterator[Any] | None = None
        self.largest = 0

    def __call__(self) -> Iterator[Any]:
        """Yield the batches of an epoch; fewer only where the stream has none at all."""
        taken, size, joined = 0, 0, False
        # An epoch does not end on a single sample that waits for a larger neighbour.
        while taken < self.batches or (size == 1 < self.largest and not joined):
            batch = None if self.stream is None else next(self.stream, None)
            if batch is None:
                self.stream = iter(self.begin())
                batch = next(self.stream, None)
            if batch is None:
                return
            before, size = size, _size(batch)
            joined = not joined and before > 0 and (before == 1) != (size == 1)  # as `merge_singles` has it
            taken += not joined
            self.largest = max(self.largest, size)
            yield batch

    def close(self) -> None:
        """Let go of the stream; it is begun again where more is asked for."""
        self.stream = None


def _size(batch: Any) -> int:
    """Return the samples of a batch (x, y); of anything else, which is refused later, 2."""
    pair = isinstance(batch, (tuple, list)) and len(batch) > 0 and hasattr(batch[0], "__len__")
    return len(batch[0]) if pair else 2
