"""Where batches come from: arrays, ART's generators and torch's DataLoader all become epochs of tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from art.data_generators import PyTorchDataGenerator
from torch import Tensor

from art_gair.distributed.group import ALONE
from art_gair.distributed.share import Share, split
from art_gair.engine.classifier import TensorClassifier
from art_gair.hashing import hash_rows
from art_gair.training import loaders
from art_gair.training.stream import Stream
from art_gair.training.streams import GLOBAL, Streams


class Batch(NamedTuple):
    """The samples of a batch, or those of them that this process computes."""

    x: Tensor  #: in the type that was given
    labels: Tensor  #: int64 (n,)
    some_missing: bool = False  #: whether there are labels of -1 among them
    share: Share | None = None  #: which they are, where several processes share the batch


@dataclass
class Source:
    """Where the batches of a training come from.

    :param epoch: called once an epoch, returns its batches, on the host or on the device. Where there are `bounds`, it
        takes the number of batches at the beginning to leave out.
    :param length: batches an epoch, None if that cannot be told.
    :param content: what the data are, by name: a training that is resumed must find the same. Goes through the data.
    :param environment: settings that may differ then, such as the number of workers.
    :param generators: random generators of the source's own, beside the global ones.
    :param bounds: where the batches of arrays begin and end in `order`; None for a generator.
    :param order: the rows of the arrays in the order of the present epoch, (n,) on the host.
    :param streams: what is drawn from, and the processes that share each batch.
    :param sharded: whether each process's generator yields its own part of a batch, or all of it.
    :param wake: begins what has lived on from earlier epochs, where a training is resumed after them.
    :param set_epoch: tells the source which epoch begins.
    :param close: lets go of what the source holds from epoch to epoch.
    """

    epoch: Callable[..., Iterator[Batch]]
    length: int | None
    content: Callable[[], dict[str, str]]
    environment: dict[str, str] = field(default_factory=dict)
    generators: list[torch.Generator] = field(default_factory=list)
    bounds: list[int] | None = None
    order: Tensor | None = None
    streams: Streams = GLOBAL
    sharded: bool = False
    wake: Callable[[], None] = lambda: None
    set_epoch: Callable[[int], None] = lambda epoch: None
    close: Callable[[], None] = lambda: None
    noted: list[list[Tensor]] = field(default_factory=list)
    """Where the source's own generators stood on each process between two epochs, if each has samples of its own."""

    def __call__(self) -> Iterator[Batch]:
        """Begin an epoch."""
        return self.epoch()

    def lent_generators(self) -> AbstractContextManager[None]:
        """Surround what a generator draws: alike on each process, unless each has samples of its own."""
        return nullcontext() if self.sharded else self.streams.lent()

    def read_generators(self) -> dict[str, Any]:
        """Return where the random streams of the training and those of the source stand."""
        own: list[Any] = self.noted if self.sharded else self._own()
        return {"global": self.streams.read(), "own": own}

    def put_back_generators(self, state: dict[str, Any], *, own: bool = True) -> None:
        """Put them where `read_generators` found them; those of the source only if asked to."""
        self.streams.put_back(state["global"])
        if own:
            self._put_back_own(state["own"])

    def _put_back_own(self, own: list[Any]) -> None:
        group = self.streams.group
        if self.sharded or any(isinstance(values, list) for values in own):
            self.noted = own if len(own) == group.size else []
            own = self.noted[group.rank] if self.sharded and self.noted else []
        for generator, values in zip(self.generators, own, strict=not self.sharded):
            generator.set_state(values)

    def note_generators(self) -> None:
        """Note where the own generators of all processes stand, between two epochs: process 0 saves them."""
        if self.sharded:
            self.noted = self.streams.group.gather(self._own())

    def _own(self) -> list[Tensor]:
        return [generator.get_state() for generator in self.generators]


RESIDENT_BYTES = 2**30
"""Data of at most this size are put on a GPU for good; larger ones stay on the host and cross batch by batch."""


