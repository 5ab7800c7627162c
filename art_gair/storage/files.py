"""A state in one file, written so that a kill leaves the file whole or leaves none, and read only if it is whole.

The file is what `torch.save` makes of a text and of tensors, which `torch.load(path, weights_only=True)` reads, and
after it MAGIC and the SHA-256 of all before.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import secrets
from contextlib import suppress
from io import BufferedWriter
from pathlib import Path
from typing import Any, BinaryIO

import torch

from art_gair.storage.codec import pack, unpack

MAGIC = b"art_gair state 1\n"

TRAILER = len(MAGIC) + hashlib.sha256().digest_size

CHUNK = 1 << 20
"""Bytes that are hashed at once when a file is read."""


class DamagedError(ValueError):
    """A file that is no state, or not the one that was written."""


class _Hashing(io.RawIOBase):
    """Passes on what is written, and hashes it. The first error is kept: torch raises one of its own in its place."""

    def __init__(self, file: BufferedWriter) -> None:
        self.file, self.digest = file, hashlib.sha256()
        self.error: BaseException | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        try:
            self.digest.update(data)
            return self.file.write(data)  # all of it, or it raises
        except BaseException as error:
            self.error = self.error or error
            raise


def write_state(path: Path, state: Any) -> None:
    """Write a state, see `pack`: into a temporary file beside it, synced to disk, which then takes the name.

    Whatever stops it, a kill included, a file that had the name before stays whole until the new one has it.

    :raises TypeError: if the state holds what cannot be saved.
    :raises OSError: if the disk is full or the folder cannot be written; the temporary file is removed then.
    """
    text, blocks = pack(state)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with unfinished.open("wb") as file:
            _write(file, {"text": text, "blocks": blocks})
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise
    _sync_folder(path.parent)


def read_state(path: Path) -> Any:
    """Return the state of a file, its tensors on the host.

    The checksum is held against the content before anything is made of it.

    :raises DamagedError: if it is no file that `write_state` wrote, is cut short, or a byte of it was changed.
    :raises OSError: if it cannot be read.
    """
    if path.exists() and not path.is_file():
        raise DamagedError(f"{path} is no file")
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size - TRAILER
        file.seek(max(0, size))
        trailer = file.read(TRAILER)
        if size < 0 or not trailer.startswith(MAGIC):
            raise DamagedError(f"{path} is no state that art_gair wrote, or is cut short: {MAGIC!r} is not at its end")
        file.seek(0)
        if _hash(file, size) != trailer[len(MAGIC) :]:
            raise DamagedError(f"{path} is damaged: its checksum differs")
    try:
        kept = torch.load(path, map_location="cpu", weights_only=True)
        return unpack(kept["text"], kept["blocks"])
    except (OSError, MemoryError):
        raise
    except Exception as error:  # torch raises many kinds
        raise DamagedError(f"{path} cannot be read: {error!r}") from error


def remove_unfinished(folder: Path) -> None:
    """Remove the temporary files of writers that were killed. Nobody may be writing into the folder: lock it before."""
    with suppress(OSError):
        for unfinished in list(folder.glob(".*.part")):
            with suppress(OSError):
                unfinished.unlink()


def _write(file: BufferedWriter, content: dict[str, Any]) -> None:
    hashing = _Hashing(file)
    try:
        torch.save(content, hashing)  # type: ignore[arg-type]  # it needs write alone
    except BaseException:
        if hashing.error is not None:
            raise hashing.error from None
        raise
    file.write(MAGIC + hashing.digest.digest())


def _hash(file: BinaryIO, size: int) -> bytes:
    """Return the hash of the next `size` bytes, or of those that are there."""
    digest = hashlib.sha256()
    while size > 0 and (chunk := file.read(min(CHUNK, size))):
        digest.update(chunk)
        size -= len(chunk)
    return digest.digest()


def _sync_folder(folder: Path) -> None:
    """Make the new name durable. Where folders cannot be opened or synced, as on Windows, the system does so later."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)
