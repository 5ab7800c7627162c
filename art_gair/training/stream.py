"""A stream without an end, in epochs of so many batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any


class Stream:
    """Goes on where the epoch before left off; where the stream ends all the same, it is begun again.

    :param begin: begins the stream.
    :param batches: of an epoch.
    """

    def __init__(self, begin: Callable[[], Iterable[Any]], batches: int) -> None:
        self.begin, self.batches = begin, batches
        self.stream: Iterator[Any] | None = None

    def __call__(self) -> Iterator[Any]:
        """Yield the batches of an epoch; fewer only where the stream has none at all."""
        for _ in range(self.batches):
            batch = None if self.stream is None else next(self.stream, None)
            if batch is None:
                self.stream = iter(self.begin())
                batch = next(self.stream, None)
            if batch is None:
                return
            yield batch
