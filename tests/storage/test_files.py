"""A file is replaced as a whole or not at all, whatever the writer meets."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest
import torch

from art_gair.storage.files import read_state, remove_unfinished, write_state
from tests.storage.calls import Calls
from tests.storage.processes import needs_fork, run
from tests.storage.states import example, same

A, B = example(1), example(2)
STATUS = Path("/proc/self/status")
MIB = 2**20


def suicide() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def write_watched(path: Path, calls: Calls) -> None:
    with pytest.MonkeyPatch.context() as patch:
        calls.install(patch)
        write_state(path, B)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_state(tmp_path / "state", A)
    return tmp_path / "state"


@pytest.fixture
def names(path: Path) -> list[str]:
    """The calls of one write."""
    calls = Calls(suicide)
    write_watched(path, calls)
    return calls.names


def test_a_file_is_synced_before_it_takes_the_name_and_the_folder_after(names: list[str]) -> None:
    end = ["flush", "fsync", "close", "replace", "open", "fsync", "close"]
    assert names == ["create"] + ["write"] * (len(names) - len(end) - 1) + end


@needs_fork
@pytest.mark.slow
@pytest.mark.parametrize("buffering", [0, -1], ids=["unbuffered", "buffered"])
def test_a_writer_killed_at_any_call_leaves_one_of_the_two_states_whole(
    path: Path, names: list[str], buffering: int
) -> None:
    write_state(path, A)
    old = path.read_bytes()
    replaced = (names.index("replace") + 1, "after")
    points = [(i, when) for i in range(1, len(names) + 1) for when in ("after", "before")]
    points += [(i, "middle") for i, name in enumerate(names, 1) if name == "write"]
    for point in points:
        path.write_bytes(old)
        killed = run(partial(write_watched, path, Calls(suicide, *point, buffering)))
        assert killed == -signal.SIGKILL
        expected = B if point == replaced or point[0] > replaced[0] else A
        assert same(read_state(path), expected)
        remove_unfinished(path.parent)
        assert list(path.parent.iterdir()) == [path]


def full() -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


def interrupted() -> NoReturn:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("interfere", "error"), [(full, OSError), (interrupted, KeyboardInterrupt)])
def test_a_write_that_fails_at_any_call_leaves_no_trace(
    path: Path, names: list[str], interfere: Callable[[], None], error: type[BaseException]
) -> None:
    write_state(path, A)
    old = path.read_bytes()
    for at in range(1, names.index("replace") + 2):
        for when in ("before", "middle", "after")[: 3 if names[at - 1] == "write" else 1]:
            with pytest.raises(error):
                write_watched(path, Calls(interfere, at, when))
            assert path.read_bytes() == old
            assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_cannot_be_synced_is_left_to_the_system(path: Path, names: list[str]) -> None:
    sync = len(names) - 1

    def unsupported() -> NoReturn:
        raise OSError(errno.EINVAL, "Invalid argument")

    write_watched(path, Calls(unsupported, sync))
    write_watched(path, Calls(full, sync - 1))  # nor opened
    with pytest.raises(OSError, match="No space left"):
        write_watched(path, Calls(full, sync))
    assert same(read_state(path), B)


def test_a_full_disk_is_an_error_and_the_earlier_state_stays(small_disk: Path) -> None:
    path = small_disk / "state"
    write_state(path, A)
    large = {"large": torch.zeros(MIB), "many": [torch.zeros(1000) for _ in range(500)]}
    for state in (large, large["many"]):
        with pytest.raises(OSError, match="No space left"):
            write_state(path, state)
        assert list(small_disk.iterdir()) == [path]
        assert same(read_state(path), A)


@needs_fork
def test_a_limit_on_the_size_of_files_is_an_error_and_the_earlier_state_stays(path: Path) -> None:
    resource = pytest.importorskip("resource")

    large = torch.zeros(10**5)

    def write_limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        with pytest.raises(OSError, match="File too large"):
            write_state(path, large)

    assert run(write_limited) == 0
    assert list(path.parent.iterdir()) == [path]
    assert same(read_state(path), A)


def test_a_read_only_folder_is_an_error(read_only: Path) -> None:
    with pytest.raises(OSError, match="Read-only"):
        write_state(read_only / "state", A)


def test_a_folder_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_state(tmp_path / "gone" / "state", A)
    with pytest.raises(FileNotFoundError):
        read_state(tmp_path / "gone" / "state")


def test_an_unfinished_file_that_cannot_be_removed_hides_no_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "unlink", lambda *_: full())
    with pytest.raises(KeyboardInterrupt):
        write_watched(path, Calls(interrupted, 2))


def test_the_file_may_be_read_by_whom_the_umask_lets(path: Path) -> None:
    other = path.with_name("other")
    other.touch()
    assert path.stat().st_mode == other.stat().st_mode


def test_remove_unfinished_removes_those_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (".state.1.part", "a.part", ".hidden"):
        (path.parent / name).touch()
    (path.parent / ".folder.part").mkdir()
    remove_unfinished(path.parent)
    assert sorted(p.name for p in path.parent.iterdir()) == [".folder.part", ".hidden", "a.part", "state"]
    remove_unfinished(path.parent / "gone")


def peak() -> int:
    """Return the most memory that this process ever held, bytes."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


@needs_fork
@pytest.mark.skipif(not STATUS.exists(), reason="peak memory is read from /proc")
def test_writing_needs_no_memory_and_reading_that_of_the_state(tmp_path: Path) -> None:
    state = [torch.ones(8 * MIB), torch.ones(8 * MIB)]  # 64 MiB

    def measure() -> None:
        before = peak()
        write_state(tmp_path / "state", state)
        assert peak() - before < 8 * MIB
        before = peak()
        read = read_state(tmp_path / "state")
        assert peak() - before < 72 * MIB
        assert len(read) == 2

    assert run(measure) == 0
