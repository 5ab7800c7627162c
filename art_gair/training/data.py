"""Where batches come from: arrays, ART's generators and torch's DataLoader all become epochs of tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from art.data_generators import DataGenerator, PyTorchDataGenerator
from torch import Tensor

from art_gair.classifier import TensorClassifier

Batch = tuple[Tensor, Tensor]
Epoch = Callable[[], Iterable[Batch]]
"""Called once an epoch; yields checked batches on the host: x as it came, labels int64 (n,)."""


def epochs_of_arrays(classifier: TensorClassifier, x: Any, y: Any, batch_size: int, *, unlabelled: bool) -> Epoch:
    """Shuffle arrays anew in each epoch, by torch's generator; everything is checked here, before the first batch.

    :param unlabelled: whether -1 is a label too, here and below.
    """
    inputs = classifier.inputs(x)
    labels = classifier.labels(y, len(inputs), unlabelled=unlabelled)

    def epoch() -> Iterator[Batch]:
        for rows in torch.randperm(len(inputs)).split(batch_size):
            yield inputs[rows], labels[rows]

    return epoch


def epochs_of_generator(classifier: TensorClassifier, generator: Any, *, unlabelled: bool) -> Epoch:
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
            yield x, classifier.labels(batch[1], len(x), "generator's y", unlabelled=unlabelled)

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
            held = (torch.cat([held[0], batch[0]]), torch.cat([held[1], batch[1]]))
        else:
            yield held
            held = batch
    if held is not None:
        yield held


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
