"""A folder that keeps each attack's result, so that a killed evaluation goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from pathlib import Path

from art_gair.report.codec import decode, encode
from art_gair.report.results import AttackResult

logger = logging.getLogger(__name__)


class Store:
    """Keeps results of one evaluation, a JSON file with a checksum for each attack.

    :param folder: made if it does not exist.
    :param fingerprint: what the results depend on, by name; a folder that holds others' results is refused.
    :raises ValueError: if the folder's fingerprint is another, with the names that differ.
    """

    def __init__(self, folder: str | Path, fingerprint: dict[str, str]) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "evaluation.json"
        if path.exists():
            self._require_same(path, fingerprint)
        _write(path, json.dumps(fingerprint, indent=1))

    def _require_same(self, path: Path, fingerprint: dict[str, str]) -> None:
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"resume_from={str(self.folder)!r} holds a torn {path.name}: {error}") from error
        differing = sorted(k for k in {*kept, *fingerprint} if kept.get(k) != fingerprint.get(k))
        if differing:
            raise ValueError(
                f"resume_from={str(self.folder)!r} holds the results of another evaluation: {', '.join(differing)} "
                "differ. Take another folder, or the same model, data and settings."
            )

    def read(self, name: str) -> AttackResult | None:
        """Return what is kept of an attack; None, with a warning, where its file is torn or was changed."""
        path = self._path(name)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["sha256"] != _checksum(content["result"]):
                raise ValueError("its checksum differs")
            return decode(AttackResult, content["result"])
        except FileNotFoundError:
            return None
        except (KeyError, OSError, TypeError, ValueError) as error:
            warnings.warn(f"{path} is damaged ({error}); the attack is run again.", UserWarning, stacklevel=2)
            return None

    def write(self, result: AttackResult) -> None:
        """Keep a result; where it cannot be written, a logged warning says so, and the evaluation goes on."""
        content = encode(result)
        try:
            _write(self._path(result.name), json.dumps({"sha256": _checksum(content), "result": content}))
        except OSError as error:
            path = self._path(result.name)
            logger.warning("%s could not be written: %s. The evaluation goes on without it.", path, error)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"


def _checksum(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _write(path: Path, content: str) -> None:
    """Write a file so that a kill meanwhile leaves the one before."""
    unfinished = path.with_suffix(".part")
    unfinished.write_text(content, encoding="utf-8")
    unfinished.replace(path)
