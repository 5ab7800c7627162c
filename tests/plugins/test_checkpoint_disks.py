"""Checkpoint on disks that are full, turn read-only or lose its folder: the training goes on; and on damaged saves."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from art_gair.plugins.checkpoint import SUFFIX
from art_gair.storage.files import read_state, write_state
from art_gair.storage.lock import LockedError
from tests.plugins.trainings import Act, Setup, assert_same_training, newest, saves, warned

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Mounts something, and unmounts all in the end."""
    mounted: list[str] = []

    def mount(*arguments: str) -> None:
        try:
            subprocess.run(["mount", *arguments], check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"mounting needs Linux and root: {getattr(error, 'stderr', error)}")
        if "remount" not in arguments[1]:
            mounted.append(arguments[-1])

    yield mount
    for place in reversed(mounted):
        subprocess.run(["umount", place], check=True)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def test_a_full_disk_is_warned_of_and_the_training_goes_on(
    tmp_path: Path, mount: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    """Saves take some 200 kB without momenta and average, then 600 kB; the disk has 500 kB until 3 MB are freed."""
    setup = Setup(hidden=700, fit={"nb_epochs": 5})
    (place := tmp_path / "small").mkdir()
    mount("-t", "tmpfs", "-o", "size=3500k", "tmpfs", str(place))
    ballast, folder = place / "ballast", place / "saves"
    ballast.write_bytes(bytes(3_000 << 10))
    seen: list[list[str]] = []

    def look() -> None:
        seen.append(saves(folder))
        read_state(newest(folder))
        assert not list(folder.glob(".*"))

    looks = [Act(epoch, look) for epoch in range(5)]
    trainer = setup.train(folder, *looks, Act(3, ballast.unlink, after_step=1))
    first = ["epoch-0000-batch-000000"]
    assert seen == [first, first, first, first, [*first, "epoch-0004-batch-000000"]]
    assert saves(folder) == ["epoch-0004-batch-000000", "epoch-0005-batch-000000"]
    failure, success = warned(caplog)
    assert failure.startswith(f"Checkpoint: {folder / 'epoch-0001-batch-000000'}{SUFFIX} could not be saved, the")
    assert failure.endswith("[Errno 28] No space left on device")
    assert success == f"Checkpoint: saved again, {folder / 'epoch-0004-batch-000000'}{SUFFIX}."
    assert_same_training(trainer, setup.train(None))


def test_on_a_disk_for_two_saves_the_older_makes_room_for_the_next(
    tmp_path: Path, mount: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    setup = Setup(hidden=700, fit={"nb_epochs": 4})
    mount("-t", "tmpfs", "-o", "size=1400k", "tmpfs", str(tmp_path))
    trainer = setup.train(tmp_path)
    assert saves(tmp_path) == ["epoch-0003-batch-000000", "epoch-0004-batch-000000"]
    assert not warned(caplog)
    assert_same_training(trainer, setup.train(None))
    assert_same_training(setup.train(tmp_path, nb_epochs=5, resume=True), setup.train(None, nb_epochs=5))


def test_a_read_only_folder_is_warned_of_and_the_training_goes_on(
    tmp_path: Path, mount: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    mount("--bind", str(tmp_path), str(tmp_path))
    mount("-o", "remount,ro,bind", str(tmp_path))
    trainer = Setup().train(tmp_path)
    lock, save = warned(caplog)
    assert f"{tmp_path} cannot be locked" in lock
    assert "could not be saved, the training goes on: [Errno 30] Read-only file system" in save
    assert_same_training(trainer, Setup().train(None))


def test_a_folder_that_turns_read_only_keeps_its_saves(
    folder: Path, mount: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    def protect() -> None:
        mount("--bind", str(folder), str(folder))
        mount("-o", "remount,ro,bind", str(folder))

    setup = Setup(fit={"nb_epochs": 5})
    trainer = setup.train(folder, Act(3, protect, after_step=1), resume=True)
    assert saves(folder) == ["epoch-0002-batch-000000", "epoch-0003-batch-000000"]
    assert len(warned(caplog)) == 1
    assert "could not be saved, the training goes on: [Errno 30] Read-only file system" in warned(caplog)[0]
    expected = setup.train(None)
    assert_same_training(trainer, expected)
    subprocess.run(["mount", "-o", "remount,rw,bind", str(folder)], check=True)
    assert_same_training(setup.train(folder, resume=True), expected)


def test_a_folder_that_is_deleted_is_made_again_and_still_locked(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other, refused = Setup().make(folder), []

    def train_beside() -> None:
        with pytest.raises(LockedError) as error:
            Setup().run(other)
        refused.append(error)

    setup = Setup(fit={"nb_epochs": 5})
    acts = Act(3, partial(shutil.rmtree, folder), after_step=1), Act(4, train_beside)
    trainer = setup.train(folder, *acts, resume=True)
    assert len(refused) == 1
    assert saves(folder) == ["epoch-0004-batch-000000", "epoch-0005-batch-000000"]
    assert not warned(caplog)
    assert_same_training(trainer, setup.train(None))


def test_a_file_in_the_folder_s_place_does_not_end_the_training(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    def replace_by_file() -> None:
        shutil.rmtree(folder)
        folder.touch()

    setup = Setup(fit={"nb_epochs": 5})
    acts = Act(3, replace_by_file, after_step=1), Act(4, folder.unlink, after_step=1)
    trainer = setup.train(folder, *acts, resume=True)
    assert ["could not be saved" in warning for warning in warned(caplog)] == [True, False]
    assert saves(folder) == ["epoch-0005-batch-000000"]
    assert_same_training(trainer, setup.train(None))


@pytest.mark.parametrize(
    "damage", [flip, cut, Path.unlink, partial(os.truncate, length=0)], ids=["flip", "cut", "gone", "empty"]
)
def test_a_damaged_save_is_named_and_put_aside_and_the_one_before_is_used(
    damage: Callable[[Path], None], folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = newest(folder)
    damage(path)
    setup = Setup(fit={"nb_epochs": 3})
    trainer = setup.train(folder, resume=True)
    if damage is not Path.unlink:
        assert len(warned(caplog)) == 1
        assert f"{path} is" in warned(caplog)[0]
        assert warned(caplog)[0].endswith("It is put aside, and the one before is used.")
        assert path.with_name(f"{path.name}.damaged").exists()
    assert saves(folder) == ["epoch-0002-batch-000000", "epoch-0003-batch-000000"]
    assert_same_training(trainer, setup.train(None))


def test_where_all_saves_are_damaged_the_training_begins_and_says_so(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path in folder.glob(f"*{SUFFIX}"):
        flip(path)
    trainer = Setup().train(folder, resume=True)
    assert warned(caplog)[-1] == f"resume=True: {folder} holds no checkpoint; the training begins."
    assert len(warned(caplog)) == 4
    assert_same_training(trainer, Setup().train(None))


def test_a_state_of_another_kind_is_refused(folder: Path) -> None:
    path = newest(folder)
    write_state(path, {"weights": [1.0]})
    with pytest.raises(ValueError, match=re.escape(f"{path} is no training of this version of art_gair")):
        Setup().train(folder, resume=True)
    assert read_state(path) == {"weights": [1.0]}
