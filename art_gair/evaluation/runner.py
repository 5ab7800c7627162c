"""Runs attacks, judges their examples by the model itself, and keeps each result as soon as it is there."""

from __future__ import annotations

import time
import zlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from art_gair import generators
from art_gair.distributed.group import ALONE, Group
from art_gair.evaluation.attacks import Attack, Try
from art_gair.evaluation.store import Store
from art_gair.evaluation.threat import Threat
from art_gair.logits import best_other, probability_margins
from art_gair.report.results import NOT_ATTACKED, AttackResult

CHUNK = 1 << 20
"""Values of x that are attacked together, 4 MiB in float32, or one batch if that is more."""

NAN_NOTE = "the model's output has NaN for some of its examples, which count as misclassified."


class Runner:
    """Attacks rows of one data set, attack by attack, a chunk of samples at once.

    :param x: inputs on the host (n, ...), checked; never copied as a whole.
    :param labels: int64 (n,) on the host.
    :param store: where results are kept, or None; on several processes that of process 0 counts.
    :param group: the processes that share the rows.
    """

    def __init__(
        self, threat: Threat, x: Tensor, labels: Tensor, seed: int, store: Store | None, group: Group = ALONE
    ) -> None:
        self.threat, self.x, self.labels, self.seed, self.store = threat, x, labels, seed, store
        self.group = group
        self.results: dict[str, AttackResult] = {}
        self.attacks: dict[str, Attack] = {}

    def run(self, attack: Attack, rows: NDArray[np.bool_]) -> AttackResult:
        """Run an attack on the rows, bool (n,), that it has not attacked yet, or read its result from the store."""
        result = self.results.get(attack.name)
        if result is None:
            kept = self.group.from_first(None if self.store is None else self.store.read(attack.name))
            result = AttackResult.empty(attack, len(self.x)) if kept is None else kept
        self.attacks[attack.name], self.results[attack.name] = attack, result
        todo = np.flatnonzero(rows & ~result.attacked)
        if len(todo) > 0:
            self._attack_together(attack, result, torch.from_numpy(todo))
            if self.store is not None:
                self.store.write(result)
        return result

    def complete(self, name: str, rows: NDArray[np.bool_]) -> None:
        """Run an attack on the rest of these rows too, so that it can be compared with another."""
        self.run(self.attacks[name], rows)

    def _attack_together(self, attack: Attack, result: AttackResult, rows: Tensor) -> None:
        """Attack the rows, on several processes a part of them on each; the results are the same on all of them."""
        if self.group.size == 1:
            self._attack(attack, result, rows)
            return
        parts = rows.tensor_split(self.group.size)
        mine = AttackResult.empty(attack, len(self.x))
        self._attack(attack, mine, parts[self.group.rank])
        for part, theirs in zip(parts, self.group.gather(mine.subset(parts[self.group.rank].numpy())), strict=True):
            result.take_in(theirs, part.numpy())

    def _attack(self, attack: Attack, result: AttackResult, rows: Tensor) -> None:
        if len(rows) == 0:
            return
        began, device = time.perf_counter(), self.threat.classifier.device
        result.margins[rows.numpy()] = np.inf
        with generators.restored(device):
            part = f" {self.group.rank}" if self.group.rank else ""
            generators.seed(device, zlib.crc32(f"{self.seed} {attack.name}{part}".encode()))
            for chunk in rows.split(self._chunk_size()):
                x = torch.cat([batch.cpu() for batch in self.threat.batches(self.x[chunk])])
                for attempt in attack.tries(self.threat, x, self.labels[chunk], self.seed, result.notes):
                    self._record(result, chunk, x, attempt)
                result.attacked[chunk.numpy()] = True
        every = [mask[rows.numpy()] for mask in result.tries.values()]
        result.broken[rows.numpy()] = np.any(every, axis=0)
        result.seconds += time.perf_counter() - began

    def _chunk_size(self) -> int:
        return max(self.threat.batch_size, CHUNK // max(1, self.x[0].numel()))

    def _record(self, result: AttackResult, chunk: Tensor, x: Tensor, attempt: Try) -> None:
        """Judge the examples of one try by the model itself, after they were brought into the ball."""
        here, labels = chunk.numpy(), self.labels[chunk]
        settled = self.threat.settle(x, attempt.x_adv)
        result.projected += int(settled.projected.sum())
        result.discarded += int(settled.discarded.sum())
        classes, margins = self._judge(self.threat.logits(settled.x_adv), labels, result.notes)
        broken = result.tries.setdefault(attempt.name, np.zeros_like(result.broken))
        broken[here] = (classes != labels).numpy()
        lower = margins < result.margins[here]
        result.predictions[here] = np.where(lower, classes.numpy(), result.predictions[here])
        result.margins[here] = np.where(lower, margins, result.margins[here])
        if attempt.kappa is not None and (result.kappa is None or (result.kappa[here] == NOT_ATTACKED).all()):
            if result.kappa is None:
                result.kappa = np.full(len(self.x), NOT_ATTACKED, dtype=np.int64)
            result.kappa[here] = attempt.kappa.numpy()

    @staticmethod
    def _judge(logits: Tensor, labels: Tensor, notes: list[str]) -> tuple[Tensor, NDArray[np.float64]]:
        """Return classes and margins; an output with NaN is misclassified, as the likeliest wrong class."""
        lost = logits.isnan().any(dim=1)
        if lost.any() and NAN_NOTE not in notes:
            notes.append(NAN_NOTE)
        margins = probability_margins(logits, labels).masked_fill(lost, -1.0)
        wrong = best_other(logits.nan_to_num(nan=torch.finfo(logits.dtype).min), labels)[1]
        return torch.where(lost, wrong, logits.argmax(dim=1)), margins.numpy()
