"""What a checkout of ART must be before anything is written, and how files are put into it: all of them, or none."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from upstream.edits import EDITS

SUPPORTED = "1.20"
"""The release, without its last number, whose files the edits and the templates fit."""

FOLDERS = ("art/attacks/evasion", "art/defences/trainer", "tests/attacks/evasion", "tests/defences/trainer", "examples")


class RefusedError(Exception):
    """The checkout cannot be written to; nothing has been."""


class Checkout:
    """A folder with ART's sources.

    :param folder: of the checkout.
    :param record: a file of this project that says what was written into which checkout before.
    :raises RefusedError: if it is none, lacks folders, or is of a version that is not supported.
    """

    def __init__(self, folder: Path, record: Path) -> None:
        self.folder, self.record = folder.resolve(), record
        self._require_art()
        self.written = self._read_record().get(str(self.folder), {})

    def require_free(self, files: Mapping[str, str]) -> None:
        """Refuse a checkout where writing would mix with changes or files that are not of an earlier run.

        :raises RefusedError: naming the first of them.
        """
        edited = {edit.path for edit in EDITS}
        for path, text in files.items():
            target = self.folder / path
            if target.is_symlink() or not target.resolve().is_relative_to(self.folder.resolve()):
                raise RefusedError(f"{target} is a link, or lies behind one; expected a file in the checkout itself.")
            if path not in edited and target.exists() and not self._ours(path) and _digest(target) != _hash(text):
                raise RefusedError(f"{target} is there already and was not written by `make upstream`; move it away.")
        for path in self._dirty():
            if not self._ours(path) and not (path in files and _digest(self.folder / path) == _hash(files[path])):
                raise RefusedError(f"{self.folder} has uncommitted changes, {path} first; commit or stash them.")

    def write(self, files: Mapping[str, str]) -> None:
        """Put all files in their places; if one cannot be, those before it are taken back.

        :raises OSError: if a file cannot be written.
        """
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".upstream-") as temporary:
            new, old = Path(temporary) / "new", Path(temporary) / "old"
            for path, text in files.items():
                _write(new / path, text)
                if (self.folder / path).exists():
                    (old / path).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(self.folder / path, old / path)
            moved: list[str] = []
            try:
                for path in files:
                    moved.append(path)
                    (new / path).replace(self.folder / path)
                self._note(files)
            except BaseException:  # Ctrl-C too
                for path in moved:
                    self._put_back(path, old / path)
                raise

    def _put_back(self, path: str, old: Path) -> None:
        if old.exists():
            old.replace(self.folder / path)
        else:
            (self.folder / path).unlink(missing_ok=True)

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
        return path in self.written and _digest(self.folder / path) == self.written[path]

    def _dirty(self) -> list[str]:
        """Return what git calls changed or unknown; nothing where the checkout is no repository of its own."""
        if not (self.folder / ".git").exists():
            return []
        status = subprocess.run(
            ["git", "-C", str(self.folder), "status", "--porcelain", "-z", "--untracked-files=all"],
            capture_output=True,
            text=True,
            check=False,
        )
        if status.returncode != 0:
            raise RefusedError(f"git status fails in {self.folder}: {status.stderr.strip()}")
        return [entry[3:] for entry in status.stdout.split("\0") if len(entry) > 3 and entry[2] == " "]

    def _read_record(self) -> dict[str, dict[str, str]]:
        if not self.record.exists():
            return {}
        records: dict[str, dict[str, str]] = json.loads(self.record.read_text(encoding="utf-8"))
        return records

    def _note(self, files: Mapping[str, str]) -> None:
        records = self._read_record()
        records[str(self.folder)] = {path: _hash(text) for path, text in files.items()}
        self.record.parent.mkdir(parents=True, exist_ok=True)
        self.record.write_text(json.dumps(records, indent=1), encoding="utf-8")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
