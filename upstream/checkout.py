"""What a checkout of ART must be before anything is written, and what an earlier run wrote into it."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from upstream.edits import EDITS
from upstream.files import RefusedError, with_lf
from upstream.moves import move_all, recover
from upstream.note import Note, Written, fingerprints

SUPPORTED = "1.20"
"""The release, without its last number, whose files the edits and the templates fit."""

FOLDERS = ("art/attacks/evasion", "art/defences/trainer", "tests/attacks/evasion", "tests/defences/trainer", "examples")


class Checkout:
    """A folder with ART's sources.

    :param folder: of the checkout.
    :param record: a file of this project that says what was written into which checkout before.
    :raises RefusedError: if it is none, lacks folders, or is of a version that is not supported.
    """

    def __init__(self, folder: Path, record: Path) -> None:
        self.folder = folder.resolve()
        self.note = Note(record, self.folder)
        self.written: Written = {}
        self._require_art()

    def recover(self) -> list[str]:
        """Take back what a run that was killed half-way left, and read what was written; return the paths taken back.

        :raises RefusedError: if that cannot be done without losing somebody's changes.
        """
        taken_back = recover(self.folder, self.note)
        self.written = self.note.read()
        return taken_back

    def read(self, path: str) -> str:
        """Return a file's text, with the line ends that it has.

        :raises RefusedError: if it is not in UTF-8.
        """
        try:
            return (self.folder / path).read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise RefusedError(f"{self.folder / path} is not in UTF-8: {error}.") from error

    def require_free(self, files: Mapping[str, str]) -> None:
        """Refuse a checkout where writing would mix with changes or files that are not of an earlier run.

        :raises RefusedError: naming the first of them.
        """
        edited = {edit.path for edit in EDITS}
        for path, text in files.items():
            target = self.folder / path
            if target.is_symlink() or not target.resolve().is_relative_to(self.folder):
                raise RefusedError(f"{target} is a link, or lies behind one; expected a file in the checkout itself.")
            if path not in edited and target.exists() and not self._ours(path) and not self._holds(path, text):
                raise RefusedError(
                    f"{target} is there already and is not noted as written by `make upstream`; move it away."
                )
        for path in self._dirty():
            if not self._ours(path) and not (path in files and self._holds(path, files[path])):
                raise RefusedError(f"{self.folder} has uncommitted changes, {path} first; commit or stash them.")

    def write(self, files: Mapping[str, str]) -> None:
        """Put all files in their places, and note it; if one cannot be, those before it are taken back.

        :raises OSError: if a file cannot be written.
        """
        move_all(self.folder, {path: text.encode() for path, text in files.items()}, self.note)

    def _require_art(self) -> None:
        if not self.folder.is_dir():
            raise RefusedError(f"ART is {str(self.folder)!r}, which is no folder; expected a checkout of ART.")
        init = self.folder / "art" / "__init__.py"
        if not init.is_file():
            raise RefusedError(f"{self.folder} is no checkout of ART: it has no art/__init__.py.")
        version = re.search(r'^__version__ = "(.+)"$', init.read_text(encoding="utf-8"), re.MULTILINE)
        if version is None or not version[1].startswith(f"{SUPPORTED}."):
            received = "no version" if version is None else f"version {version[1]}"
            raise RefusedError(f"{self.folder} holds ART of {received}; expected {SUPPORTED}.x.")
        missing = [name for name in FOLDERS if not (self.folder / name).is_dir()]
        missing += [edit.path for edit in EDITS if not (self.folder / edit.path).is_file()]
        if missing:
            raise RefusedError(f"{self.folder} lacks {', '.join(missing)}; expected a whole checkout of ART.")

    def _ours(self, path: str) -> bool:
        """Whether a file is as an earlier run left it."""
        target = self.folder / path
        held = fingerprints({path: target.read_bytes()} if target.is_file() else {})
        return path in held and held[path] == self.written.get(path)

    def _holds(self, path: str, text: str) -> bool:
        """Whether a file has this text, with line ends of either kind."""
        target = self.folder / path
        return target.is_file() and with_lf(target.read_bytes()) == with_lf(text.encode())

    def _dirty(self) -> list[str]:
        """Return what git calls changed, by path in the folder; nothing where there is no repository.

        What git does not know counts where the checkout is a repository of its own. Within another repository the
        whole folder may be unknown, which says nothing about ART's files.
        """
        own = (self.folder / ".git").exists()
        if not own and not any((parent / ".git").exists() for parent in self.folder.parents):
            return []
        prefix = self._git("rev-parse", "--show-prefix").rstrip("\n")
        unknown = "all" if own else "no"
        status = self._git("status", "--porcelain", "-z", "--no-renames", f"--untracked-files={unknown}", "--", ".")
        return [entry[3:].removeprefix(prefix) for entry in status.split("\0") if entry]

    def _git(self, *command: str) -> str:
        # A git hook, for one, sets variables that would lead git to another repository.
        env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        done = subprocess.run(["git", "-C", str(self.folder), *command], capture_output=True, env=env, check=False)
        if done.returncode != 0:
            raise RefusedError(f"git {command[0]} fails in {self.folder}: {os.fsdecode(done.stderr).strip()}")
        return os.fsdecode(done.stdout)
