"""What cannot work ends on each process with the same error, within seconds."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from art_gair import AdversarialTrainerGAIRAT, BoundaryPGD, GeometryAwarePGD, evaluate_robustness
from art_gair.distributed.processes import PeerError, Processes
from art_gair.distributed.start import find_group
from tests.distributed.cases import SETTINGS
from tests.distributed.launch import Failed, each, launch
from tests.models import classifier_of, digits, mlp

pytestmark = pytest.mark.xdist_group(__name__)


def rank() -> int:
    return int(os.environ["RANK"])


def trainer_of(seed: int = 0, **parts: Any) -> Any:
    torch.manual_seed(seed)
    classifier = classifier_of(mlp((1, 8, 8), 10), (1, 8, 8))
    return AdversarialTrainerGAIRAT(classifier, GeometryAwarePGD(classifier, **SETTINGS), burn_in=0, **parts)


def fit(trainer: Any, n: int = 32, **settings: Any) -> None:
    trainer.fit(*digits(n), **{"batch_size": 16, "nb_epochs": 2, "verbose": False, **settings})


def other_lengths() -> None:
    fit(trainer_of(), n=32 + 2 * rank())


def other_models() -> None:
    fit(trainer_of(seed=rank()))


def other_seeds() -> None:
    fit(trainer_of(), seed=rank())


def other_epochs() -> None:
    fit(trainer_of(), nb_epochs=2 + rank())


def small_batches() -> None:
    fit(trainer_of(), batch_size=1)


def other_batches() -> None:
    """Each process's loader shuffles by itself."""
    x, y = (torch.from_numpy(a) for a in digits(32))
    loader = DataLoader(TensorDataset(x, y), 16, shuffle=True, generator=torch.Generator().manual_seed(rank()))
    trainer_of().fit_generator(loader, nb_epochs=1, verbose=False)


def a_process_without_batches() -> None:
    x, y = digits(32)
    batches = [] if rank() else [(x[:16], y[:16]), (x[16:], y[16:])]
    trainer_of().fit_generator(batches, nb_epochs=1, sharded=True, verbose=False)


def other_evaluations() -> None:
    trainer = trainer_of()
    evaluate_robustness(trainer.classifier, *digits(16), eps=0.1 + 0.1 * rank(), verbose=False)


ALIKE = {
    other_lengths: ("ValueError", "x: "),
    other_models: ("ValueError", "values of the model's 1.weight: "),
    other_seeds: ("ValueError", "seed: 0, 1"),
    other_epochs: ("ValueError", "nb_epochs: 2, 3"),
    small_batches: ("ValueError", "batch_size is 1 and x has 32 samples for 2 processes; expected at least one each"),
    other_batches: ("ValueError", "generator yielded other batches on each process"),
    a_process_without_batches: ("ValueError", "generator yielded no batch in this epoch on the processes of rank [1]"),
    other_evaluations: ("ValueError", "eps: 0.1, 0.2"),
}


@pytest.fixture(scope="module")
def errors() -> Any:
    """What each process ends with, case by case; one error after the other, which leaves nothing behind."""
    return dict(zip(ALIKE, zip(*launch(2, each, *ALIKE), strict=True), strict=True))


@pytest.mark.parametrize("case", ALIKE, ids=lambda case: case.__name__)
def test_the_same_error_on_each_process(case: Any, errors: Any) -> None:
    kind, text = ALIKE[case]
    for found in errors[case]:
        assert isinstance(found, Failed), found
        assert found.kind == kind, found
        assert text in found.message, found


def fails_in_the_middle() -> None:
    def augment(x: torch.Tensor) -> torch.Tensor:
        if rank() == 1:
            raise LookupError("no such image")
        return x

    fit(trainer_of(), augment=augment)


def fails_while_others_choose() -> None:
    """The others gather margins within their attack."""

    def augment(x: torch.Tensor) -> torch.Tensor:
        if rank() == 1:
            raise LookupError("no such image")
        return x

    trainer = trainer_of()
    trainer.attack = BoundaryPGD(trainer.classifier, **SETTINGS, budget=0.7)
    fit(trainer, augment=augment)


