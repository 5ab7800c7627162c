"""What a generator or a DataLoader tells of itself, and one pass through it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

import torch
from art.data_generators import DataGenerator, KerasDataGenerator, PyTorchDataGenerator
from torch.utils.data import DataLoader, DistributedSampler

from art_gair.training.semi_supervised import SemiSupervisedBatches


def has_distributed_sampler(loader: Any) -> bool:
    """Whether each process gets samples of its own."""
    batch_sampler = getattr(loader, "batch_sampler", None)
    samplers = (getattr(loader, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None))
    return any(isinstance(sampler, DistributedSampler) for sampler in samplers)


def set_epoch(loader: Any, epoch: int) -> None:
    """Tell a DistributedSampler, and whatever else has set_epoch, which epoch begins: it shuffles by that number."""
    batch_sampler = getattr(loader, "batch_sampler", None)
    parts = (loader, getattr(loader, "dataset", None), getattr(loader, "sampler", None), batch_sampler)
    for part in {id(p): p for p in (*parts, getattr(batch_sampler, "sampler", None))}.values():
        set_epoch = getattr(part, "set_epoch", None)
        if callable(set_epoch):
            set_epoch(epoch)


def wake(loader: Any) -> None:
    """Start a DataLoader's persistent workers.

    It draws a seed for them from its generator where they start, once for all epochs: a training that is resumed in a
    later epoch begins that epoch without this draw, or its order would be another.
    """
    if isinstance(loader, DataLoader) and loader.persistent_workers:
        DataLoader.__iter__(loader)  # a class that derives from it may begin later


def content(loader: Any) -> dict[str, str]:
    """Return what the data are, as far as it tells, by name: a training that is resumed must find the same."""
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


def environment(loader: Any) -> dict[str, str]:
    """Return settings that may differ then, by name."""
    workers = getattr(loader, "num_workers", None)
    return {"generator's num_workers": str(workers)} if isinstance(workers, int) else {}


def length(generator: Any) -> int | None:
    """Return the batches of an epoch, None if the generator does not know."""
    if isinstance(generator, PyTorchDataGenerator) and (batches := length(generator.iterator)) is not None:
        return batches
    if isinstance(generator, DataGenerator) and generator.size is not None:
        batches = getattr(generator, "batches_per_epoch", -(-generator.size // generator.batch_size))
        return int(batches)
    try:
        return len(generator) - _leaves_one(generator)
    except (TypeError, NotImplementedError):
        return None


def _leaves_one(loader: Any) -> bool:
    """Whether a DataLoader's last batch has one sample, as far as it tells: it joins the batch before."""
    size = getattr(loader, "batch_size", None)
    if not isinstance(loader, DataLoader) or size is None or size == 1 or loader.drop_last:
        return False
    n = len(loader.sampler) if hasattr(loader.sampler, "__len__") else 0  # type: ignore[arg-type]
    return bool(n > size and n % size == 1)


def own_generators(loader: Any) -> list[torch.Generator]:
    """Return the generators that a DataLoader and its samplers draw from, if they are not the global one."""
    batch_sampler = getattr(loader, "batch_sampler", None)
    owners = (loader, getattr(loader, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None))
    found = [getattr(owner, "generator", None) for owner in owners]
    return list({id(g): g for g in found if isinstance(g, torch.Generator)}.values())


def passes(generator: Any) -> Callable[[], Iterable[Any]]:
    """Return what begins a pass through a generator.

    :raises TypeError: for an iterator, which would be empty in the second epoch, and for what is not iterable.
    :raises ValueError: for an ART generator without a size.
    """
    if isinstance(generator, PyTorchDataGenerator):
        return lambda: generator.iterator
    if isinstance(generator, DataGenerator) and not hasattr(generator, "__iter__"):
        if generator.size is None:
            raise ValueError("generator has size None; expected a DataGenerator that knows its number of samples.")
        nb_batches = -(-generator.size // generator.batch_size)
        held = generator.iterator if type(generator) is KerasDataGenerator else None
        # Of a Keras Sequence get_batch gives the first batch each time.
        if hasattr(held, "__getitem__") and not isinstance(held, Iterator):
            return lambda: islice(iter(held), nb_batches)  # type: ignore[arg-type]
        return lambda: (generator.get_batch() for _ in range(nb_batches))
    iterable = hasattr(generator, "__iter__") and getattr(generator, "ndim", None) != 0  # an array of none is not
    if isinstance(generator, (Iterator, type)) or not iterable:
        raise TypeError(
            f"generator is a {type(generator).__name__}; expected an ART DataGenerator, a torch DataLoader, or another "
            "iterable of batches (x, y) that starts afresh in each epoch."
        )
    return lambda: generator
