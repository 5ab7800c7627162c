"""The calls by which `write_state` reaches the system, watched and interfered with."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


class Calls:
    """Notes the calls by name, and interferes at one of them.

    :param at: which call, counted from 1; 0 for none.
    :param when: before it, after it, or in the middle: when half of what is to be written has been.
    :param buffering: of the file; with 0 each write reaches the system at once.
    """

    def __init__(self, interfere: Callable[[], Any], at: int = 0, when: str = "before", buffering: int = 0) -> None:
        self.interfere, self.at, self.when, self.buffering = interfere, at, when, buffering
        self.names: list[str] = []

    def install(self, patch: pytest.MonkeyPatch) -> None:
        create = self.watched("create", Path.open)
        patch.setattr(Path, "open", lambda path, mode: WatchedFile(self, create(path, mode, self.buffering)))
        for owner, name in ((Path, "replace"), (os, "fsync"), (os, "open"), (os, "close")):
            patch.setattr(owner, name, self.watched(name, getattr(owner, name)))

    def watched(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            self.names.append(name)
            due = len(self.names) == self.at
            if due and self.when == "middle":
                function(args[0][: len(args[0]) // 2])
            if due and self.when != "after":
                self.interfere()
            result = function(*args)
            if due:
                self.interfere()
            return result

        return call


class WatchedFile:
    """A file whose methods are watched."""

    def __init__(self, calls: Calls, file: Any) -> None:
        self.calls, self.file = calls, file

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.file, name)
        return method if name == "fileno" else self.calls.watched(name, method)

    def __enter__(self) -> WatchedFile:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.close()
        finally:
            self.file.close()
