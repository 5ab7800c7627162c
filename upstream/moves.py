"""Puts files into a folder: all of them, or none, even if the program is killed between two of them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

PREFIX = ".upstream-"
PLAN = "plan.json"
"""Name of the file that says what is about to be moved: where it is not, nothing has been."""


class UnfinishedError(Exception):
    """An earlier run was killed half-way, and what it left cannot be told from somebody's changes."""


def move_all(folder: Path, files: Mapping[str, bytes], finish: Callable[[], None] = lambda: None) -> None:
    """Put all files in their places; if one cannot be, or `finish` fails, those before it are taken back.

    A file that is replaced keeps its permissions.

    :param files: content by path in the folder.
    :param finish: what belongs to it, called at the end.
    :raises OSError: if a file cannot be written.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=PREFIX) as temporary:
        room = Path(temporary)
        for path, content in files.items():
            _write(room / "new" / path, content)
            if (folder / path).exists():
                shutil.copymode(folder / path, room / "new" / path)
                _copy(folder / path, room / "old" / path)
        _write(room / PLAN, json.dumps({path: digest(content) for path, content in files.items()}).encode())
        try:
            for path in files:
                (room / "new" / path).replace(folder / path)
            finish()
        except BaseException:  # Ctrl-C too
            _take_back(folder, room, files)
            raise


def recover(folder: Path) -> list[str]:
    """Take back what runs that were killed half-way have moved; return the paths of those files.

    :raises UnfinishedError: if one of them was changed since; nothing is touched then.
    """
    recovered = []
    for room in sorted(folder.glob(f"{PREFIX}*")):
        plan: dict[str, str] = json.loads((room / PLAN).read_bytes()) if (room / PLAN).is_file() else {}
        moved = [path for path in plan if not (room / "new" / path).exists()]
        for path in moved:
            held = _content(folder / path)
            if held != _content(room / "old" / path) and (held is None or digest(held) != plan[path]):
                raise UnfinishedError(
                    f"An earlier run was killed half-way, and {folder / path} was changed since. What stood there "
                    f"before it is in {room / 'old'}: put it back where you want it, then delete {room}."
                )
        _take_back(folder, room, moved)
        shutil.rmtree(room)
        recovered += moved
    return recovered


def digest(content: bytes) -> str:
    """Return the hash of a file's content."""
    return hashlib.sha256(content).hexdigest()


def _take_back(folder: Path, room: Path, paths: Mapping[str, bytes] | list[str]) -> None:
    for path in paths:
        if (room / "new" / path).exists():  # not moved yet
            continue
        if (room / "old" / path).exists():
            _copy(room / "old" / path, room / "back" / path)
            (room / "back" / path).replace(folder / path)
        else:
            (folder / path).unlink(missing_ok=True)


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
