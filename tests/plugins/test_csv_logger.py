"""CSVLogger: what the file holds, resuming, earlier files, and disks that fail."""

from __future__ import annotations

import csv
import errno
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from art_gair import CSVLogger
from art_gair.plugins import Plugin
from tests.plugins.records import begin, record

WARNED = "could not be written"


def train(plugin: Plugin, *epochs: int, state: dict[str, Any] | None = None) -> None:
    """Train through these epochs, from a state or anew."""
    begin(plugin, state)
    for epoch in epochs:
        plugin.end_epoch(record(epoch))


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def epochs(path: Path) -> list[int]:
    return [int(row["epoch"]) for row in table(path)]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return logged(caplog, logging.WARNING)


def logged(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == level and r.name.startswith("art_gair")]


def test_an_epoch_reads_back_exactly(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    train(CSVLogger(path), 0)
    expected, (row,) = record(0), table(path)
    assert list(row) == list(expected)
    assert [float(row[name]) for name in ("loss", "unweighted_loss")] == [1 / 3, 0.1 + 0.2]
    assert json.loads(row["kappa_histogram"]) == expected["kappa_histogram"]
    assert (row["lam"], row["burn_in"], row["validated_model"]) == ("", "True", "raw")


def test_the_file_is_whole_after_each_epoch_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    plugin = CSVLogger(tmp_path / "log.csv")
    begin(plugin)
    for epoch in range(3):
        plugin.end_epoch(record(epoch))
        assert epochs(plugin.path) == list(range(epoch + 1))
        assert names(tmp_path) == ["log.csv"]


def test_an_entry_that_comes_later_gets_a_column(tmp_path: Path) -> None:
    plugin = CSVLogger(tmp_path / "log.csv")
    train(plugin, 0)
    plugin.end_epoch(record(1, note='a "b",\nc'))
    assert [row["note"] for row in table(plugin.path)] == ["", 'a "b",\nc']


def test_folders_are_made_at_the_first_epoch(tmp_path: Path) -> None:
    plugin = CSVLogger(str(tmp_path / "a" / "b" / "log.csv"))
    begin(plugin)
    assert not (tmp_path / "a").exists()
    plugin.end_epoch(record(0))
    assert epochs(plugin.path) == [0]


def test_a_resumed_training_goes_on_without_a_doubled_or_missing_epoch(tmp_path: Path) -> None:
    """Killed in epoch 3 after a checkpoint in epoch 2: the file is then one epoch ahead of the state."""
    plugin, resumed = CSVLogger(tmp_path / "log.csv"), CSVLogger(tmp_path / "log.csv")
    train(plugin, 0, 1)
    state = json.loads(json.dumps(plugin.state_dict()))
    plugin.end_epoch(record(2))
    train(resumed, 2, 3, state=state)
    assert epochs(resumed.path) == [0, 1, 2, 3]
    assert table(resumed.path)[0] == {**table(resumed.path)[0], "loss": repr(1 / 3), "lam": ""}
    assert names(tmp_path) == ["log.csv"]


def test_a_state_does_not_change_with_later_epochs(tmp_path: Path) -> None:
    plugin = CSVLogger(tmp_path / "log.csv")
    train(plugin, 0)
    state = plugin.state_dict()
    plugin.end_epoch(record(1))
    assert [row["epoch"] for row in state["rows"]] == [0]


def test_a_new_training_keeps_the_files_of_earlier_ones(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plugin = CSVLogger(tmp_path / "log.csv")
    with caplog.at_level(logging.INFO, logger="art_gair"):
        for last in (1, 2, 3):
            train(plugin, *range(last))
    assert [epochs(tmp_path / name) for name in ("log.csv.1", "log.csv.2", "log.csv")] == [[0], [0, 1], [0, 1, 2]]
    assert logged(caplog, logging.INFO) == [
        f"{plugin.path} is the file of an earlier training; it is now {plugin.path}.{i}." for i in (1, 2)
    ]


def test_an_empty_file_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / "log.csv").touch()
    train(CSVLogger(tmp_path / "log.csv"), 0)
    assert names(tmp_path) == ["log.csv"]


def test_a_full_disk_is_warned_of_once_and_the_next_write_has_all_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plugin = CSVLogger(tmp_path / "log.csv")
    train(plugin, 0)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for first in (1, 4):
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            for epoch in (first, first + 1):
                plugin.end_epoch(record(epoch))
        assert names(tmp_path) == ["log.csv"]
        assert epochs(plugin.path) == list(range(first))
        plugin.end_epoch(record(first + 2))
        assert epochs(plugin.path) == list(range(first + 3))
    message = f"{plugin.path} {WARNED}: [Errno {errno.ENOSPC}] No space left on device. Each later epoch tries again."
    assert warnings(caplog) == [message] * 2


def test_a_folder_that_is_deleted_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plugin = CSVLogger(tmp_path / "a" / "log.csv")
    train(plugin, 0)
    shutil.rmtree(tmp_path / "a")
    plugin.end_epoch(record(1))
    assert epochs(plugin.path) == [0, 1]
    assert not warnings(caplog)


def test_a_file_in_the_folder_s_place_does_not_end_the_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plugin = CSVLogger(tmp_path / "a" / "log.csv")
    (tmp_path / "a").touch()
    train(plugin, 0, 1)
    (tmp_path / "a").unlink()
    plugin.end_epoch(record(2))
    assert epochs(plugin.path) == [0, 1, 2]
    assert len(warnings(caplog)) == 1
    assert warnings(caplog)[0].startswith(f"{plugin.path} {WARNED}: ")


def test_a_file_that_could_not_be_renamed_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.csv"
    path.write_text("earlier")

    def refuse(self: Path, target: Path) -> Path:
        raise OSError(errno.EACCES, "Permission denied")

    plugin = CSVLogger(path)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", refuse)
        train(plugin, 0)
    assert path.read_text() == "earlier"
    plugin.end_epoch(record(1))
    assert epochs(path) == [0, 1]
    assert (tmp_path / "log.csv.1").read_text() == "earlier"


@pytest.mark.parametrize("path", [None, 3, b"log.csv", True])
def test_a_path_of_another_type_is_refused(path: Any) -> None:
    with pytest.raises(TypeError, match=f"path is {path!r}; expected the path of a file, a str or PathLike"):
        CSVLogger(path)


def test_a_path_that_cannot_be_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=f"path is {str(tmp_path)!r}, which is no file; expected the path of a file"):
        CSVLogger(tmp_path)
    for path in (tmp_path / "file" / "log.csv", tmp_path / "file" / "a" / "log.csv"):
        with pytest.raises(ValueError, match=f"path is {str(path)!r}, but '.*file' is no folder; expected"):
            CSVLogger(path)


def test_it_only_watches_and_says_what_it_is() -> None:
    assert not CSVLogger("log.csv").affects_training
    assert repr(CSVLogger(Path("log.csv"))) == f"CSVLogger({str(Path('log.csv').absolute())!r})"
