"""Puts files into a folder: all of them, or none, even if the program is killed between two of them.

New files and copies of the old ones wait in a folder of their own, the room. Its plan says that moving has begun: while
there is a plan, the next run takes back what it names, or, if all of it is in place, notes it; without a plan there is
nothing to take back.
"""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from upstream.files import RefusedError, digest, write_file
from upstream.note import Note, fingerprints
from upstream.plan import NAME, Plan, hash_of

ROOM = ".art_gair-upstream"
IGNORED = ".gitignore"
PARTS = {"new", "old", IGNORED, NAME, f"{NAME}.part"}


class UnfinishedError(Exception):
    """Writing failed half-way and could not be taken back; the next run takes it back."""


def move_all(folder: Path, files: Mapping[str, bytes], note: Note) -> None:
    """Put all files in their places and note it; if one cannot be, those before it are taken back.

    A file that is replaced keeps its permissions.

    :param files: content by path in the folder.
    :raises OSError: if a file cannot be written.
    :raises UnfinishedError: if what was written by then cannot be taken back either.
    """
    room = folder / ROOM
    try:
        _prepare(folder, files, note)
        for path in files:
            (room / "new" / path).replace(folder / path)
        note.write(fingerprints(files))
        (room / NAME).unlink()
    except BaseException as error:  # Ctrl-C too
        with _uninterrupted():
            _recover_after(error, folder, note)
        raise
    shutil.rmtree(room, ignore_errors=True)


def recover(folder: Path, note: Note, *, forwards: bool = True) -> list[str]:
    """Take back what a run that was killed half-way has moved, and its note; return the paths of those files.

    A run that was killed when all files were in place counts as done: somebody may have committed them since. Recovery
    may be killed itself at any time: the next call goes on.

    :param forwards: False takes back such a run too.
    :raises RefusedError: if one of them was changed since, or the room is not ours; nothing is touched then.
    """
    room = folder / ROOM
    if not (room.exists() or room.is_symlink()):
        return []
    if room.is_symlink() or not room.is_dir() or not {path.name for path in room.iterdir()} <= PARTS:
        raise RefusedError(f"{room} is there and was not left by `make upstream`; move it away.")
    moved = []
    if (room / NAME).is_file():
        plan, noted = Plan.read(room), note.read()
        done = forwards and plan.done(room)
        moved = [] if done else plan.moved(room)
        for path in moved:
            if plan.old[path] is None:
                (folder / path).unlink()
            else:
                (room / "old" / path).replace(folder / path)
        right = fingerprints({path: (folder / path).read_bytes() for path in plan.new}) if done else plan.noted
        if noted != right:
            note.write(right)
        (room / NAME).unlink()
    shutil.rmtree(room, ignore_errors=True)
    return moved


def _prepare(folder: Path, files: Mapping[str, bytes], note: Note) -> None:
    """Fill the room; the plan comes last."""
    room = folder / ROOM
    write_file(room / IGNORED, b"*\n")  # of no interest to git, whatever becomes of it
    for path, content in files.items():
        write_file(room / "new" / path, content)
        if (folder / path).is_file():
            shutil.copymode(folder / path, room / "new" / path)
            (room / "old" / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(folder / path, room / "old" / path)
    new = {path: digest(content) for path, content in files.items()}
    Plan(new, {path: hash_of(folder / path) for path in files}, note.read()).write(room)


def _recover_after(error: BaseException, folder: Path, note: Note) -> None:
    try:
        recover(folder, note, forwards=False)
    except (OSError, RefusedError) as second:
        raise UnfinishedError(
            f"Writing failed half-way ({error!r}), and so did taking it back: {second} The next run of "
            f"`make upstream` takes it back; until then what stood there before is in {folder / ROOM / 'old'}."
        ) from error


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ignore Ctrl-C and SIGTERM meanwhile; only the main thread can, and only it is interrupted by them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)
