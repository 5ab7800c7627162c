"""Ctrl-C, SIGTERM, a closed terminal: the batch is finished and the training saved; a second one leaves at once."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

from art_gair.distributed.group import ALONE, Group

logger = logging.getLogger(__name__)

HANGUP: signal.Signals | None = getattr(signal, "SIGHUP", None)
"""What a closed terminal sends; Windows has none."""

ASKED = "\nFinishing the batch, then leaving; a second %s leaves at once, unsaved.\n"


class LeavingError(Exception):
    """Ends a validation that a signal came into, or the way through batches that were taken before."""


class Interrupts:
    """While it is entered, a first signal is noted, and a second one takes effect.

    Handlers that the program has set itself are left alone, and so are all where it is not entered in the main thread.

    :param group: the processes of the training; a signal to one of them counts for all.
    """

    def __init__(self, group: Group = ALONE) -> None:
        self.group = group
        self.received: signal.Signals | None = None
        self.raised = False
        self._before: dict[signal.Signals, Any] = {}
        self._process = os.getpid()

    def __enter__(self) -> Interrupts:
        self.received, self.raised, self._process = None, False, os.getpid()
        if threading.current_thread() is threading.main_thread():
            defaults: dict[signal.Signals, Any] = {signal.SIGINT: signal.default_int_handler}
            defaults[signal.SIGTERM] = signal.SIG_DFL
            if HANGUP is not None:
                defaults[HANGUP] = signal.SIG_DFL
            for number, default in defaults.items():
                if signal.getsignal(number) == default:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Put the handlers back; a signal that came too late to stop the training takes effect now."""
        while self._before:
            signal.signal(*self._before.popitem())
        if error is None and self.received is not None and not self.raised:
            raise self.error("The training had ended when the signal came.")

    def agree(self) -> bool:
        """Return whether a signal has come to any of the processes; each must ask at the same place."""
        if self.group.size > 1:
            mine = 0 if self.received is None else int(self.received)
            first = max(numbers[0] for numbers in self.group.gather_numbers([mine]))
            if first and self.received is None:
                self.received = signal.Signals(first)
        return self.received is not None

    def check(self) -> None:
        """Raise LeavingError if a signal has come."""
        if self.agree():
            raise LeavingError

    def error(self, message: str) -> BaseException:
        """Return what a program that is stopped by this signal ends with; log the message."""
        self.raised = True
        logger.warning(message)
        if self.received is not None and self.received != signal.SIGINT:
            return SystemExit(128 + self.received)
        return KeyboardInterrupt(message)

    @property
    def name(self) -> str:
        """What came."""
        return "" if self.received is None else _name(self.received)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            _end_fork(number)
            return
        if self.received is not None:
            self.raised = True
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        self._let_workers_die()
        self.received = signal.Signals(number)
        try:
            sys.stderr.write(ASKED % _name(self.received))
        except (AttributeError, RuntimeError, OSError, ValueError):
            return  # there is no stream, it was being written to, or it is closed

    def _let_workers_die(self) -> None:
        """Keep a DataLoader from raising within the batch: a signal to the whole process group ends its workers too."""
        raised = hasattr(signal, "SIGCHLD")
        while raised:
            try:
                if (handler := signal.getsignal(signal.SIGCHLD)) is not None:
                    self._before.setdefault(signal.SIGCHLD, handler)
                    signal.signal(signal.SIGCHLD, _pass)
                raised = False
            except RuntimeError:  # one has died by now, and the DataLoader's handler ran within this one
                continue


def _name(number: signal.Signals) -> str:
    return "Ctrl-C" if number == signal.SIGINT else number.name


def _pass(number: int, frame: FrameType | None) -> None:
    """Unlike SIG_IGN, leave it to the parent to ask how a child ended."""


def _end_fork(number: int) -> None:
    """Take SIGTERM in a process forked in the training, such as a worker, which has its handlers; Ctrl-C is for us."""
    if number != signal.SIGINT:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
