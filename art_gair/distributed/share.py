"""Which rows of a global batch a process computes, and which of them count as its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

LEAST = 2
"""Rows that a process computes at least: BatchNorm cannot train on one, and a product of one row rounds otherwise."""


@dataclass(frozen=True)
class Share:
    """A process's rows of a global batch, which are `counts.sum()` samples in the order of the ranks.

    Where its own are fewer than LEAST, it computes its neighbours' too; they count there, not here.

    :param counts: samples of each process.
    :param rank: of this one.
    :param first: place in the global batch of the first row that is computed.
    :param rows: rows that are computed.
    :param own: those of them that are this process's own.
    """

    counts: tuple[int, ...]
    rank: int
    first: int
    rows: int
    own: slice

    @property
    def n(self) -> int:
        """Samples of the global batch."""
        return sum(self.counts)

    @property
    def all_own(self) -> bool:
        """Whether each computed row is this process's own."""
        return self.own == slice(0, self.rows)


def split(n: int, rank: int, size: int) -> Share:
    """Split a global batch of n samples evenly."""
    edges = [n * i // size for i in range(size + 1)]
    counts = tuple(b - a for a, b in pairwise(edges))
    begin, end = edges[rank], edges[rank + 1]
    first, last = begin, end
    if last - first < min(LEAST, n):
        last = min(n, max(last, first + LEAST))
        first = max(0, min(first, last - LEAST))
    return Share(counts, rank, first, last - first, slice(begin - first, end - first))


def gathered(counts: Sequence[int], rank: int, rows: int) -> Share:
    """Return the share of a process that brings its own samples.

    :param rows: that it computes; more than its own where it has none left, and computes others that count nowhere.
    """
    before = sum(counts[:rank])
    first = max(0, min(before, sum(counts) - rows))
    return Share(tuple(counts), rank, first, rows, slice(0, counts[rank]))
