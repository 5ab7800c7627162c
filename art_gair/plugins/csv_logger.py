"""A table of the training's epochs, as a CSV file."""

from __future__ import annotations

import csv
import itertools
import json
import logging
import os
from collections.abc import Mapping
from typing import Any

import torch

from art_gair.checks import require_path
from art_gair.engine.classifier import TensorClassifier
from art_gair.plugins.base import Plugin

logger = logging.getLogger(__name__)


class CSVLogger(Plugin):
    """Writes the records of all epochs to a CSV file after each epoch: one row an epoch, one column an entry.

    Floats are written such that they read back exactly, lists as JSON, None as an empty cell. The file is written to a
    temporary file beside it, which then takes its name: a reader always finds it whole. Missing folders are created.

    A new training renames a file that it finds at `path` to `<name>.1`, or the next number that is free. A training
    that is resumed overwrites the file by the rows up to its checkpoint and goes on below them. When the file cannot
    be written, a warning is logged and the training goes on; the next epoch writes all rows again.

    :param path: the file.
    :raises TypeError: if path is no str or PathLike.
    :raises ValueError: if path is a folder, or lies below a file.
    """

    affects_training = False

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = require_path(path, "path", folder=False)
        self._begin()

    def _begin(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.new = True
        self.failing = False

    def start(self, classifier: TensorClassifier, optimizer: torch.optim.Optimizer) -> None:
        """Begin an empty table."""
        self._begin()

    def state_dict(self) -> dict[str, Any]:
        """Return the rows."""
        return {"rows": [dict(row) for row in self.rows]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on below these rows, in the same file."""
        self.rows = [dict(row) for row in state["rows"]]
        self.new = False

    def end_epoch(self, record: Mapping[str, Any]) -> None:
        """Add the record and write the file."""
        self.rows.append(dict(record))
        try:
            if self.new:
                self._move_aside()
            self._write()
        except OSError as error:
            self._warn(error)
        else:
            self.failing = False

    def _move_aside(self) -> None:
        """Give the file of an earlier training another name."""
        if self.path.is_file() and self.path.stat().st_size > 0:
            names = (self.path.with_name(f"{self.path.name}.{i}") for i in itertools.count(1))
            target = next(name for name in names if not (name.exists() or name.is_symlink()))
            self.path.rename(target)
            logger.info("%s is the file of an earlier training; it is now %s.", self.path, target)
        self.new = False

    def _write(self) -> None:
        """Write all rows to a temporary file, synced to disk, and give it the file's name."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        try:
            with unfinished.open("w", encoding="utf-8", newline="") as file:
                _write_table(file, self.rows)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(self.path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise

    def _warn(self, error: OSError) -> None:
        """Log that the file could not be written, once until it could be again."""
        if not self.failing:
            logger.warning("%s could not be written: %s. Each later epoch tries again.", self.path, error)
        self.failing = True

    def __repr__(self) -> str:
        return f"CSVLogger({str(self.path)!r})"


def _write_table(file: Any, rows: list[dict[str, Any]]) -> None:
    """Write rows under a header of all their keys; a row that lacks one has an empty cell there."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)


def _cell(value: Any) -> Any:
    """Return what csv writes as it should be read: it writes floats by their repr, and None as nothing."""
    return json.dumps(value) if isinstance(value, (list, tuple, dict)) else value
