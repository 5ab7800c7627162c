"""Clean and robust accuracy on held-out data after each epoch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from art_gair.attacks.base import InnerAttack, Perturb, check_perturbed
from art_gair.distributed.share import split
from art_gair.engine.classifier import TensorClassifier
from art_gair.hashing import hash_rows
from art_gair.logits import is_right
from art_gair.plugins.base import Candidates
from art_gair.training.best_epoch import BestEpoch
from art_gair.training.finite import are_finite
from art_gair.training.history import Accuracies
from art_gair.training.settings import Settings, describe
from art_gair.training.step import TrainingStep
from art_gair.training.streams import GLOBAL, Streams

logger = logging.getLogger(__name__)

OnBatches = tuple[Perturb, int]
"""An attack on batches, and how many samples it takes at once."""


@dataclass
class Validation:
    """Measures an epoch's model on held-out data, and shows it to `best`, as it stands then, if there is one.

    :param x: checked inputs (n, *input_shape).
    :param labels: classes, int64 (n,).
    :param attacks: robust is what the model gets right clean and under each of them. None: under `training_attack`,
        as it stands in the epoch.
    :param batch_size: samples that the training attack takes at once.
    """

    classifier: TensorClassifier
    x: Tensor
    labels: Tensor
    attacks: list[OnBatches] | None
    training_attack: InnerAttack
    batch_size: int
    best: BestEpoch | None
    named: Any = None
    """The attacks as they were given."""
    every: int = 1
    first: int = 0
    """The first epoch that may be validated."""
    check: Callable[[], None] = lambda: None
    """Called before each batch; may raise to leave."""
    streams: Streams = GLOBAL
    warned: bool = False
    """Whether a warning has said that gradients are not finite."""

    def at(self, nb_epochs: int) -> list[bool]:
        """Return for each epoch whether it is validated: from the first on every so many, and the last.

        :raises ValueError: if there is no such epoch.
        """
        if self.first >= nb_epochs:
            raise ValueError(f"validate_from is {self.first}; expected an epoch, counted from 0, of {nb_epochs}.")
        last = nb_epochs - 1
        return [e == last or (e >= self.first and (e + 1) % self.every == 0) for e in range(nb_epochs)]

    def describe(self) -> Settings:
        """Return what is validated, by names that begin with "validation": it matters to `keep_best` alone."""
        found = {"validation.keep_best": str(self.best is not None), "validation.every": str(self.every)}
        found |= {"validation.from": str(self.first)} if self.first else {}
        found |= {"validation.batch_size": str(self.batch_size)}
        found |= {"validation.x": hash_rows(self.x), "validation.y": hash_rows(self.labels)}
        return found | describe("validation_attack", self.named)

    def __call__(self, step: TrainingStep, candidates: Candidates = ()) -> Accuracies:
        """Return the accuracies of the model in eval mode, or of the best of the candidates, tried alike."""
        accuracies = []
        for name, lent in candidates or [("raw", nullcontext())]:
            with step.streams.restored(), lent:
                self.streams = step.streams
                accuracies.append(self._measure(step, name))
        return max(accuracies, key=lambda found: (found.robust, found.clean))

    def _measure(self, step: TrainingStep, name: str) -> Accuracies:
        everything = torch.arange(len(self.x))
        clean = self._right(everything, (_unattacked, self.batch_size))
        if self.attacks is None:
            attack = self.training_attack.on_batches(self.classifier, step.epoch)
            robust = self._right(everything, (check_perturbed(self.training_attack, attack), self.batch_size))
        else:
            robust = self._withstands_all(clean, self.attacks)
        accuracies = Accuracies(clean.double().mean().item(), robust.double().mean().item(), name)
        if self.best is not None:
            self.best.look(step.epoch, accuracies, _only_class(clean, self.labels))
        return accuracies

    def _withstands_all(self, clean: Tensor, attacks: list[OnBatches]) -> Tensor:
        """Attack only the samples that still stand: one that has fallen stays fallen."""
        standing = clean.clone()
        for attack in attacks:
            rows = standing.nonzero().flatten()
            if len(rows) == 0:
                break
            standing[rows] = self._right(rows, attack)
        return standing

    def _right(self, rows: Tensor, attack: OnBatches) -> Tensor:
        """Return for each of the rows whether the model finds its class, a bool on the host; waits for the device."""
        perturb, batch_size = attack
        right, blind, group = [], False, self.streams.group
        for part in _batches(rows, batch_size):
            self.check()
            n = len(part)
            if n == 1 < batch_size:  # some models squeeze a batch of one: another sample keeps it company
                part = torch.cat([part, (part + 1) % len(self.x)])
            share = None if group.size == 1 else split(len(part), group.rank, group.size)
            if share is not None:
                part = part[share.first : share.first + share.rows]
            x, labels = self.classifier.batch(self.x[part]), self.labels[part].to(self.classifier.device)
            with self.streams.drawing(share):
                x_adv, _ = perturb(x, labels)
            gradients = self.classifier.take_gradient()
            with self.classifier.evaluating(), torch.no_grad():
                found = is_right(self.classifier.logits(x_adv), labels)  # of the model itself, as predict has it
            blind = blind or _stands_unmoved(found, gradients)
            found = found if share is None else group.gather_rows(found[share.own].long(), share.counts) == 1
            right.append(found[:n])
        self._warn_of(blind)
        return torch.cat(right).cpu()

    def _warn_of(self, blind: bool) -> None:
        """Warn, once, where an attack on any process has had no gradient to move a sample by."""
        device = self.classifier.device
        if not self.warned and not self.streams.group.all_true(torch.tensor([not blind], device=device)).item():
            self.warned = True
            logger.warning(
                "The attack's gradient to some samples of validation_data is not finite: it cannot move them, and they "
                "count as robust. The likely cause is an operation of the model without a derivative there, such as "
                "the square root at 0 or 0 / 0."
            )


def _only_class(right: Tensor, labels: Tensor) -> int | None:
    """Return the class whose samples are all right while all others are wrong, if there are others and it is so.

    :param right: bool (n,) on the host.
    """
    labels = labels.cpu()
    classes = labels[right].unique()
    if len(classes) != 1 or len(labels.unique()) == 1:
        return None
    return int(classes) if torch.equal(right, labels == classes) else None


def _batches(rows: Tensor, batch_size: int) -> list[Tensor]:
    """Split rows into batches; a lone last one joins the batch before."""
    parts = list(rows.split(batch_size))
    if len(parts) > 1 and len(parts[-1]) == 1 < batch_size:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def _stands_unmoved(right: Tensor, gradients: list[Tensor]) -> bool:
    """Whether the model is right about a sample whose gradient was not finite.

    :param gradients: as `take_gradient` gives them; those of samples that an attack has stopped come first.
    """
    if not gradients or are_finite(gradients):
        return False
    for gradient in gradients:
        bad = ~gradient.flatten(1).isfinite().all(dim=1)
        if bool((bad & right if len(bad) == len(right) else bad).any()):
            return True
    return False


def _unattacked(x: Tensor, labels: Tensor) -> tuple[Tensor, None]:
    return x, None
