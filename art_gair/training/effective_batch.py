"""The samples of one step, in one part or, with `accumulate`, in several, and their loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from art_gair import generators
from art_gair.distributed.group import ALONE, Group
from art_gair.distributed.share import Share
from art_gair.engine.classifier import TensorClassifier
from art_gair.engine.model_state import copied, live_state, put_back
from art_gair.objectives.base import Batch, Objective, Terms
from art_gair.training.replicas import Replicas
from art_gair.training.weights import cut_own, gather_own, own_rows, weigh, weigh_together
from art_gair.weighting.base import Weighting


@dataclass
class Part:
    """An attacked part of a batch.

    :param batch: what the objective sees.
    :param targets: classes that the attack moved away from, int64 (n,).
    :param kappa: int64 (n,), or None where the attack does not count it.
    :param gradients: the attack's last gradient to the inputs, if it can be had.
    :param share: which rows of a larger batch these are, where several processes share it.
    """

    batch: Batch
    targets: Tensor
    kappa: Tensor | None
    gradients: list[Tensor]
    share: Share | None = None


@dataclass
class EffectiveBatch:
    """The weighted loss of the parts, weights normalised over all of them: a `BatchLoss`.

    After its parts have been gone through, `weights`, `terms` and `total` hold what they gave, detached, the total as a
    mean over the samples. Where several processes share the batch these are of this process's own samples; the totals
    add up to that of the whole batch.

    :param loss: one value a sample; if it has a `scale` and a `factor`, as `PerSample`, those of the whole batch count.
    :param group: the processes that share the batch.
    :param replicas: of the model, on several processes.
    """

    classifier: TensorClassifier
    objective: Objective
    loss: Any
    weighting: Weighting
    max_iter: int
    epoch: int
    split: Sequence[Part]
    group: Group = ALONE
    replicas: Replicas | None = None

    def __post_init__(self) -> None:
        self.shares = [part.share for part in self.split if part.share is not None]
        self.computed_targets = _joined([part.targets for part in self.split])
        kappas = [part.kappa for part in self.split if part.kappa is not None]
        self.computed_kappa = _joined(kappas) if kappas else None
        self.own = own_rows(self.shares, self.computed_targets) if self.shares else None
        self.targets = self._cut(self.computed_targets)
        self.kappa = None if self.computed_kappa is None else self._cut(self.computed_kappa)
        self.n = sum(share.n for share in self.shares) if self.shares else len(self.targets)
        self.factor = self.loss.factor(self.n) if hasattr(self.loss, "factor") else 1
        self.checked: Tensor | None = None

    def __call__(self) -> Tensor:
        """Return the loss of the whole batch, a scalar with its graph.

        On several processes the value is the same on all; its graph is that of this process's samples, see `parts`.
        """
        loss: Tensor = sum(self.parts())  # type: ignore[assignment]
        return loss if self.group.size == 1 else loss + (self.factor * self.group.sum(self.total) - loss.detach())

    def parts(self) -> Iterator[Tensor]:
        """Yield the loss of each part, so that their sum is the mean over all samples, or that times `factor`.

        On several processes that of this process's samples, times the number of processes: so their mean is the whole.
        """
        return self._parts(lambda forward: forward())

    def update_parts(self) -> Iterator[Tensor]:
        """Yield the same; a backward pass from each also averages the gradients over the processes."""
        if self.replicas is None:
            return self.parts()
        return self._parts(self.replicas.terms, self.replicas.gathering)

    def gradients(self, parameters: Sequence[Tensor]) -> list[Tensor | None]:
        """Return the gradient of the whole batch's loss to each parameter; where there is none None, or, shared, 0."""
        total: list[Tensor | None] = [None] * len(parameters)
        for part in self.parts():
            grads = torch.autograd.grad(part, list(parameters), allow_unused=True)
            total = [b if a is None else a if b is None else a + b for a, b in zip(total, grads, strict=True)]
        return total if self.replicas is None else [*self.replicas.mean(total, parameters)]

    def _parts(
        self,
        through: Callable[[Callable[[], Terms]], Terms],
        around: Callable[[bool], Any] = lambda last: nullcontext(),
    ) -> Iterator[Tensor]:
        if len(self.split) == 1:
            with around(True):
                part = self.split[0]
                loss = self._scaled_loss() if self.shares else self.loss
                terms = through(lambda: self.objective(self.classifier, loss, part.batch))
                weights = self._weigh(terms.logits.detach())
                own = self._own_terms(terms, part)
                total = self._total(self._scaled(weights), own, terms, part)
                self.weights, self.terms, self.total = weights, _detached(own), total.detach()
                yield total * (self.group.size * self.factor)
            return
        yield from self._parts_of_several(through, around)

    def _parts_of_several(self, through: Any, around: Any) -> Iterator[Tensor]:
        """The weights need the logits of all parts before any part can be weighted; only schemes on logits pay."""
        weights = self._weigh(self._logits() if getattr(self.weighting, "needs_logits", True) else None)
        sizes = [len(self._own_of(part.targets, part)) for part in self.split]
        loss = self._scaled_loss()
        taken, totals = [], []
        scaled_parts = self._scaled(weights).split(sizes)
        for i, (part, scaled) in enumerate(zip(self.split, scaled_parts, strict=True)):
            with around(i == len(self.split) - 1):
                terms = through(lambda part=part: self.objective(self.classifier, loss, part.batch))
                own = self._own_terms(terms, part)
                total = self._total(scaled, own, terms, part)
                taken.append(_detached(own))
                totals.append(total.detach())
                yield total * (self.group.size * self.factor)
        plain = [t.plain for t in taken if t.plain is not None]
        self.weights, self.total = weights, torch.stack(totals).sum()
        self.terms = Terms(
            _joined([t.logits for t in taken]), _joined([t.weighted for t in taken]), _joined(plain) if plain else None
        )

    def _total(self, scaled: Tensor, own: Terms, computed: Terms, part: Part) -> Tensor:
        """Return the part's share of the whole batch's mean; 0, with a graph, where none of its samples is our own."""
        if len(scaled) == 0:
            return self.objective.total(torch.ones_like(computed.weighted), computed) * 0.0
        total = self.objective.total(scaled, own)
        return total if len(scaled) == self.n else total * (len(scaled) / self.n)

    def _weigh(self, logits: Tensor | None) -> Tensor:
        """Return the weights of our own samples; `checked` is what can be held against a mean of 1."""
        seen: dict[str, Any] = {"kappa": self.computed_kappa, "max_iter": self.max_iter, "logits": logits}
        seen |= {"labels": self.computed_targets, "epoch": self.epoch}
        if not self.shares:
            self.checked = weigh(self.weighting, **seen)
            return self.checked
        weights, self.checked = weigh_together(self.weighting, self.group, self.shares, **seen)
        return weights

    def _scaled(self, weights: Tensor) -> Tensor:
        """Return what multiplies the weighted terms; an objective that scales by the batch sees all of its weights."""
        if not self.shares or type(self.objective).scaled is Objective.scaled:
            return self.objective.scaled(weights)
        whole = weights.new_zeros(sum(share.rows for share in self.shares)).index_copy(0, self.own, weights)  # type: ignore[arg-type]
        scaled = self.objective.scaled(gather_own(whole, self.group, self.shares))
        return cut_own(scaled, self.group, self.shares)

    def _scaled_loss(self) -> Any:
        """Return the loss by the scale of all labels of the batch together."""
        scale = getattr(self.loss, "scale", None)
        if scale is None:
            return self.loss
        labels = self._cut(_joined([part.batch.labels for part in self.split]))
        if not self.shares:
            return _with_scale(self.loss, scale(labels))
        alike = getattr(self.loss, "weight", None) is None and not self.objective.unlabelled
        add_up = (lambda divisor: torch.full_like(divisor, self.n)) if alike else self.group.sum
        return _with_scale(self.loss, scale(labels, self.n, add_up))

    @torch.no_grad()
    def _logits(self) -> Tensor:
        """Return the logits of all parts as the pass with gradients will have them: same buffers, same dropout."""
        buffers = copied(live_state(self.classifier.module, parameters=False))
        with generators.restored(self.classifier.device):
            logits = [self.objective(self.classifier, self.loss, part.batch).logits for part in self.split]
        put_back(self.classifier.module, buffers, parameters=False)
        return _joined(logits)

    def _own_terms(self, terms: Terms, part: Part) -> Terms:
        if part.share is None or part.share.all_own:
            return terms
        plain = None if terms.plain is None else terms.plain[part.share.own]
        return Terms(terms.logits[part.share.own], terms.weighted[part.share.own], plain)

    def _own_of(self, rows: Tensor, part: Part) -> Tensor:
        return rows if part.share is None else rows[part.share.own]

    def _cut(self, rows: Tensor) -> Tensor:
        return rows if self.own is None else rows[self.own]


def _with_scale(loss: Any, scale: Any) -> Any:
    return lambda logits, labels: loss(logits, labels, scale)


def _detached(terms: Terms) -> Terms:
    plain = None if terms.plain is None else terms.plain.detach()
    return Terms(terms.logits.detach(), terms.weighted.detach(), plain)


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))
