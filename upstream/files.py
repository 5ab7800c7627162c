"""Small steps on files and folders: write all of a file or nothing of it, hash it, keep a folder for one run."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class RefusedError(Exception):
    """The checkout cannot be written to; nothing has been."""


@contextmanager
def locked(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Keep other runs out of a folder; the lock ends with the process, however that ends.

    :param wait: for a run that holds it, instead of refusing.
    :raises RefusedError: if another run holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise RefusedError(f"Another run is writing into {folder}; wait until it has ended.") from error
        yield
    finally:
        os.close(descriptor)


def write_file(path: Path, content: bytes) -> None:
    """Write a file, and the folders above it, through to the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that at any time it has either the old content or all of the new."""
    part = path.with_name(f"{path.name}.part")
    try:
        write_file(part, content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def digest(content: bytes) -> str:
    """Return the hash of a content."""
    return hashlib.sha256(content).hexdigest()


def with_lf(content: bytes) -> bytes:
    """Return a text with the line ends of Unix; git may check the same text out with either."""
    return content.replace(b"\r\n", b"\n")
