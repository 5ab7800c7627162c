"""Batches of generators on several processes: the same on each, or each with samples of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset, TensorDataset, get_worker_info

from art_gair import AdversarialTrainerGAIRAT
from art_gair.distributed import find_duplicates
from art_gair.distributed.duplicates import Duplicates
from tests.distributed.cases import CASES, classifier_for, without_times
from tests.distributed.launch import Failed, launch
from tests.distributed.test_same_training import assert_alike
from tests.models import digits

pytestmark = pytest.mark.xdist_group(__name__)


def tensors(n: int = 50) -> TensorDataset:
    return TensorDataset(*(torch.from_numpy(a) for a in digits(n)))


def train(loader: Any, **settings: Any) -> Any:
    classifier = classifier_for("GAIRAT")
    trainer = AdversarialTrainerGAIRAT(classifier, burn_in=0, **CASES["GAIRAT"](classifier))
    trainer.fit_generator(loader, **{"nb_epochs": 2, "seed": 3, "verbose": False, **settings})
    return classifier.model.state_dict(), without_times(trainer)


def assert_same(found: Any, expected: Any) -> None:
    assert not isinstance(found, Failed), found
    for name, value in expected[0].items():
        np.testing.assert_allclose(found[0][name], value, rtol=0, atol=1e-10, err_msg=name)
    assert_alike(found[1], expected[1])


def by_one_order() -> Any:
    """The order comes from torch's global generator, as by default."""
    return train(DataLoader(tensors(), 16, shuffle=True))


def test_a_loader_that_is_the_same_on_each_process_is_divided() -> None:
    expected = by_one_order()
    for found in launch(3, by_one_order):
        assert_same(found, expected)


class Interleaved(torch.utils.data.Sampler[int]):
    """The order in which two processes with a DistributedSampler together see the samples."""

    def __init__(self, n: int) -> None:
        self.epoch, self.n = -1, n

    def __iter__(self) -> Iterator[int]:
        self.epoch += 1
        parts = []
        for rank in (0, 1):
            sampler: Any = DistributedSampler(tensors(self.n), num_replicas=2, rank=rank, seed=5)
            sampler.set_epoch(self.epoch)
            parts.append([*sampler])
        for start in range(0, len(parts[0]), 8):
            yield from (*parts[0][start : start + 8], *parts[1][start : start + 8])

    def __len__(self) -> int:
        return self.n


def by_distributed_sampler() -> Any:
    """An even split, which needs no word: 48 samples, 8 of each batch of 16 on either process."""
    from art_gair.distributed.start import find_group

    data, group = tensors(48), find_group(None, torch.device("cpu"))
    sampler: Any = DistributedSampler(data, num_replicas=2, rank=group.rank, seed=5)
    return train(DataLoader(data, 8, sampler=sampler))


def test_a_distributed_sampler_gives_each_process_its_own() -> None:
    data = tensors(48)
    own = torch.Generator()  # else the loader draws a seed for workers from what the attack draws from
    expected = train(DataLoader(data, 16, sampler=Interleaved(48), generator=own))
    for found in launch(2, by_distributed_sampler):
        assert_same(found, expected)


class Sharded(IterableDataset[Any]):
    """A stream of which each process, and each of its workers, yields a part."""

    def __init__(self, n: int, *, endless: bool = False, by_worker: bool = True) -> None:
        self.data, self.endless, self.by_worker = tensors(n), endless, by_worker
        self.rank, self.size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])

    def __iter__(self) -> Iterator[Any]:
        rank, size = self.rank, self.size
        worker = get_worker_info()
        if worker is not None and self.by_worker:
            rank, size = rank * worker.num_workers + worker.id, size * worker.num_workers
        while True:
            for i in range(rank, len(self.data), size):
                yield self.data[i]
            if not self.endless:
                return


def by_uneven_shards() -> Any:
    """33 samples: 17 on process 0, in batches of 8, 8 and 1; 16 on the other, which has none for the last."""
    _, history = train(DataLoader(Sharded(33), 4), sharded=True)
    return sum(history[0]["kappa_histogram"]), history


def test_shards_of_different_lengths_are_gone_through_to_the_end() -> None:
    first, second = launch(2, by_uneven_shards)
    assert not isinstance(first, Failed), first
    assert first == second
    assert first[0] == 33


def by_endless_stream() -> Any:
    loader = DataLoader(Sharded(40, endless=True), 4, num_workers=2, multiprocessing_context="fork")
    _, history = train(loader, sharded=True, steps_per_epoch=3, accumulate=2)
    return [sum(record["kappa_histogram"]) for record in history]


def test_an_endless_stream_in_epochs_of_so_many_steps() -> None:
    """3 steps of 2 batches of 4 samples on 2 processes."""
    assert launch(2, by_endless_stream) == [[48, 48], [48, 48]]


def test_an_endless_stream_on_one_process_goes_on_where_it_was() -> None:
    seen: list[int] = []

    def numbered() -> Iterator[Any]:
        x, y = digits(96)
        for start in range(0, 96, 8):
            seen.append(start)
            yield x[start : start + 8], y[start : start + 8]

    class Endless:
        def __iter__(self) -> Iterator[Any]:
            return numbered()

    train(Endless(), steps_per_epoch=5, nb_epochs=3)
    assert seen == [*range(0, 96, 8), 0, 8, 16]


def count(loader: DataLoader[Any], batches: int | None = None) -> Duplicates:
    return find_duplicates(loader, batches)


def well_sharded() -> Any:
    return count(DataLoader(Sharded(40), 4, num_workers=2, multiprocessing_context="fork"))


def same_in_each_worker() -> Any:
    return count(DataLoader(Sharded(40, by_worker=False), 4, num_workers=2, multiprocessing_context="fork"))


def same_in_each_process() -> Any:
    return count(DataLoader(tensors(40), 8), batches=3)


@pytest.mark.parametrize(
    ("loader", "expected"),
    [
        (well_sharded, Duplicates(40, 0, 0)),
        (same_in_each_worker, Duplicates(80, 40, 0)),
        (same_in_each_process, Duplicates(48, 0, 24)),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_a_dry_run_finds_samples_that_come_twice(loader: Any, expected: Duplicates) -> None:
    assert launch(2, loader) == [expected, expected]


def test_a_dry_run_on_one_process() -> None:
    x, y = digits(20)
    assert find_duplicates([(x, y), (x[:5], y[:5])]) == Duplicates(25, 5, 0)
    with pytest.raises(ValueError, match="generator yielded a ndarray; expected a pair"):
        find_duplicates([x])
    with pytest.raises(TypeError, match="generator is a int"):
        find_duplicates(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="batches is 0"):
        find_duplicates([(x, y)], 0)
