"""Where batches come from: arrays, ART's generators and torch's DataLoader all become epochs of tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from art.data_generators import DataGenerator, PyTorchDataGenerator
from torch import Tensor

from art_gair.engine.classifier import TensorClassifier

Batch = tuple[Tensor, Tensor, bool]
"""x in the type that was given, labels int64 (n,), and whether there are missing ones among them."""

Epoch = Callable[[], Iterable[Batch]]
"""Called once an epoch; yields checked batches, on the host or on the device."""

RESIDENT_BYTES = 2**30
"""Data of at most this size are put on a GPU for good; larger ones stay on the host and cross batch by batch."""


def epochs_from_arrays(classifier: TensorClassifier, x: Any, y: Any, batch_size: int, *, unlabelled: bool) -> Epoch:
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

    def epoch() -> Iterator[Batch]:
        order = torch.randperm(len(inputs))
        for rows, places in zip(order.split(batch_size), order.to(inputs.device).split(batch_size), strict=True):
            yield inputs[places], labels[places], missing is not None and bool(missing[rows].any())

    return epoch


def epochs_from_generator(classifier: TensorClassifier, generator: Any, *, unlabelled: bool) -> Epoch:
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

    return epoch


def merge_singles(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Merge a batch of one sample into its larger neighbour: BatchNorm cannot train on a single sample.

    So the last batch of an epoch has up to batch_size + 1 samples. With a batch size of 1 nothing is merged.
    """
    held: Batch | None = None
    for batch in batches:
        if held is None:
            held = batch
        elif (len(batch[0]) == 1) != (len(held[0]) == 1):
            held = (torch.cat([held[0], batch[0]]), torch.cat([held[1], batch[1]]), held[2] or batch[2])
        else:
            yield held
            held = batch
    if held is not None:
        yield held


def on_device(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Bring batches to the device, x as float32; to a GPU through pinned memory, one ahead of their use."""
    ahead: list[Batch] = []
    for x, labels, some_missing in batches:
        if device.type == "cuda" and x.is_cpu:
            x, labels = x.pin_memory(), labels.pin_memory()
        ahead.append((x.to(device, non_blocking=True).float(), labels.to(device, non_blocking=True), some_missing))
        if device.type != "cuda" or len(ahead) > 1:
            yield ahead.pop(0)
    yield from ahead


def _passes(generator: Any) -> Callable[[], Iterable[Any]]:
    if isinstance(generator, PyTorchDataGenerator):
        return lambda: generator.iterator
    if isinstance(generator, DataGenerator) and not hasattr(generator, "__iter__"):
        if generator.size is None:
            raise ValueError("generator has size None; expected a DataGenerator that knows its number of samples.")
        nb_batches = -(-generator.size // generator.batch_size)
        return lambda: (generator.get_batch() for _ in range(nb_batches))
    if isinstance(generator, Iterator) or not hasattr(generator, "__iter__"):
        raise TypeError(
            f"generator is a {type(generator).__name__}; expected an ART DataGenerator, a torch DataLoader, or another "
            "iterable of batches (x, y) that starts afresh in each epoch."
        )
    return lambda: generator


def _outline(batch: Any) -> str:
    return f"a {type(batch).__name__}" + (f" of {len(batch)}" if isinstance(batch, (tuple, list)) else "")
