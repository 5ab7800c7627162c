"""One training holds a folder, until it lets go or ends."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from art_gair.storage import lock as lock_module
from art_gair.storage.lock import FolderLock, LockedError
from tests.storage.processes import answer, needs_fork, start, wait

FREE = "free"


def attempt(folder: Path) -> str:
    """Return what taking the lock says, and let it go again."""
    lock = FolderLock(folder)
    try:
        lock.acquire()
    except LockedError as error:
        return str(error)
    lock.release()
    return FREE


@pytest.fixture
def held(tmp_path: Path) -> Any:
    lock = FolderLock(tmp_path)
    lock.acquire()
    yield lock
    lock.release()


def test_a_second_lock_of_the_process_is_refused(held: FolderLock, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    for name in (tmp_path, tmp_path / "link", Path(os.path.relpath(tmp_path))):
        assert f"in use by process {os.getpid()}, which is this one" in attempt(name)
    with pytest.raises(LockedError, match=str(tmp_path)):
        held.acquire()
    held.release()
    assert attempt(tmp_path) == FREE


@needs_fork
def test_another_process_is_refused_with_the_holder_named(held: FolderLock, tmp_path: Path) -> None:
    descriptors = Path("/dev/fd")

    def attempts() -> str:
        before = len(list(descriptors.iterdir()))
        refusals = {attempt(tmp_path) for _ in range(3)}
        assert len(list(descriptors.iterdir())) == before
        return refusals.pop()

    for _ in range(2):
        refusal = answer(attempts)
        assert f"{tmp_path} is in use by process {os.getpid()} on " in refusal
    held.release()
    assert answer(lambda: attempt(tmp_path)) == FREE


@needs_fork
def test_a_refused_process_may_take_the_lock_later(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    end, stop = os.pipe()

    def hold() -> None:
        FolderLock(tmp_path).acquire()
        os.write(writing, b".")
        os.read(end, 1)

    pid = start(hold)
    os.read(reading, 1)
    lock = FolderLock(tmp_path)
    with pytest.raises(LockedError, match=f"process {pid} on"):
        lock.acquire()
    os.write(stop, b".")
    assert wait(pid) == 0
    lock.acquire()
    lock.release()


@needs_fork
def test_a_killed_holder_frees_the_folder_though_its_child_lives(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    end, stop = os.pipe()

    def hold() -> None:
        FolderLock(tmp_path).acquire()
        child = start(lambda: os.read(end, 1))
        os.write(writing, str(child).encode())
        os.read(end, 1)

    pid = start(hold)
    child = int(os.read(reading, 20))
    assert f"process {pid} on" in attempt(tmp_path)
    os.kill(pid, signal.SIGKILL)
    assert wait(pid) == -signal.SIGKILL
    os.kill(child, 0)
    assert (tmp_path / "lock").read_text().startswith(f"{pid} on")  # which is no obstacle
    assert attempt(tmp_path) == FREE
    os.kill(child, 0)
    os.write(stop, b".")


@needs_fork
def test_a_forked_child_cannot_release_its_parents_lock(held: FolderLock, tmp_path: Path) -> None:
    def release() -> str:
        held.release()
        return attempt(tmp_path)

    assert f"process {os.getpid()} on" in answer(release)
    assert f"process {os.getpid()} on" in answer(lambda: attempt(tmp_path))
    assert (tmp_path / "lock").read_text().startswith(f"{os.getpid()} on")


@needs_fork
def test_a_forked_child_may_take_the_lock_once_its_parent_let_it_go(held: FolderLock, tmp_path: Path) -> None:
    reading, writing = os.pipe()

    def take() -> None:
        os.read(reading, 1)
        held.acquire()
        held.release()
        assert attempt(tmp_path) == FREE

    pid = start(take)
    held.release()
    os.write(writing, b".")
    assert wait(pid) == 0


def test_a_lock_that_is_not_held_can_be_released(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    for _ in range(2):
        lock.release()
        lock.acquire()
        lock.release()
    assert (tmp_path / "lock").read_text() == ""


def test_a_folder_deleted_and_made_again_can_be_released(held: FolderLock, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path)
    held.release()
    tmp_path.mkdir()
    held.acquire()
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    assert "which is this one" in attempt(tmp_path)
    held.release()
    assert attempt(tmp_path) == FREE


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    with pytest.raises(FileNotFoundError):
        attempt(folder)
    folder.mkdir()
    assert attempt(folder) == FREE


def refuse(number: int) -> Callable[..., NoReturn]:
    def call(*_: Any) -> NoReturn:
        raise OSError(number, os.strerror(number))

    return call


UNLOCKABLE: dict[str, tuple[Any, str, Any, str]] = {
    "no fcntl": (lock_module, "fcntl", None, "no fcntl"),
    "a read-only folder": (os, "open", refuse(errno.EROFS), "Read-only"),
    "a folder of others": (os, "open", refuse(errno.EACCES), "denied"),
    "a network without locks": (fcntl, "lockf", refuse(errno.ENOLCK), "[Ll]ock"),
}


@pytest.mark.parametrize(("owner", "name", "value", "reason"), UNLOCKABLE.values(), ids=UNLOCKABLE.keys())
def test_a_folder_that_cannot_be_locked_is_used_with_a_warning(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    owner: Any,
    name: str,
    value: Any,
    reason: str,
) -> None:
    monkeypatch.setattr(owner, name, value)
    unlocked = FolderLock(tmp_path)
    with caplog.at_level(logging.WARNING):
        unlocked.acquire()
    assert f"{tmp_path} cannot be locked" in caplog.text
    assert "which is this one" in attempt(tmp_path)
    unlocked.release()
    unlocked.acquire()
    unlocked.release()


def test_a_read_only_folder_is_used_with_a_warning(read_only: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert attempt(read_only) == FREE
    assert "Read-only file system" in caplog.text


def test_a_full_disk_can_be_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pwrite", refuse(errno.ENOSPC))
    FolderLock(tmp_path).acquire()
    assert "which is this one" in attempt(tmp_path)
