"""Ctrl-C and SIGTERM: the batch is finished and the training saved first; a second one leaves at once."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

logger = logging.getLogger(__name__)

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}

ASKED = "\nFinishing the batch, then leaving; a second %s leaves at once, unsaved.\n"


class LeavingError(Exception):
    """Ends a validation that a signal came into."""


class Interrupts:
    """While it is entered, a first signal is noted, and a second one takes effect.

    Handlers that the program has set itself are left alone, and so are all where it is not entered in the main thread.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.raised = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        self.received, self.raised = None, False
        if threading.current_thread() is threading.main_thread():
            defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
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

    def check(self) -> None:
        """Raise LeavingError if a signal has come."""
        if self.received is not None:
            raise LeavingError

    def error(self, message: str) -> BaseException:
        """Return what a program that is stopped by this signal ends with; log the message."""
        self.raised = True
        logger.warning(message)
        if self.received == signal.SIGTERM:
            return SystemExit(128 + signal.SIGTERM)
        return KeyboardInterrupt(message)

    @property
    def name(self) -> str:
        """What came."""
        return "" if self.received is None else NAMES[self.received]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            self.raised = True
            raise SystemExit(128 + number) if number == signal.SIGTERM else KeyboardInterrupt
        self.received = signal.Signals(number)
        try:
            sys.stderr.write(ASKED % NAMES[self.received])
        except (RuntimeError, OSError, ValueError):
            return  # the stream was being written to, or is closed
