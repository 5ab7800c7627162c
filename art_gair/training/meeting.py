"""Where the processes of a training meet before each batch of a generator: who has one, and of how many samples."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator

from art_gair.distributed.group import Group
from art_gair.distributed.share import LEAST, gathered, split
from art_gair.training.data import Batch

NONE, BATCH, LEFT = 0, 1, 2


class LostSourceError(Exception):
    """A generator has failed because the signal that ends the training has reached its workers too."""


def meet(batches: Iterable[Batch], group: Group, *, sharded: bool, left: Callable[[], bool]) -> Iterator[Batch]:
    """Yield this process's share of each batch.

    An epoch ends when no process has a batch. One that has none while others do computes two samples that count
    nowhere, so that all keep in step.

    :param sharded: whether the processes' batches are parts of one, to be put together; else they are the same batch,
        to be divided.
    :param left: whether a signal has come.
    :raises ValueError: on each process, if batches that should be the same are not, or a process has none at all.
    :raises LostSourceError: on each process, if the source of one failed when a signal had come.
    """
    iterator, last = iter(batches), None
    while True:
        status, batch = _next(iterator, left)
        last = last if batch is None else batch
        numbers = [status, 0 if batch is None else len(batch.x), int(last is not None), _label_number(batch, sharded)]
        every = group.gather_numbers(numbers)
        statuses, counts = [numbers[0] for numbers in every], [numbers[1] for numbers in every]
        if LEFT in statuses:
            raise LostSourceError
        if BATCH not in statuses:
            return
        if sharded:
            without = [rank for rank, numbers in enumerate(every) if not numbers[2]]
            if without or last is None:
                raise ValueError(f"generator yielded no batch in this epoch on the processes of rank {without}.")
            yield _of_its_own(batch, last, counts, group.rank)
        else:
            _require_alike(every)
            assert batch is not None
            share = split(counts[0], group.rank, group.size)
            rows = slice(share.first, share.first + share.rows)
            yield Batch(batch.x[rows], batch.labels[rows], batch.some_missing, share)


def _next(iterator: Iterator[Batch], left: Callable[[], bool]) -> tuple[int, Batch | None]:
    try:
        batch = next(iterator, None)
    except Exception:
        if left():
            return LEFT, None
        raise
    return (NONE if batch is None else BATCH), batch


def _of_its_own(batch: Batch | None, last: Batch, counts: list[int], rank: int) -> Batch:
    if batch is None:
        rows = slice(0, min(LEAST, sum(counts)))
        batch = Batch(last.x[rows], last.labels[rows], last.some_missing)
    return batch._replace(share=gathered(counts, rank, len(batch.x)))


def _label_number(batch: Batch | None, sharded: bool) -> int:
    """Return a number by which batches of other labels are told apart; 0 for labels on a GPU, and of sharded ones."""
    if batch is None or sharded or not batch.labels.is_cpu:
        return 0
    return int.from_bytes(hashlib.sha256(batch.labels.numpy().tobytes()).digest()[:7], "big")


def _require_alike(every: list[list[int]]) -> None:
    if any(numbers != every[0] for numbers in every):
        raise ValueError(
            f"generator yielded other batches on each process, of {[n[1] for n in every]} samples by rank; expected "
            "the same on all, of which each takes its part: an order drawn from torch's, NumPy's or Python's global "
            "generators. If each process has samples of its own: sharded=True."
        )
