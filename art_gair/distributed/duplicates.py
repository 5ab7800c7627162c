"""A dry run of a loader: does any sample come twice, in one process or in several?"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch

from art_gair.checks import require_int
from art_gair.distributed.start import find_group


@dataclass(frozen=True)
class Duplicates:
    """What a dry run found.

    :param samples: that came, on all processes together.
    :param within: of these, how many had come before in the same process.
    :param across: how many different samples came in more than one process.
    """

    samples: int
    within: int
    across: int


def find_duplicates(
    generator: Iterable[Any], batches: int | None = None, *, distributed: bool | None = None
) -> Duplicates:
    """Go through a loader once, without training, and count the samples that come more than once.

    Call it on each process: with `fit_generator(..., sharded=True)` each brings samples of its own. A
    stream that its loader does not divide among processes and workers gives each sample as often as there are these.
    Samples are told apart by a hash of x and y, so true copies in the data count as well; augmented ones do not.

    :param generator: iterable of batches (x, y), each tensors or arrays (n, ...).
    :param batches: how many to look at; None: all of an epoch. An endless stream needs a number.
    :param distributed: as for `fit`.
    :return: a Duplicates with the numbers `samples`, `within` and `across`; all zero but the first is what should be.
    :raises TypeError, ValueError: if an argument is unusable, or a batch is no pair (x, y).
    """
    if batches is not None:
        batches = require_int(batches, "batches", at_least=1)
    if not hasattr(generator, "__iter__") or getattr(generator, "ndim", None) == 0:  # an array of no dimension is none
        raise TypeError(f"generator is a {type(generator).__name__}; expected an iterable of batches (x, y).")
    group = find_group(distributed, torch.device("cpu"))
    with group.together("find_duplicates"):
        hashes = [digest for batch in islice(iter(generator), batches) for digest in _hash_rows(batch)]
        every = group.gather(Counter(hashes))
    samples = sum(sum(counter.values()) for counter in every)
    processes = Counter(digest for counter in every for digest in counter)
    within = samples - sum(len(counter) for counter in every)
    return Duplicates(samples, within, sum(1 for times in processes.values() if times > 1))


def _hash_rows(batch: Any) -> list[bytes]:
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise ValueError(f"generator yielded a {type(batch).__name__}; expected a pair (x, y).")
    try:
        x, y = (torch.as_tensor(part).cpu() for part in batch)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"generator yielded a pair that holds no arrays of numbers: {error}") from error
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        raise ValueError(f"generator yielded x {tuple(x.shape)} and y {tuple(y.shape)}; expected as many samples.")
    return [hashlib.sha256(_bytes(a) + _bytes(b)).digest()[:16] for a, b in zip(x, y, strict=True)]


def _bytes(row: torch.Tensor) -> bytes:
    return row.reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()
