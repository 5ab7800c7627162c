"""What a training shows while it runs: a bar within the epoch on a terminal, and a line an epoch."""

from __future__ import annotations

import logging
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from tqdm.auto import tqdm

from art_gair.training.history import EpochMeter, EpochRecord

logger = logging.getLogger(__name__)

NO_STREAM = suppress(AttributeError, OSError, ValueError)
"""There is no stream, its disk is full, its reader has gone, or it is closed: no reason to end a training."""

REFRESH_SECONDS = 0.5
"""At most that often the running values are read."""


class Progress:
    """Shows a training to a person.

    :param nb_epochs: of the training.
    :param steps: an epoch, None if unknown.
    :param shown: False: nothing but the log.
    """

    def __init__(self, nb_epochs: int, steps: int | None, shown: bool) -> None:
        self.nb_epochs, self.steps, self.shown = nb_epochs, steps, shown
        self.notebook = any("notebook" in c.__module__ for c in tqdm.__mro__)
        self.interactive = self.notebook or (sys.stderr is not None and sys.stderr.isatty())
        self.bar: Any = None
        self.refreshed = 0.0

    def begin_epoch(self, epoch: int, taken: int, history: Sequence[EpochRecord]) -> None:
        """Begin a bar."""
        left = _remaining(history, self.nb_epochs - epoch)
        title = f"epoch {epoch + 1}/{self.nb_epochs}{f', {left} left' if left else ''}"
        off = not (self.shown and self.interactive)
        with NO_STREAM:
            self.bar = tqdm(desc=title, total=self.steps, initial=taken, leave=False, disable=off, unit="batch")

    def step(self, meter: EpochMeter, waited: bool) -> None:
        """Move the bar.

        :param waited: whether the host has just waited for the device, so that reading from it costs nothing.
        """
        if self.bar is None or self.bar.disable:
            return
        if waited and time.monotonic() - self.refreshed > REFRESH_SECONDS:
            self.refreshed = time.monotonic()
            loss, accuracy = meter.running()
            self.bar.set_postfix_str(f"loss {loss:.3f}, robust {accuracy:.1%}", refresh=False)
        with NO_STREAM:
            self.bar.update()

    def validate(self) -> None:
        """Say that the epoch is validated."""
        if self.bar is not None and not self.bar.disable:
            with NO_STREAM:
                self.bar.set_postfix_str("validation")

    def end_epoch(self, record: EpochRecord, history: Sequence[EpochRecord]) -> None:
        """Write the epoch's line: to the log, or to stderr where the log shows no such lines."""
        self.close()
        _log(record)
        left = _remaining(history, self.nb_epochs - record["epoch"] - 1)
        self._write(f"{_line(record, self.nb_epochs)}{f', {left} left' if left else ''}")

    def say(self, text: str) -> None:
        """Tell a person, and the log."""
        logger.info(text)
        self._write(text)

    def _write(self, text: str) -> None:
        """Write a line where the log shows none."""
        if self.shown and (self.interactive or not _logged()):
            stream = sys.stdout if self.notebook else sys.stderr  # a notebook shows stderr as an error
            with NO_STREAM:
                stream.write(f"{text}\n")
                stream.flush()

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            with NO_STREAM:
                self.bar.close()


def _logged() -> bool:
    """Whether somebody gets the log's lines at level INFO."""
    return logger.isEnabledFor(logging.INFO) and logger.hasHandlers()


def _remaining(history: Sequence[EpochRecord], epochs: int) -> str:
    """Return the time that epochs take as a text, by the median of the last ones; empty if that is unknown."""
    if not history or epochs == 0:
        return ""
    return duration(epochs * statistics.median(record["seconds"] for record in history[-5:]))


def duration(seconds: float) -> str:
    """Return a time as 42 s, 3 min or 5 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _line(record: EpochRecord, nb_epochs: int) -> str:
    line = f"epoch {record['epoch'] + 1}/{nb_epochs}: loss {record['loss']:.4f}"
    line += f", robust {record['train_robust_accuracy']:.1%} in training"
    if record["clean_accuracy"] is not None and record["robust_accuracy"] is not None:
        line += f", clean {record['clean_accuracy']:.1%} and robust {record['robust_accuracy']:.1%} in validation"
    return f"{line}, {record['seconds']:.1f} s"


def _log(record: EpochRecord) -> None:
    logger.info(
        "epoch: %s time(s): %.1f loss: %.4f acc(tr, adv): %.4f acc(val): %s acc(val, adv): %s ess: %.1f lr: %g",
        record["epoch"],
        record["seconds"],
        record["loss"],
        record["train_robust_accuracy"],
        *("-" if a is None else f"{a:.4f}" for a in (record["clean_accuracy"], record["robust_accuracy"])),
        record["effective_sample_size"],
        record["lr"],
    )
