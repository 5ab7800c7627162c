"""The note of what was written into which checkout, so that a later run may replace it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from upstream.files import RefusedError, digest, locked, replace_file, with_lf

Written = dict[str, str]
"""Hashes of the contents that were written, by path in the checkout; line ends do not count."""


def fingerprints(contents: Mapping[str, bytes]) -> Written:
    """Return what the note says of contents, by path."""
    return {path: digest(with_lf(content)) for path, content in contents.items()}


class Note:
    """What is noted of one checkout.

    :param record: a file of this project, with the notes of all checkouts.
    :param folder: of the checkout.
    """

    def __init__(self, record: Path, folder: Path) -> None:
        self.record, self.key = record, str(folder.resolve())

    def read(self) -> Written:
        """Return what was written into the checkout, nothing if that is not noted.

        :raises RefusedError: if the file is damaged.
        """
        return self._read_all().get(self.key, {})

    def write(self, written: Written) -> None:
        """Note what was written in the place of what was noted before; errors as for `read`."""
        self.record.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.record.parent, wait=True):  # runs on other checkouts share the file
            records = {**self._read_all(), self.key: written}
            replace_file(self.record, json.dumps(records, indent=1).encode())

    def _read_all(self) -> dict[str, Written]:
        if not self.record.exists():
            return {}
        try:
            records = json.loads(self.record.read_bytes())
        except ValueError:
            records = None
        if not isinstance(records, dict) or not all(isinstance(written, dict) for written in records.values()):
            raise RefusedError(f"{self.record}, the note of what was written before, is damaged; delete it.")
        return records
