"""The batches of one epoch, on their way from the source to the steps."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import islice
from typing import Any

import torch

from art_gair.training.data import Batch, Source
from art_gair.training.interrupts import LeavingError
from art_gair.training.meeting import meet

logger = logging.getLogger(__name__)

OTHER_BATCHES = (
    "The generator yields other batches than before the training was stopped: in the rest of this epoch samples may be "
    "repeated or missed. An order can be repeated that is drawn at the beginning of the epoch from torch's, NumPy's or "
    "Python's global generators, or from those of a DataLoader and its samplers."
)

IN_FLIGHT = 4
"""How often the source may have been asked ahead of the steps: on a GPU for one batch in `on_device` and one in
`merge_singles`, either of which may be two that were merged; also for what shows that there is no more."""

Groups = Generator[list[Batch], None, None]
"""Batches in groups for one step each; closing it lets go of the source, and so ends a DataLoader's workers."""


class EpochBatches:
    """The batches of one epoch on the device, in groups for one step each; it can begin in the middle of the epoch.

    Batches of arrays that were taken already are left out. Those of a generator are gone through again: it begins with
    all random generators where they stood at the beginning of the epoch, and those that had been asked for ahead
    are asked for with them as they stood then, since a transformation may draw from them.

    :param accumulate: batches a step.
    :param left: whether a signal has come that ends the training.
    """

    def __init__(
        self, source: Source, device: torch.device, accumulate: int, left: Callable[[], bool] = lambda: False
    ) -> None:
        self.source, self.device, self.accumulate, self.left = source, device, accumulate, left
        self.began = self.source.read_generators()
        self.pulls, self.before_pulls = 0, [self.began]
        self.last_labels = ""
        self.replayed: dict[str, Any] | None = None

    def __iter__(self) -> Groups:
        """Begin the epoch."""
        return self._groups(self.source()) if self.source.bounds is not None else self._groups_of_generator()

    def resumed(self, state: dict[str, Any], taken: int) -> Groups:
        """Go on in an epoch after `taken` steps, where `state` was saved; put the generators back as they were then.

        :raises LeavingError: if a signal comes, on one process alone: several go through a batch together.
        """
        now = self.source.read_generators()
        self.source.put_back_generators(state["began"])
        self.began = self.source.read_generators()
        if self.source.bounds is not None:
            groups = self._groups(self.source.epoch(taken * self.accumulate))
        else:
            self.replayed = state
            groups = self._groups_of_generator()
            if self._go_through(islice(groups, taken)) < taken:
                raise ValueError(f"generator yielded fewer batches than the {taken * self.accumulate} taken before.")
        self.source.put_back_generators(now, own=not self.source.sharded)  # those have gone on with the batches
        return groups

    def _go_through(self, groups: Iterator[list[Batch]]) -> int:
        """Return how many there were; a source that fails when a signal has come fails because of it."""
        alone, count = self.source.streams.group.size == 1, 0
        try:
            for _ in groups:
                count += 1
                if alone and self.left():
                    raise LeavingError
        except Exception as error:
            if alone and self.left():
                raise LeavingError from error
            raise
        return count

    def state(self) -> dict[str, Any]:
        """Return what `resumed` needs."""
        return {name: getattr(self, name) for name in ("began", "pulls", "before_pulls", "last_labels")}

    def samples(self, step: int) -> list[int] | None:
        """Return the rows of the arrays that a step of this epoch took, None for a generator."""
        bounds, order = self.source.bounds, self.source.order
        if bounds is None or order is None:
            return None
        end = min((step + 1) * self.accumulate, len(bounds) - 1)
        rows: list[int] = order[bounds[step * self.accumulate] : bounds[end]].tolist()
        return rows

    def _groups(self, batches: Iterable[Batch]) -> Groups:
        return grouped(on_device(batches, self.device), self.accumulate)

    def _groups_of_generator(self) -> Groups:
        batches, group = merge_singles(self._watched()), self.source.streams.group
        if group.size > 1:
            batches = meet(batches, group, sharded=self.source.sharded, left=self.left)
        return self._groups(batches)

    def _watched(self) -> Iterator[Batch]:
        """Yield the source's batches; note where the generators stood before each was asked for."""
        batches = iter(self.source())
        while True:
            replayed = self.replayed
            ahead = 0 if replayed is None else replayed["pulls"] - self.pulls
            if replayed is not None and not self.source.sharded and 0 < ahead <= len(replayed["before_pulls"]):
                self.source.put_back_generators(replayed["before_pulls"][-ahead])
            self.before_pulls = [*self.before_pulls, self.source.read_generators()][-IN_FLIGHT:]
            with self.source.lent_generators():
                batch = next(batches, None)
            self.pulls += 1
            self.last_labels = _hash_labels(batch)
            replayed_all = replayed is not None and not self.source.sharded and self.pulls == replayed["pulls"]
            if replayed_all and replayed is not None and self.last_labels != replayed["last_labels"]:
                logger.warning(OTHER_BATCHES)
            if batch is None:
                return
            yield batch


def _hash_labels(batch: Batch | None) -> str:
    """Return a hash of the batch's labels; empty for none, and for labels on a GPU, which would be waited for."""
    return hashlib.sha256(batch[1].numpy().tobytes()).hexdigest() if batch is not None and batch[1].is_cpu else ""


def grouped(batches: Iterable[Batch], size: int) -> Groups:
    """Yield `size` batches at a time, the last ones of an epoch in a smaller group."""
    group: list[Batch] = []
    for batch in batches:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def merge_singles(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Merge a batch of one sample into its larger neighbour: BatchNorm cannot train on a single sample.

    So the last batch of an epoch has up to batch_size + 1 samples. A batch takes one such sample at most, and with a
    batch size of 1 nothing is merged.
    """
    held: Batch | None = None
    merged = False
    for batch in batches:
        if held is None:
            held = batch
        elif not merged and (len(batch[0]) == 1) != (len(held[0]) == 1):
            held = Batch(torch.cat([held[0], batch[0]]), torch.cat([held[1], batch[1]]), held[2] or batch[2])
            merged = True
        else:
            yield held
            held, merged = batch, False
    if held is not None:
        yield held


def on_device(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Bring batches to the device, x as float32; to a GPU through pinned memory, one ahead of their use."""
    ahead: list[Batch] = []
    for x, labels, some_missing, share in batches:
        if device.type == "cuda" and x.is_cpu:
            x, labels = x.pin_memory(), labels.pin_memory()
        x, labels = x.to(device, non_blocking=True).float(), labels.to(device, non_blocking=True)
        ahead.append(Batch(x, labels, some_missing, share))
        if device.type != "cuda" or len(ahead) > 1:
            yield ahead.pop(0)
    yield from ahead
