"""The classifier's own loss, one value a sample, so that weights can be put on it."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

PerSampleLoss = Callable[[Tensor, Tensor], Tensor]


class PerSample:
    """A loss (logits (n, nb_classes), labels int64 (n,)) -> losses (n,), whose mean is the classifier's loss.

    :param unreduced: the classifier's loss without its reduction.
    :param reduction: the one it had.
    :param weight: class weights that a mean reduction divides by, (nb_classes,), or None.
    """

    def __init__(self, unreduced: nn.Module, reduction: str, weight: Tensor | None) -> None:
        self.unreduced, self.reduction, self.weight = unreduced, reduction, weight

    def __call__(self, logits: Tensor, labels: Tensor, scale: Tensor | int | None = None) -> Tensor:
        """Return the losses, 0 for samples of label -1.

        :param scale: of the whole batch, where these samples are a part of it; None: they are the batch.
        """
        values: Tensor = self.unreduced(logits, labels.clamp(min=0))
        if values.shape != labels.shape:
            raise ValueError(f"it gives {tuple(values.shape)} values for {len(labels)} samples")
        return torch.where(labels >= 0, values, 0.0) * (self.scale(labels) if scale is None else scale)

    def scale(
        self, labels: Tensor, n: int | None = None, add_up: Callable[[Tensor], Tensor] = lambda divisor: divisor
    ) -> Tensor | int:
        """Return what the values of a batch are multiplied by, so that their mean is its reduced loss.

        :param n: samples of the whole batch, of which the labels are a part; None: they are all.
        :param add_up: returns the divisor of the whole batch from that of these labels.
        """
        n = len(labels) if n is None else n
        if self.reduction == "sum":
            return n
        labelled = labels >= 0
        divisor = (labelled.float() if self.weight is None else self.weight[labels.clamp(min=0)] * labelled).sum()
        divisor = add_up(divisor)
        # A tensor over a tensor: a number over a tensor is a reciprocal times it, and n * (1 / n) need not be 1.
        return torch.where(divisor > 0, torch.full_like(divisor, n) / divisor, 0.0)


def per_sample(loss: Any, nb_classes: int, device: torch.device) -> PerSample:
    """Return a function (logits (n, nb_classes), labels int64 (n,)) -> losses (n,) whose mean is the classifier's loss.

    Samples of label -1 have loss 0, and the mean over all is the classifier's loss over the others.

    Works on a copy, so the classifier's object is never changed. Whatever the reduction does beyond taking a mean is
    kept: CrossEntropyLoss and NLLLoss with class weights divide by the sum of the weights of the labels at hand, and
    `reduction="sum"` does not divide at all. That the mean is the classifier's loss is tried out on random logits.

    :raises ValueError: if the loss has no such form, with its name and the reason.
    """
    name = getattr(loss, "__name__", type(loss).__name__)
    if not isinstance(loss, nn.Module) or getattr(loss, "reduction", None) not in ("mean", "sum", "none"):
        raise ValueError(f"loss {name} has no per-sample form: it is no torch module with a `reduction`.")
    original = copy.deepcopy(loss).to(device)
    unreduced = copy.deepcopy(original)
    unreduced.reduction = "none"  # type: ignore[assignment]
    losses = PerSample(unreduced, str(original.reduction), _class_weights(original))
    _try_out(original, losses, name, nb_classes, device)
    return losses


def _class_weights(loss: nn.Module) -> Tensor | None:
    """Return what a mean reduction divides by, one number a class, where that is not 1 throughout."""
    if not isinstance(loss, (nn.CrossEntropyLoss, nn.NLLLoss)) or loss.reduction != "mean" or loss.weight is None:
        return None
    return loss.weight


def _try_out(original: nn.Module, losses: PerSampleLoss, name: str, nb_classes: int, device: torch.device) -> None:
    """Hold the mean of the losses against the classifier's own loss, on logits that touch no global generator."""
    n = nb_classes + 3
    logits = torch.randn(n, nb_classes, generator=torch.Generator().manual_seed(0)).to(device)
    labels = torch.arange(n, device=device) % nb_classes
    try:
        with warnings.catch_warnings():  # of shapes that broadcast, where a loss takes no class indices
            warnings.simplefilter("ignore")
            values = losses(logits, labels)
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        raise ValueError(f"loss {name} has no per-sample form on logits (n, {nb_classes}): {error}") from error
    expected = values.mean() if original.reduction == "none" else original(logits, labels)
    if not torch.allclose(values.mean(), expected, rtol=1e-4, atol=1e-6):
        raise ValueError(
            f"loss {name} has no per-sample form: on {n} samples it is {expected.item():g}, "
            f"the mean of its values {values.mean().item():g}."
        )


def require_untrained(loss: Any, optimizer: torch.optim.Optimizer | None) -> None:
    """Refuse a loss of which the optimizer trains parameters: a training weighs a copy, and they would stay.

    :raises ValueError: with their names.
    """
    held = {id(p) for group in getattr(optimizer, "param_groups", ()) for p in group["params"]}
    named = loss.named_parameters() if isinstance(loss, nn.Module) else ()
    trained = [name for name, parameter in named if id(parameter) in held]
    if trained:
        raise ValueError(
            f"loss {type(loss).__name__} has parameters that the optimizer trains, {', '.join(trained)}: a "
            "training weighs a copy of it, so they would stay as they are. Expected a loss without."
        )