def epochs_from_arrays(
    classifier: TensorClassifier,
    x: Any,
    y: Any,
    batch_size: int,
    *,
    unlabelled: bool,
    streams: Streams | None = None,
) -> Source:
    """Shuffle arrays anew in each epoch; everything is checked here, before the first batch.

    The order comes from torch's generator of the CPU wherever the data lie: a seed gives the same one on any device.
    The arrays are not copied, but for those put on a GPU (`RESIDENT_BYTES`); a batch is, when it is its turn.

    :param unlabelled: whether -1 is a label too, here and below.
    :param streams: what the order is drawn from, and the processes that share each batch, here and below; None: the
        global generators, and this process alone.
    :raises ValueError: if a batch has less samples than there are processes.
    """
    streams = Streams(ALONE, classifier.device) if streams is None else streams
    group = streams.group
    inputs = classifier.inputs(x)
    labels = classifier.labels(y, len(inputs), unlabelled=unlabelled)
    missing = (labels < 0).cpu() if unlabelled else None  # the host must know without asking the device
    if inputs.nbytes <= RESIDENT_BYTES:
        inputs = inputs.to(classifier.device)
    labels = labels.to(inputs.device)
    bounds = _bounds(len(inputs), batch_size)
    if min(batch_size, len(inputs)) < group.size:
        raise ValueError(
            f"batch_size is {batch_size} and x has {len(inputs)} samples for {group.size} processes; expected at least "
            "one each: batch_size counts the samples of all processes together."
        )

    def epoch(first: int = 0) -> Iterator[Batch]:
        source.order = order = torch.randperm(len(inputs), generator=streams.order)
        places = order.to(inputs.device)

        def batch(start: int, end: int) -> Batch:
            share = None if group.size == 1 else split(end - start, group.rank, group.size)
            if share is not None:
                start, end = start + share.first, start + share.first + share.rows
            rows, some_missing = places[start:end], missing is not None and bool(missing[order[start:end]].any())
            return Batch(inputs[rows], labels[rows], some_missing, share)

        return (batch(start, end) for start, end in pairwise(bounds[first:]))

    def content() -> dict[str, str]:
        return {"x": hash_rows(inputs), "y": hash_rows(labels), "batch_size": str(batch_size)}

    source = Source(epoch, len(bounds) - 1, content, bounds=bounds, streams=streams)
    return source


def _bounds(n: int, batch_size: int) -> list[int]:
    """Return where batches begin and end; a single sample that is left over goes to the last batch."""
    starts = [*range(0, n, batch_size)]
    if batch_size > 1 and len(starts) > 1 and n % batch_size == 1:
        starts.pop()
    return [*starts, n]


def epochs_from_generator(
    classifier: TensorClassifier,
    generator: Any,
    *,
    unlabelled: bool,
    streams: Streams | None = None,
    sharded: bool | None = None,
    batches: int | None = None,
) -> Source:
    """Take the batches of an ART generator, a DataLoader, or any iterable that can be gone through once an epoch.

    :param sharded: None: if a DataLoader has a DistributedSampler.
    :param batches: of an epoch, taken from an endless stream; None: an epoch is one pass through the generator.
    :raises TypeError: for an iterator, which would be empty in the second epoch, and for what is not iterable.
    :raises ValueError: for an ART generator without a size; during an epoch, for a batch that is no pair (x, y).
    """
    streams = Streams(ALONE, classifier.device) if streams is None else streams
    loader = generator.iterator if isinstance(generator, PyTorchDataGenerator) else generator
    several = streams.group.size > 1
    sharded = several and (loaders.has_distributed_sampler(loader) if sharded is None else sharded)
    settings = {"sharded": "True"} if sharded else {}
    if batches is not None:
        settings["generator's batches an epoch"] = str(batches)
    one_pass = loaders.passes(generator)
    stream = None if batches is None else Stream(one_pass, batches)
    passes = one_pass if stream is None else stream

    def epoch() -> Iterator[Batch]:
        batch: Any
        for batch in passes():
            if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                raise ValueError(f"generator yielded {_outline(batch)}; expected a pair (x, y).")
            x = classifier.inputs(batch[0], "generator's x")
            labels = classifier.labels(batch[1], len(x), "generator's y", unlabelled=unlabelled)
            # In memory of its own: the next batch is asked for before this one is used, and may lie in the same arrays.
            yield Batch(x.clone(), labels.clone(), unlabelled and bool((labels < 0).any()))

    return Source(
        epoch,
        loaders.length(generator) if batches is None else batches,
        lambda: {**loaders.content(loader), **settings},
        loaders.environment(loader),
        loaders.own_generators(loader),
        streams=streams,
        sharded=sharded,
        wake=lambda: loaders.wake(loader),
        set_epoch=lambda epoch: loaders.set_epoch(loader, epoch) if several else None,
        close=stream.close if stream is not None else lambda: None,
    )


def _outline(batch: Any) -> str:
    return f"a {type(batch).__name__}" + (f" of {len(batch)}" if isinstance(batch, (tuple, list)) else "")
