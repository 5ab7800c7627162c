"""A state in one file, written so that a kill leaves the file whole or leaves none, and read only if it is whole.

The file is MAGIC, the SHA-256 of all that follows, and blocks, each after its length in 8 bytes. The first is text.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from io import BufferedReader, BufferedWriter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from art_gair.storage.blocks import Block, block_bytes
from art_gair.storage.codec import pack, unpack

MAGIC = b"art_gair state 1\n"

HEADER = len(MAGIC) + hashlib.sha256().digest_size

CHUNK = 1 << 20
"""Bytes that are hashed at once when a file is read."""


class DamagedError(ValueError):
    """A file that is no state, or not the one that was written."""


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
            _write_blocks(file, [text.encode(), *blocks])
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise
    _sync_folder(path.parent)


def read_state(path: Path) -> Any:
    """Return the state of a file, its tensors on the host. Memory is needed for the state once.

    The checksum is held against the content before anything is made of it.

    :raises DamagedError: if it is no file that `write_state` wrote, is cut short, or a byte of it was changed.
    :raises OSError: if it cannot be read.
    """
    if path.exists() and not path.is_file():
        raise DamagedError(f"{path} is no file")
    with path.open("rb") as file:
        header = file.read(HEADER)
        if not header.startswith(MAGIC):
            raise DamagedError(f"{path} is no state that art_gair wrote: it does not begin with {MAGIC!r}")
        if _hash_rest(file) != header[len(MAGIC) :]:
            raise DamagedError(f"{path} is damaged: its checksum differs")
        try:
            text, *blocks = _read_blocks(file)
            return unpack(text.numpy().tobytes().decode(), blocks)
        except ValueError as error:
            raise DamagedError(f"{path} cannot be read: {error}") from error


def remove_unfinished(folder: Path) -> None:
    """Remove the temporary files of writers that were killed. Nobody may be writing into the folder: lock it before."""
    with suppress(OSError):
        for unfinished in list(folder.glob(".*.part")):
            with suppress(OSError):
                unfinished.unlink()


def _write_blocks(file: BufferedWriter, blocks: Iterable[Block]) -> None:
    digest = hashlib.sha256()
    file.write(MAGIC + bytes(digest.digest_size))
    for block in blocks:
        content = block_bytes(block)
        for part in (content.nbytes.to_bytes(8, "little"), content):
            digest.update(part)
            file.write(part)
    file.seek(len(MAGIC))
    file.write(digest.digest())


def _hash_rest(file: BufferedReader) -> bytes:
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK):
        digest.update(chunk)
    return digest.digest()


def _read_blocks(file: BufferedReader) -> list[Tensor]:
    blocks, rest = [], os.fstat(file.fileno()).st_size - HEADER
    file.seek(HEADER)
    while rest > 0:
        size = int.from_bytes(file.read(8), "little")
        rest -= 8 + size
        if rest < 0:
            raise ValueError("its last block is cut short")
        blocks.append(torch.empty(size, dtype=torch.uint8))
        if file.readinto(block_bytes(blocks[-1])) != size:
            raise ValueError("it has become shorter")
    return blocks


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