def fails_at_the_beginning() -> None:
    x, y = digits(32)
    x[3] = np.nan if rank() == 1 else 0.0
    trainer_of().fit(x, y, batch_size=16, nb_epochs=1, verbose=False)


def fails_and_one_is_slow_to_read_why() -> None:
    """Process 0 holds what the others read."""
    find_failed = Processes._find_failed

    def find_late(processes: Processes, error: BaseException) -> PeerError | None:
        time.sleep(0.5)
        return find_failed(processes, error)

    if rank() == 2:
        Processes._find_failed = find_late  # type: ignore[assignment]
    fails_at_the_beginning()


def dies() -> None:
    def augment(x: torch.Tensor) -> torch.Tensor:
        if rank() == 1:
            os._exit(3)
        return x

    fit(trainer_of(), augment=augment)


@pytest.mark.parametrize(
    ("case", "told", "kind"),
    [
        (fails_in_the_middle, "process 1 of 3 failed. LookupError: no such image", "LookupError"),
        (fails_while_others_choose, "process 1 of 3 failed. LookupError: no such image", "LookupError"),
        (fails_at_the_beginning, "process 1 of 3 failed. ValueError: x contains NaN", "ValueError"),
        (fails_and_one_is_slow_to_read_why, "process 1 of 3 failed. ValueError: x contains NaN", "ValueError"),
        (dies, "another of the 3 processes was lost", "RuntimeError"),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_an_error_of_one_process_ends_all(case: Any, told: str, kind: str) -> None:
    began = time.monotonic()
    results = launch(3, case)
    assert [r.kind for r in results] == ["PeerError", kind, "PeerError"], results
    assert all(told in results[i].message for i in (0, 2)), results
    assert time.monotonic() - began < 45


def does_not_come() -> None:
    if rank() == 0:
        fit(trainer_of())
    time.sleep(4)


def hangs() -> None:
    def augment(x: torch.Tensor) -> torch.Tensor:
        time.sleep(10 if rank() else 0)
        return x

    fit(trainer_of(), augment=augment)


def test_a_process_that_does_not_come_is_named() -> None:
    found = launch(2, does_not_come, timeout=2.0)
    assert (found[0].kind, found[1]) == ("PeerError", None), found
    assert "those of rank 1 did not come within 2 s" in found[0].message
    assert "distributed=False" in found[0].message


@pytest.mark.slow
def test_a_process_that_hangs_is_not_waited_for_without_end() -> None:
    found = launch(2, hangs, timeout=3.0)
    assert [r.kind for r in found] == ["PeerError", "PeerError"], found
    assert "took more than 3 s" in found[0].message


def alone() -> Any:
    fit(trainer_of(), distributed=False)
    return torch.distributed.is_initialized()


def test_distributed_false_trains_alone() -> None:
    assert launch(2, alone) == [False, False]


@pytest.mark.parametrize("missing", ["MASTER_ADDR", "MASTER_PORT"])
def test_a_missing_address_is_named(missing: str) -> None:
    for found in launch(2, fit_by_default, env=[{missing: ""}] * 2):
        assert found.kind == "ValueError", found
        assert f"distributed: {missing} not set in the environment" in found.message


def fit_by_default() -> None:
    fit(trainer_of())


def test_distributed_true_without_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT not set"):
        fit(trainer_of(), distributed=True)
    with pytest.raises(TypeError, match="distributed is 'yes'"):
        fit(trainer_of(), distributed="yes")
    with pytest.raises(TypeError, match="sharded is 1"):
        trainer_of().fit_generator([digits(16)], sharded=1)
    with pytest.raises(ValueError, match="steps_per_epoch is 0"):
        trainer_of().fit_generator([digits(16)], steps_per_epoch=0)
    assert find_group(None, torch.device("cpu")).size == 1
    assert issubclass(PeerError, RuntimeError)
