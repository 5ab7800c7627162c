"""Saves a training as it goes, so that a kill loses little of it."""

from __future__ import annotations

import errno
import logging
import os
import re
import time
from pathlib import Path
from typing import Any, ClassVar

import torch

from art_gair.checks import require_int, require_number, require_path
from art_gair.engine.classifier import TensorClassifier
from art_gair.plugins.base import Plugin, Run
from art_gair.storage.codec import pack
from art_gair.storage.files import DamagedError, read_state, remove_unfinished, write_state
from art_gair.storage.lock import FolderLock, LockedError

logger = logging.getLogger(__name__)

SUFFIX = ".checkpoint"

RETRY_SECONDS = 60.0
"""After a save that failed, the next try is made this much later, or when the next save is due."""


class Checkpoint(Plugin):
    """Saves all that a training needs to go on from where it stands; `fit(..., resume=True)` goes on from there.

    A save is one file, `epoch-0003-batch-000000.checkpoint`: 3 epochs are trained. It is written beside its place,
    synced to the disk and renamed, and it carries a checksum: a kill at any moment leaves the last whole one, a damaged
    one is noticed, named, put aside as `.damaged`, and the one before is used. It holds tensors and plain values, and
    nothing in it is run when it is read. A training saves when it begins, after every `every` epochs, at its end, and
    when Ctrl-C or SIGTERM stops it.

    A save that fails, on a full disk say, is warned of and tried again; it neither ends the training nor harms earlier
    saves. One training at a time can use a folder. A training that begins anew in a folder with saves of another moves
    those to `earlier-1`, `earlier-2`, ... inside it.

    :param folder: where to save; made if it is not there.
    :param every: epochs from one save to the next.
    :param keep: how many saves to keep, the newest.
    :param every_minutes: also save within epochs, this many minutes after the last save; None: not so.
    :param every_batches: also save within epochs, after every so many of the optimizer's steps; None: not so.
    :raises TypeError, ValueError: if folder is a file, or a number is none or out of range, by its name.
    """

    affects_training: ClassVar[bool] = False

    def __init__(
        self,
        folder: str | os.PathLike[str],
        every: int = 1,
        keep: int = 2,
        *,
        every_minutes: float | None = None,
        every_batches: int | None = None,
    ) -> None:
        self.folder = require_path(folder, "folder", folder=True)
        self.every = require_int(every, "every", at_least=1)
        self.keep = require_int(keep, "keep", at_least=1)
        self.every_minutes = every_minutes
        if every_minutes is not None:
            self.every_minutes = require_number(every_minutes, "every_minutes", above=0.0)
        self.every_batches = every_batches
        if every_batches is not None:
            self.every_batches = require_int(every_batches, "every_batches", at_least=1)
        self.lock = FolderLock(self.folder)
        self._begin()

    def _begin(self) -> None:
        self.begun = self.packed = False
        self.failing = False
        self.apart = False
        self.tried = self.saved = time.monotonic()
        self.position: tuple[int, int] | None = None

    def start(self, classifier: TensorClassifier, optimizer: torch.optim.Optimizer) -> None:
        """Take the folder for this training.

        :raises LockedError: if another training has it.
        """
        self._begin()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            logger.warning("Checkpoint: %s cannot be made: %s", self.folder, error)
        self.lock.acquire()
        remove_unfinished(self.folder)

    def load(self) -> tuple[Path, Any] | None:
        """Return the newest whole save and its path, None if there is none; damaged ones are put aside."""
        for path in reversed(self._saves()):
            try:
                return path, read_state(path)
            except DamagedError as error:
                logger.warning("Checkpoint: %s. It is put aside, and the one before is used.", error)
                _rename(path, path.with_name(f"{path.name}.damaged"))
            except OSError as error:  # a bad sector, say
                logger.warning("Checkpoint: %s cannot be read: %s. The one before is used.", path, error)
        return None

    def between_steps(self, run: Run) -> None:
        """Save if it is due."""
        if not self.begun:
            self._save(run)
            self.begun = True
        elif self._is_due(run):
            self._save(run)
        elif not self.packed and run.batch:
            pack(run.state())  # an optimizer has a state from its first step on: can it be saved?
            self.packed = True
        if run.leaving:
            saved = f"It is saved in {self.folder}: the same script with fit(..., resume=True) goes on from there."
            run.notes.append(f"Its last steps could not be saved in {self.folder}." if self.failing else saved)

    def finish(self) -> None:
        """Give the folder back."""
        self.lock.release()

    def on_error(self, error: BaseException) -> None:
        """Give the folder back."""
        self.lock.release()

    def _is_due(self, run: Run) -> bool:
        if self.position == (run.epoch, run.batch):
            return False
        now = time.monotonic()
        if run.leaving or run.done or (self.failing and now - self.tried >= RETRY_SECONDS):
            return True
        if run.batch == 0:
            return run.epoch % self.every == 0
        if self.every_minutes is not None and now - max(self.saved, self.tried) >= 60.0 * self.every_minutes:
            return True
        return self.every_batches is not None and run.batch % self.every_batches == 0

    def _save(self, run: Run) -> None:
        """Save; what keeps it from being saved is warned of, but raised at the first save, before any work."""
        path = self.folder / f"epoch-{run.epoch:04d}-batch-{run.batch:06d}{SUFFIX}"
        state = run.state()
        self.tried = time.monotonic()
        try:
            self._set_others_aside(run)
            self._write(path, state)
        except (OSError, TypeError, MemoryError, LockedError) as error:
            if isinstance(error, TypeError) and not self.begun:
                raise
            if not self.failing:
                logger.warning("Checkpoint: %s could not be saved, the training goes on: %s", path, error)
            self.failing = True
            return
        if self.failing:
            logger.warning("Checkpoint: saved again, %s.", path)
        self.failing, self.position, self.saved = False, (run.epoch, run.batch), time.monotonic()
        for old in self._saves()[: -self.keep]:
            _remove(old)
        self.packed = self.packed or run.batch > 0

    def _write(self, path: Path, state: Any) -> None:
        if not self.folder.is_dir():
            self.folder.mkdir(parents=True)
            self.lock.release()
            self.lock.acquire()
        try:
            write_state(path, state)
        except OSError as error:
            others = [save for save in self._saves() if save != path]
            if error.errno != errno.ENOSPC or len(others) < 2:
                raise
            _remove(others[0])  # on a full disk the older of two saves makes room for the next
            write_state(path, state)

    def _saves(self) -> list[Path]:
        """Return the saves, the oldest first."""
        try:
            return sorted(self.folder.glob(f"epoch-*{SUFFIX}"), key=_position)
        except OSError:
            return []

    def _set_others_aside(self, run: Run) -> None:
        """Once, move what other trainings have saved out of the way: all, or in a resumed training what lies ahead."""
        if self.apart:
            return
        place = [run.epoch, run.batch]
        saves = [path for path in self._saves() if not run.resumed or _position(path) > place]
        if saves:
            number = 1
            while os.path.lexists(aside := self.folder / f"earlier-{number}"):
                number += 1
            aside.mkdir()
            for path in saves:
                path.rename(aside / path.name)
            logger.warning("Checkpoint: saves of another training were moved to %s.", aside)
        self.apart = True

    def __repr__(self) -> str:
        within = f", every_minutes={self.every_minutes}, every_batches={self.every_batches}"
        return f"Checkpoint({str(self.folder)!r}, every={self.every}, keep={self.keep}{within})"


def _position(save: Path) -> list[int]:
    """Return epoch and batch from a name; in the order of letters the 10000th epoch would come before the 9999th."""
    return [int(number) for number in re.findall(r"\d+", save.name)]


def _rename(path: Path, target: Path) -> None:
    try:
        path.rename(target)
    except OSError as error:
        logger.warning("Checkpoint: %s could not be renamed: %s", path, error)


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except OSError as error:
        logger.warning("Checkpoint: %s could not be removed: %s", path, error)
