"""Where batches come from: arrays, ART's generators and torch's DataLoader all become epochs of tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from art.data_generators import DataGenerator, PyTorchDataGenerator
from torch import Tensor

from art_gair import generators
from art_gair.engine.classifier import TensorClassifier
from art_gair.hashing import hash_rows
from art_gair.training.semi_supervised import SemiSupervisedBatches

Batch = tuple[Tensor, Tensor, bool]
"""x in the type that was given, labels int64 (n,), and whether there are missing ones among them."""


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
    """

    epoch: Callable[..., Iterator[Batch]]
    length: int | None
    content: Callable[[], dict[str, str]]
    environment: dict[str, str] = field(default_factory=dict)
    generators: list[torch.Generator] = field(default_factory=list)
    bounds: list[int] | None = None
    order: Tensor | None = None

    def __call__(self) -> Iterator[Batch]:
        """Begin an epoch."""
        return self.epoch()

    def read_generators(self, device: torch.device) -> dict[str, Any]:
        """Return where the global random generators and those of the source stand."""
        return {"global": generators.read(device), "own": [generator.get_state() for generator in self.generators]}

    def put_back_generators(self, device: torch.device, state: dict[str, Any]) -> None:
        """Put them where `read_generators` found them."""
        generators.put_back(device, state["global"])
        for generator, values in zip(self.generators, state["own"], strict=True):
            generator.set_state(values)


RESIDENT_BYTES = 2**30
"""Data of at most this size are put on a GPU for good; larger ones stay on the host and cross batch by batch."""


def epochs_from_arrays(classifier: TensorClassifier, x: Any, y: Any, batch_size: int, *, unlabelled: bool) -> Source:
    """Shuffle arrays anew in each epoch; everything is checked here, before the first batch.

    The order comes from torch's generator of the CPU wherever the data lie: a seed gives the same one on any device.
    The arrays are not copied, but for those put on a GPU (`RESIDENT_BYTES`); a batch is, when it is its turn.

    :param unlabelled: whether -1 is a label too, here and below.
    """
    inputs = classifier.inputs(x)
    labels = classifier.labels(y, len(inputs), unlabelled=unlabelled)
    missing = (labels < 0).cpu() if unlabelled else None  # the host must know without asking the device
    if inputs.nbytes <= RESIDENT_BYTES:
        inputs = inputs.to(classifier.device)
    labels = labels.to(inputs.device)
    bounds = _bounds(len(inputs), batch_size)

    def epoch(first: int = 0) -> Iterator[Batch]:
        source.order = order = torch.randperm(len(inputs))
        places = order.to(inputs.device)

        def batch(start: int, end: int) -> Batch:
            rows = places[start:end]
            return inputs[rows], labels[rows], missing is not None and bool(missing[order[start:end]].any())

        return (batch(start, end) for start, end in pairwise(bounds[first:]))

    def content() -> dict[str, str]:
        return {"x": hash_rows(inputs), "y": hash_rows(labels), "batch_size": str(batch_size)}

    source = Source(epoch, len(bounds) - 1, content, bounds=bounds)
    return source


def _bounds(n: int, batch_size: int) -> list[int]:
    """Return where batches begin and end; a single sample that is left over goes to the last batch."""
    starts = [*range(0, n, batch_size)]
    if batch_size > 1 and len(starts) > 1 and n % batch_size == 1:
        starts.pop()
    return [*starts, n]


def epochs_from_generator(classifier: TensorClassifier, generator: Any, *, unlabelled: bool) -> Source:
    """Take the batches of an ART generator, a DataLoader, or any iterable that can be gone through once an epoch.

    :raises TypeError: for an iterator, which would be empty in the second epoch, and for what is not iterable.
    :raises ValueError: for an ART generator without a size; during an epoch, for a batch that is no pair (x, y).
    """
    passes = _passes(generator)

    def epoch() -> Iterator[Batch]:
        batch: Any
        for batch in passes():
            if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                raise ValueError(f"generator yielded {_outline(batch)}; expected a pair (x, y).")
            x = classifier.inputs(batch[0], "generator's x")
            labels = classifier.labels(batch[1], len(x), "generator's y", unlabelled=unlabelled)
            yield x, labels, unlabelled and bool((labels < 0).any())

    loader = generator.iterator if isinstance(generator, PyTorchDataGenerator) else generator
    return Source(epoch, _length(generator), lambda: _content(loader), _environment(loader), _own_generators(loader))


def _content(loader: Any) -> dict[str, str]:
    sizes = {"size": getattr(loader, "size", None), "batch_size": getattr(loader, "batch_size", None)}
    with suppress(AttributeError, TypeError):
        sizes["samples"] = len(loader.dataset)
    with suppress(TypeError):
        sizes["batches"] = len(loader)
    sampler = getattr(loader, "batch_sampler", None)
    sizes["drop_last"] = getattr(loader, "drop_last", None)
    sizes["batch_sampler's batch_size"] = getattr(sampler, "batch_size", None)
    told = {f"generator's {name}": str(value) for name, value in sizes.items() if isinstance(value, int)}
    samplers = {"sampler": getattr(loader, "sampler", None), "batch_sampler": sampler}
    told |= {f"generator's {name}": type(s).__name__ for name, s in samplers.items() if s is not None}
    if isinstance(loader, SemiSupervisedBatches):
        told["generator's share"] = repr(loader.share)
    return {"generator": type(loader).__name__, **told}


def _environment(loader: Any) -> dict[str, str]:
    workers = getattr(loader, "num_workers", None)
    return {"generator's num_workers": str(workers)} if isinstance(workers, int) else {}


def _length(generator: Any) -> int | None:
    """Return the batches of an epoch, None if the generator does not know."""
    if isinstance(generator, DataGenerator) and generator.size is not None:
        return int(-(-generator.size // generator.batch_size))
    try:
        return len(generator)
    except TypeError:
        return None


def _own_generators(loader: Any) -> list[torch.Generator]:
    """Return the generators that a DataLoader and its samplers draw from, if they are not the global one."""
    batch_sampler = getattr(loader, "batch_sampler", None)
    owners = (loader, getattr(loader, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None))
    found = [getattr(owner, "generator", None) for owner in owners]
    return list({id(g): g for g in found if isinstance(g, torch.Generator)}.values())


def _passes(generator: Any) -> Callable[[], Iterable[Any]]:
    if isinstance(generator, PyTorchDataGenerator):
        return lambda: generator.iterator
    if isinstance(generator, DataGenerator) and not hasattr(generator, "__iter__"):
        if generator.size is None:
            raise ValueError("generator has size None; expected a DataGenerator that knows its number of samples.")
        nb_batches = -(-generator.size // generator.batch_size)
        return lambda: (generator.get_batch() for _ in range(nb_batches))
    iterable = (
        hasattr(generator, "__iter__") and getattr(generator, "ndim", None) != 0
    )  # an array of no dimension is none
    if isinstance(generator, (Iterator, type)) or not iterable:
        raise TypeError(
            f"generator is a {type(generator).__name__}; expected an ART DataGenerator, a torch DataLoader, or another "
            "iterable of batches (x, y) that starts afresh in each epoch."
        )
    return lambda: generator


def _outline(batch: Any) -> str:
    return f"a {type(batch).__name__}" + (f" of {len(batch)}" if isinstance(batch, (tuple, list)) else "")
