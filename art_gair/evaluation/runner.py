"""Runs attacks, judges what they found by the model itself, and keeps each result as soon as it is there."""

from __future__ import annotations

import io
import json
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from art_gair import generators
from art_gair.evaluation.attacks import Attack
from art_gair.evaluation.threat import Threat
from art_gair.logits import probability_margins
from art_gair.report.data import NOT_ATTACKED, AttackResult


class Runner:
    """Attacks rows of one data set, attack by attack.

    :param x: inputs on the host (n, ...), checked.
    :param labels: int64 (n,) on the host.
    :param store: where results are kept, or None.
    """

    def __init__(self, threat: Threat, x: Tensor, labels: Tensor, seed: int, store: Store | None) -> None:
        self.threat, self.x, self.labels, self.seed, self.store = threat, x, labels, seed, store
        self.results: dict[str, AttackResult] = {}
        self.attacks: dict[str, Attack] = {}

    def run(self, attack: Attack, rows: NDArray[np.bool_]) -> AttackResult:
        """Let an attack loose on rows, (n,), that it has not attacked yet, or read what it did from the store."""
        result = self.results.get(attack.name)
        if result is None:
            result = AttackResult.empty(attack, len(self.x)) if self.store is None else self.store.read(attack, self.x)
        self.attacks[attack.name], self.results[attack.name] = attack, result
        todo = np.flatnonzero(rows & ~result.attacked)
        if len(todo) > 0:
            self._attack(attack, result, torch.from_numpy(todo))
            if self.store is not None:
                self.store.write(result)
        return result

    def complete(self, name: str, rows: NDArray[np.bool_]) -> None:
        """Let an attack loose on the rest of these rows too, so that it can be compared with another."""
        self.run(self.attacks[name], rows)

    def _attack(self, attack: Attack, result: AttackResult, rows: Tensor) -> None:
        began, x, labels = time.perf_counter(), self.x[rows].float(), self.labels[rows]
        here = rows.numpy()
        seed = zlib.crc32(f"{self.seed} {attack.name}".encode())
        margins = torch.full((len(rows),), torch.inf, dtype=torch.float64)
        predictions = labels.clone()
        with generators.restored(self.threat.classifier.device):
            generators.seed(self.threat.classifier.device, seed)
            for found in attack.tries(self.threat, x, labels, self.seed, result.notes):
                classes, own, fooled = self._judged(x, found.x_adv, labels)
                result.tries.setdefault(found.name, np.zeros_like(result.broken))[here] = fooled.numpy()
                predictions = torch.where(own < margins, classes, predictions)
                margins = torch.minimum(own, margins)
                if found.kappa is not None and (result.kappa is None or (result.kappa[here] < 0).all()):
                    if result.kappa is None:
                        result.kappa = np.full(len(self.x), NOT_ATTACKED, dtype=np.int64)
                    result.kappa[here] = found.kappa.numpy()
        result.attacked[here] = True
        result.broken[here] = np.any([mask[here] for mask in result.tries.values()], axis=0)
        result.predictions[here], result.margins[here] = predictions.numpy(), margins.numpy()
        result.seconds += time.perf_counter() - began

    def _judged(self, x: Tensor, x_adv: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Class, margin and whether it is wrong, of examples inside the ball; others count as the sample itself."""
        valid = self.threat.inside(x, x_adv)
        x_adv = torch.where(valid.view(-1, *[1] * (x.ndim - 1)), x_adv, x)
        logits = self.threat.logits(x_adv)
        classes = logits.argmax(dim=1)
        return classes, probability_margins(logits, labels), classes != labels


class Store:
    """A folder that keeps each attack's result, so that a killed evaluation goes on where it stopped.

    :param fingerprint: what the results depend on, by name; a folder that holds others' results is refused.
    :raises ValueError: if the folder's fingerprint is another, with the names that differ.
    """

    def __init__(self, folder: str | Path, fingerprint: dict[str, str]) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "evaluation.json"
        if path.exists():
            theirs = json.loads(path.read_text(encoding="utf-8"))
            other = sorted(k for k in {*theirs, *fingerprint} if theirs.get(k) != fingerprint.get(k))
            if other:
                raise ValueError(
                    f"resume_from={str(folder)!r} holds the results of another evaluation: {', '.join(other)} differ. "
                    "Take another folder, or the same model, data and settings."
                )
        _write(path, json.dumps(fingerprint, indent=1).encode())

    def read(self, attack: Attack, x: Tensor) -> AttackResult:
        """Return what is kept of an attack, or an empty result."""
        result, path = AttackResult.empty(attack, len(x)), self._path(attack.name)
        if path.exists():
            with np.load(path, allow_pickle=False) as kept:
                for name in ("attacked", "broken", "predictions", "margins"):
                    setattr(result, name, kept[name])
                said: dict[str, Any] = json.loads(str(kept["said"]))
                result.tries = {name: kept[f"try {i}"] for i, name in enumerate(said["tries"])}
                result.kappa = kept.get("kappa")
                result.seconds, result.notes = said["seconds"], said["notes"]
        return result

    def write(self, result: AttackResult) -> None:
        """Keep a result."""
        said = {"tries": list(result.tries), "seconds": result.seconds, "notes": result.notes}
        arrays: dict[str, Any] = {f"try {i}": mask for i, mask in enumerate(result.tries.values())}
        arrays |= {name: getattr(result, name) for name in ("attacked", "broken", "predictions", "margins")}
        if result.kappa is not None:
            arrays["kappa"] = result.kappa
        content = io.BytesIO()
        np.savez(content, said=np.array(json.dumps(said)), **arrays)
        _write(self._path(result.name), content.getvalue())

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npz"


def _write(path: Path, content: bytes) -> None:
    """Write a file so that a kill meanwhile leaves the one before."""
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(content)
    unfinished.replace(path)
