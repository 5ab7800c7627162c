"""Generators that lend their buffers, leave single samples, hold sequences; functions that remember; own attacks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from art.data_generators import DataGenerator, KerasDataGenerator
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from art_gair import AdversarialTrainerGAIRAT, Checkpoint, GeometryAwarePGD, TanhWeighting, UniformWeighting
from art_gair.plugins import Plugin
from art_gair.training.epoch_batches import merge_singles
from art_gair.training.semi_supervised import SemiSupervisedBatches
from tests.models import classifier_of

N = 32


class Logs:
    """An attack that changes nothing, and notes the number of each batch's first sample, its label and its size."""

    max_iter = 0
    batch_size = 64

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, int]] = []

    def on_batches(self, classifier: Any, epoch: int) -> Any:
        def perturb(x: Tensor, labels: Tensor) -> tuple[Tensor, None]:
            self.seen.append((round(float(x[0, 0]) * N), int(labels[0]), len(x)))
            return x.clone(), None

        return perturb


def numbered(n: int = N) -> tuple[Any, Any]:
    x = np.zeros((n, 6), dtype=np.float32)
    x[:, 0] = np.arange(n) / N
    return x, (np.arange(n) // 8).astype(np.int64)


def trainer_of(attack: Any = None, plugins: Any = (), loss: Any = None, **parts: Any) -> Any:
    torch.manual_seed(0)
    classifier = classifier_of(nn.Linear(6, 4), (6,), 4, loss=loss)
    attack = GeometryAwarePGD(classifier, eps=0.1, eps_step=0.05, max_iter=2) if attack is None else attack
    return AdversarialTrainerGAIRAT(
        classifier, attack, parts.pop("weighting", UniformWeighting()), burn_in=0, plugins=plugins, **parts
    )


def seen_from(generator: Any, **settings: Any) -> list[tuple[int, int, int]]:
    attack = Logs()
    trainer_of(attack).fit_generator(generator, **{"nb_epochs": 1, "verbose": False, **settings})
    return attack.seen


class Lends(DataGenerator):
    """Gives each batch in the same arrays."""

    def __init__(self) -> None:
        super().__init__(N, 8)
        self.x, self.y, self.next = np.empty((8, 6), dtype=np.float32), np.empty(8, dtype=np.int64), 0

    def get_batch(self) -> Any:
        x, y = numbered()
        rows = slice(self.next, self.next + 8)
        self.x[:], self.y[:], self.next = x[rows], y[rows], (self.next + 8) % N
        return self.x, self.y


@pytest.mark.parametrize("accumulate", [1, 2])
def test_batches_in_buffers_that_are_used_again_are_trained_on_as_they_came(accumulate: int) -> None:
    expected = [(0, 0, 8), (8, 1, 8), (16, 2, 8), (24, 3, 8)]
    assert seen_from(Lends(), accumulate=accumulate) == expected


class Sequence:
    """As `keras.utils.Sequence`."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> Any:
        x, y = numbered()
        return x[8 * i : 8 * i + 8], y[8 * i : 8 * i + 8]


def test_a_keras_sequence_is_gone_through() -> None:
    batches = seen_from(KerasDataGenerator(Sequence(), N, 8), nb_epochs=2)
    assert [first for first, _, _ in batches] == [0, 8, 16, 24, 0, 8, 16, 24]


class Inverts(KerasDataGenerator):
    """A generator whose own `get_batch` changes the inputs."""

    def get_batch(self) -> Any:
        x, y = super().get_batch()
        return 1 - x, y


def test_a_generators_own_get_batch_is_called() -> None:
    assert seen_from(Inverts(Sequence(), N, 8))[0] == (N, 0, 8)


@pytest.mark.parametrize("batches", [1, 2, 3])
def test_an_epoch_does_not_end_on_a_single_sample(batches: int) -> None:
    loader = DataLoader(TensorDataset(*map(torch.from_numpy, numbered(5))), batch_size=4)
    sizes = [n for _, _, n in seen_from(loader, steps_per_epoch=batches, nb_epochs=4)]
    assert len(sizes) == 4 * batches
    assert set(sizes) <= {4, 5}


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([4, 4, 1], [4, 5]),
        ([1, 4, 4], [5, 4]),
        ([2, 1, 1, 1], [3, 1, 1]),
        ([4, 1, 4, 1], [5, 5]),
        ([1, 1, 1], [1, 1, 1]),
    ],
)
def test_a_batch_takes_one_single_sample_at_most(sizes: list[int], expected: list[int]) -> None:
    class Batches:
        def __iter__(self) -> Iterator[Any]:
            return ((torch.zeros(n, 6), torch.zeros(n, dtype=torch.int64)) for n in sizes)

    assert [n for _, _, n in seen_from(Batches())] == expected


@pytest.mark.parametrize("accumulate", [1, 2])
def test_steps_an_epoch_are_those_of_the_optimizer(accumulate: int) -> None:
    loader = DataLoader(TensorDataset(*map(torch.from_numpy, numbered(9))), batch_size=4)
    sizes = [n for _, _, n in seen_from(loader, steps_per_epoch=3, accumulate=accumulate, nb_epochs=2)]
    assert len(sizes) == 6 * accumulate
    assert sizes[:3] == [4, 5, 4]


def test_a_single_last_sample_of_a_loader_is_no_step() -> None:
    loader = DataLoader(TensorDataset(*map(torch.from_numpy, numbered(9))), batch_size=4)
    trainer = trainer_of(Logs())
    scheduler = OneCycleLR(trainer.classifier.optimizer, 0.1, total_steps=8)
    trainer.fit_generator(loader, nb_epochs=4, scheduler=scheduler, verbose=False)
    assert scheduler.last_epoch == 8


def test_a_loader_whose_length_is_not_implemented_is_gone_through() -> None:
    class Endless(IterableDataset[Any]):
        def __len__(self) -> int:
            raise NotImplementedError

        def __iter__(self) -> Iterator[Any]:
            return iter(zip(*map(torch.from_numpy, numbered()), strict=True))

    assert [first for first, _, _ in seen_from(DataLoader(Endless(), batch_size=8))] == [0, 8, 16, 24]


@pytest.mark.parametrize("n", [30, 32, 33])
def test_semi_supervised_batches_know_their_number(n: int) -> None:
    batches = SemiSupervisedBatches(*numbered(n), *numbered(), batch_size=8, share=0.5)
    assert len(batches) == len(list(batches))


def default_memory(epoch: int, rates: list[float] = [1.0, 0.5, 0.25, 0.125]) -> float:  # noqa: B006 - it remembers
    return rates.pop(0)


RATES = [1.0, 0.5, 0.25, 0.125]


def global_memory(epoch: int) -> float:
    return RATES.pop(0)


@pytest.mark.parametrize("function", [default_memory, global_memory])
def test_what_a_function_remembers_in_defaults_or_globals_is_not_used_up(function: Any) -> None:
    trainer = trainer_of()
    scheduler = LambdaLR(trainer.classifier.optimizer, function)
    trainer.fit(*numbered(), nb_epochs=3, scheduler=scheduler, verbose=False)
    assert [record["lr"] for record in trainer.history] == pytest.approx([0.05, 0.025, 0.0125])


def test_a_scheduler_whose_step_needs_arguments_is_refused_before_the_training() -> None:
    class Timm:
        def step(self, epoch: int) -> None: ...

        def state_dict(self) -> dict[str, Any]:
            return {}

    trainer = trainer_of()
    with pytest.raises(TypeError, match="scheduler is a Timm, whose step needs arguments"):
        trainer.fit(*numbered(), nb_epochs=2, scheduler=Timm(), verbose=False)
    assert not trainer.history


class Longer(Logs):
    """An attack whose number of steps follows the epoch."""

    max_iter = 2

    def on_batches(self, classifier: Any, epoch: int) -> Any:
        self.max_iter = 2 + 2 * epoch
        return lambda x, labels: (x.clone(), torch.arange(len(labels)) % (3 + 2 * epoch))


class Kills(Plugin):
    affects_training = False

    def between_steps(self, run: Any) -> None:
        if (run.epoch, run.batch) == (1, 2):
            raise RuntimeError("killed")


def test_an_attack_whose_steps_follow_the_epoch_is_resumed_within_one(tmp_path: Path) -> None:
    def fit(*plugins: Any, **settings: Any) -> Any:
        trainer = trainer_of(Longer(), plugins, weighting=TanhWeighting(-1.0))
        trainer.fit(*numbered(), batch_size=8, nb_epochs=3, seed=0, verbose=False, **settings)
        return [(record["kappa_histogram"], record["loss"]) for record in trainer.history]

    checkpoint = {"every_batches": 1, "keep": 3}
    with pytest.raises(RuntimeError, match="killed"):
        fit(Checkpoint(tmp_path, **checkpoint), Kills())
    assert fit(Checkpoint(tmp_path, **checkpoint), resume=True) == fit()


@pytest.mark.parametrize("steps", [(3, 6), (6, 3)])
def test_a_plugin_sets_the_attack_of_the_epoch_that_begins(steps: tuple[int, int]) -> None:
    class Sets(Plugin):
        def begin_epoch(self, epoch: int) -> None:
            trainer.attack.set_params(max_iter=steps[epoch])

    trainer = trainer_of(plugins=[Sets()], weighting=TanhWeighting(-1.0))
    trainer.fit(*numbered(), nb_epochs=2, verbose=False)
    assert [record["attack_passes"] for record in trainer.history] == [*map(float, steps)]
    assert [len(record["kappa_histogram"]) - 1 for record in trainer.history] == [*steps]


def test_an_augmentation_that_returns_the_same_memory_each_time_is_copied() -> None:
    memory = torch.empty(8, 6)

    class Sees(Logs):
        def on_batches(self, classifier: Any, epoch: int) -> Any:
            return lambda x, labels: (batches.append(x) or x.clone(), None)  # type: ignore[func-returns-value]

    batches: list[Tensor] = []
    torch.manual_seed(0)
    classifier = classifier_of(nn.Linear(6, 4), (6,), 4, clip_values=None)
    trainer = AdversarialTrainerGAIRAT(classifier, Sees(), UniformWeighting(), burn_in=0)
    trainer.fit(*numbered(), batch_size=8, nb_epochs=1, accumulate=2, augment=memory.copy_, verbose=False)
    assert len({tuple(batch[:, 0].tolist()) for batch in batches}) == 4


def test_merging_keeps_each_sample_once() -> None:
    from art_gair.training.data import Batch

    parts = torch.arange(9).split([1, 4, 1, 1, 2])
    merged = list(merge_singles(Batch(part, part, False) for part in parts))
    assert torch.equal(torch.cat([batch[0] for batch in merged]), torch.arange(9))
