"""One training a folder: a lock that ends with its process, however that ends."""

from __future__ import annotations

import errno
import logging
import os
import platform
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

_held: dict[tuple[str, int], FolderLock] = {}
"""Locks by real path and process: record locks do not conflict within a process, and a forked child has none."""


class LockedError(ValueError):
    """Another training holds the folder."""


class FolderLock:
    """A lock on a folder, by a record lock on the file `lock` in it, which stays there.

    Unlike `flock`, a record lock is not inherited by forked DataLoader workers, so none of them keeps it when the
    trainer is killed. It is lost if the process closes any descriptor of the file: nobody else may open it.

    :param folder: the folder, which exists.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key: tuple[str, int] | None = None
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock. Where locking is not possible, such as in a read-only folder, log a warning and go on.

        :raises LockedError: if another process or another lock of this process holds the folder.
        :raises OSError: if there is no such folder.
        """
        key = os.path.realpath(self.folder), os.getpid()
        if _held.setdefault(key, self) is not self or self._key == key:
            raise _refusal(self.folder, f"{os.getpid()}, which is this one")
        try:
            self._descriptor = _lock(self.folder)
        except BaseException as error:
            if not isinstance(error, OSError) or not self.folder.is_dir():
                del _held[key]
                raise
            logger.warning("%s cannot be locked (%s): start no second training in it.", self.folder, error)
        self._key = key

    def release(self) -> None:
        """Give the lock back, if this process holds it: in a forked child of the holder nothing happens."""
        if self._key is None or self._key[1] != os.getpid():
            return
        if self._descriptor is not None:
            with suppress(OSError):
                os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
        del _held[self._key]  # last: whoever finds it gone may open the file, and would lose a lock by our close
        self._key = self._descriptor = None


def _lock(folder: Path) -> int:
    """Return the descriptor of the locked file, which holds the process id."""
    if fcntl is None:
        raise OSError(errno.ENOSYS, "this system has no fcntl")
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = _read_holder(descriptor)
        os.close(descriptor)
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise _refusal(folder, holder) from None
        raise
    with suppress(OSError):  # a full disk: the lock holds all the same
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} on {platform.node()}\n".encode(), 0)
    return descriptor


def _read_holder(descriptor: int) -> str:
    with suppress(OSError):
        return os.pread(descriptor, 100, 0).decode(errors="replace").strip() or "of unknown id"
    return "of unknown id"


def _refusal(folder: Path, holder: str) -> LockedError:
    return LockedError(f"{folder} is in use by process {holder}; give each training a folder of its own.")
