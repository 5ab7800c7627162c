"""The samples of one step, in one part or, with `accumulate`, in several, and their loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from art_gair import generators
from art_gair.engine.classifier import TensorClassifier
from art_gair.engine.model_state import copied, live_state, put_back
from art_gair.objectives.base import Batch, Objective, Terms
from art_gair.training.weights import weigh
from art_gair.weighting.base import Weighting


@dataclass
class Part:
    """An attacked part of a batch.

    :param batch: what the objective sees.
    :param targets: classes that the attack moved away from, int64 (n,).
    :param kappa: int64 (n,), or None where the attack does not count it.
    :param gradients: the attack's last gradient to the inputs, if it can be had.
    """

    batch: Batch
    targets: Tensor
    kappa: Tensor | None
    gradients: list[Tensor]


@dataclass
class EffectiveBatch:
    """The weighted loss of the parts, weights normalised over all of them: a `BatchLoss`.

    After its parts have been gone through, `weights`, `terms` and `total` hold what they gave, detached.

    :param loss: one value a sample; if it has a `scale`, as `PerSample`, that of all labels together counts.
    """

    classifier: TensorClassifier
    objective: Objective
    loss: Any
    weighting: Weighting
    max_iter: int
    epoch: int
    split: Sequence[Part]

    def __post_init__(self) -> None:
        self.targets = _joined([part.targets for part in self.split])
        kappas = [part.kappa for part in self.split if part.kappa is not None]
        self.kappa = _joined(kappas) if kappas else None

    def __call__(self) -> Tensor:
        """Return the loss of the whole batch, a scalar with its graph."""
        return sum(self.parts())  # type: ignore[return-value]

    def parts(self) -> Iterator[Tensor]:
        """Yield the loss of each part, so that their sum is the mean over all samples."""
        if len(self.split) == 1:
            terms = self.objective(self.classifier, self.loss, self.split[0].batch)
            weights = self._weigh(terms.logits.detach())
            total = self.objective.total(self.objective.scaled(weights), terms)
            self.weights, self.terms, self.total = weights, _detached(terms), total.detach()
            yield total
            return
        yield from self._parts_of_several()

    def _parts_of_several(self) -> Iterator[Tensor]:
        """The weights need the logits of all parts before any part can be weighted; only schemes on logits pay."""
        weights = self._weigh(self._logits() if getattr(self.weighting, "needs_logits", True) else None)
        sizes = [len(part.targets) for part in self.split]
        scale = getattr(self.loss, "scale", None)
        loss = self.loss if scale is None else _scaled(self.loss, scale(_joined([p.batch.labels for p in self.split])))
        taken, totals = [], []
        for part, scaled in zip(self.split, self.objective.scaled(weights).split(sizes), strict=True):
            terms = self.objective(self.classifier, loss, part.batch)
            total = self.objective.total(scaled, terms) * (len(scaled) / len(weights))
            taken.append(_detached(terms))
            totals.append(total.detach())
            yield total
        plain = [t.plain for t in taken if t.plain is not None]
        self.weights, self.total = weights, torch.stack(totals).sum()
        self.terms = Terms(
            _joined([t.logits for t in taken]), _joined([t.weighted for t in taken]), _joined(plain) if plain else None
        )

    def _weigh(self, logits: Tensor | None) -> Tensor:
        seen: dict[str, Any] = {"kappa": self.kappa, "max_iter": self.max_iter, "logits": logits}
        return weigh(self.weighting, **seen, labels=self.targets, epoch=self.epoch)

    @torch.no_grad()
    def _logits(self) -> Tensor:
        """Return the logits of all parts as the pass with gradients will have them: same buffers, same dropout."""
        buffers = copied(live_state(self.classifier.module, parameters=False))
        with generators.restored(self.classifier.device):
            logits = [self.objective(self.classifier, self.loss, part.batch).logits for part in self.split]
        put_back(self.classifier.module, buffers, parameters=False)
        return _joined(logits)


def _scaled(loss: Any, scale: Any) -> Any:
    return lambda logits, labels: loss(logits, labels, scale)


def _detached(terms: Terms) -> Terms:
    plain = None if terms.plain is None else terms.plain.detach()
    return Terms(terms.logits.detach(), terms.weighted.detach(), plain)


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))
