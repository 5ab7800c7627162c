"""Checkpoint: when it saves, which settings it refuses, and that it has its folder to itself."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from art_gair.plugins import Plugin, checkpoint
from art_gair.plugins.checkpoint import SUFFIX, Checkpoint
from art_gair.storage.files import write_state
from art_gair.storage.lock import LockedError
from tests.models import assert_same_state, state_of
from tests.plugins.trainings import Act, Clock, Setup, assert_same_training, saves, warned

pytestmark = pytest.mark.usefixtures("one_thread")


class Unable(Plugin):
    """Its state cannot be saved."""

    steps = 0

    def after_step(self) -> None:
        self.steps += 1

    def state_dict(self) -> dict[str, Any]:
        return {"numbers": [1, lambda: 2]}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ["0001-batch-000000", "0002-batch-000000"]),
        ({"keep": 1}, ["0002-batch-000000"]),
        ({"keep": 9}, ["0000-batch-000000", "0001-batch-000000", "0002-batch-000000"]),
        ({"keep": 9, "every": 2}, ["0000-batch-000000", "0002-batch-000000"]),
        ({"keep": 9, "every": 5}, ["0000-batch-000000", "0002-batch-000000"]),
        (
            {"keep": 9, "every": 5, "every_batches": 2},
            ["0000-batch-000000", "0000-batch-000002", "0001-batch-000002", "0002-batch-000000"],
        ),
        ({"keep": 2, "every_batches": 1}, ["0001-batch-000003", "0002-batch-000000"]),
    ],
    ids=str,
)
def test_a_training_saves_when_it_begins_when_due_and_at_its_end(
    settings: dict[str, int], expected: list[str], tmp_path: Path
) -> None:
    Setup().train(tmp_path, checkpoint=settings)
    assert saves(tmp_path) == [f"epoch-{name}" for name in expected]
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != SUFFIX) == ["lock"]


def test_every_minutes_counts_from_the_last_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 20 seconds a step: after the 2nd step at 40 s; the epoch's save is at 60 s, the next due at 100 s."""
    clock = Clock()
    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: clock.now))
    Setup().train(tmp_path, clock, checkpoint={"keep": 9, "every_minutes": 0.5})
    assert saves(tmp_path) == [
        "epoch-0000-batch-000000",
        "epoch-0000-batch-000002",
        "epoch-0001-batch-000000",
        "epoch-0001-batch-000002",
        "epoch-0002-batch-000000",
    ]


def test_saving_does_not_change_the_training(tmp_path: Path) -> None:
    assert_same_training(Setup().train(tmp_path, checkpoint={"every_batches": 1}), Setup().train(None))


def test_two_checkpoints_save_each_in_its_folder(tmp_path: Path) -> None:
    Setup().train(tmp_path / "a", Checkpoint(tmp_path / "b", keep=1))
    assert saves(tmp_path / "b") == ["epoch-0002-batch-000000"] == saves(tmp_path / "a")[-1:]


def test_the_10000th_epoch_comes_after_the_9999th(folder: Path) -> None:
    first, last = sorted(folder.glob(f"*{SUFFIX}"))[::2]
    for path, name in ((first, "9999-batch-000003"), (last, "10000-batch-000000")):
        path.rename(folder / f"epoch-{name}{SUFFIX}")
    found = Checkpoint(folder).load()
    assert found is not None
    assert found[0].stem == "epoch-10000-batch-000000"


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"every": 0}, ValueError, "every is 0; expected an int of at least 1"),
        ({"keep": 0}, ValueError, "keep is 0; expected an int of at least 1"),
        ({"every_batches": 0}, ValueError, "every_batches is 0; expected an int of at least 1"),
        ({"every": 1.5}, TypeError, "every is 1.5"),
        ({"keep": True}, TypeError, "keep is True"),
        ({"every_minutes": 0}, ValueError, "every_minutes is 0"),
        ({"every_minutes": "5"}, TypeError, "every_minutes is '5'"),
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(
    settings: dict[str, Any], error: type[Exception], match: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=match):
        Checkpoint(tmp_path / "new", **settings)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=re.escape(f"folder is {str(tmp_path / 'file')!r}, which is no folder")):
        Checkpoint(tmp_path / "file")


def test_a_state_that_cannot_be_saved_is_refused_with_its_place_before_the_first_step(tmp_path: Path) -> None:
    unable = Unable()
    with pytest.raises(TypeError, match=r"plugins.*numbers.*function"):
        Setup().train(tmp_path, unable)
    assert unable.steps == 0
    assert saves(tmp_path) == []
    Setup().train(tmp_path)  # the folder is free again


def test_a_save_that_failed_is_tried_again_a_minute_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, tries = Clock(), []

    def fail_twice(path: Path, state: Any) -> None:
        tries.append((path.stem, clock.now))
        if len(tries) <= 2:
            raise OSError(errno.EIO, "Input/output error")
        write_state(path, state)

    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(checkpoint, "write_state", fail_twice)
    Setup().train(tmp_path, clock, checkpoint={"every": 9}, batch_size=8)
    at = [("0000-batch-000000", 0.0), ("0000-batch-000003", 60.0), ("0000-batch-000006", 120.0)]
    assert tries == [(f"epoch-{name}", seconds) for name, seconds in [*at, ("0002-batch-000000", 480.0)]]


def test_a_second_training_in_a_folder_is_refused_before_it_trains(tmp_path: Path) -> None:
    other, refused = Setup().make(tmp_path), []
    before = state_of(other.classifier.model)

    def train_beside() -> None:
        with pytest.raises(LockedError, match=f"{tmp_path} is in use by process {os.getpid()}") as error:
            Setup().run(other)
        refused.append(error)

    trainer = Setup().train(tmp_path, Act(1, train_beside, after_step=2))
    assert len(refused) == 1
    assert_same_state(other.classifier.model, before)
    assert_same_training(trainer, Setup().train(None))
    assert saves(tmp_path) == ["epoch-0001-batch-000000", "epoch-0002-batch-000000"]


def test_a_training_that_begins_anew_keeps_the_saves_of_earlier_ones(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = {path.name: path.read_bytes() for path in folder.glob(f"*{SUFFIX}")}
    Setup().train(folder, checkpoint={"keep": 1}, nb_epochs=1)
    Setup().train(folder, checkpoint={"keep": 1})
    assert {path.name: path.read_bytes() for path in (folder / "earlier-1").iterdir()} == before
    assert saves(folder / "earlier-2") == ["epoch-0001-batch-000000"]
    assert saves(folder) == ["epoch-0002-batch-000000"]
    moved = "Checkpoint: saves of another training were moved to"
    assert warned(caplog) == [f"{moved} {folder / name}." for name in ("earlier-1", "earlier-2")]
