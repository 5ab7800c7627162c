"""The classifier's own loss, one value a sample, so that weights can be put on it."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from art_gair.engine.model_state import extra_state, live_state, moved_to, put_back

PerSampleLoss = Callable[[Tensor, Tensor], Tensor]

PLAIN = (bool, int, float, str, type(None))
"""Types of attributes that are saved with a loss."""

SCALES = (1.0, 10.0)
"""What random logits are multiplied by, on which a loss is tried out."""


class PerSample:
    """A loss (logits (n, nb_classes), labels int64 (n,)) -> losses (n,), whose mean is the classifier's loss.

    Of a loss of `reduction="sum"` their sum is: `factor` is what a mean over the samples is multiplied by.

    The classifier's own object gives the values, so what it refers to, remembers, or is told counts; its `reduction` is
    "none" for the length of a call.

    :param loss: the classifier's.
    """

    def __init__(self, loss: nn.Module) -> None:
        self.loss = loss

    @property
    def reduction(self) -> str:
        """Return the loss's own."""
        return str(self.loss.reduction)

    @property
    def weight(self) -> Tensor | None:
        """Return the class weights that a mean reduction divides by, (nb_classes,), or None."""
        mean = isinstance(self.loss, (nn.CrossEntropyLoss, nn.NLLLoss)) and self.loss.reduction == "mean"
        return self.loss.weight if mean else None  # type: ignore[return-value]

    def factor(self, n: int) -> int:
        """Return how many times the mean over a batch of n samples the classifier's loss is."""
        return n if self.reduction == "sum" else 1

    def unreduced(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return what the loss gives without its reduction."""
        own = "reduction" in vars(self.loss)  # else its class has it
        reduction = self.loss.reduction
        self.loss.reduction = "none"  # type: ignore[assignment]
        try:
            values: Tensor = self.loss(logits, labels)
        finally:
            if own:
                self.loss.reduction = reduction
            else:
                del self.loss.reduction
        return values

    def state_dict(self) -> dict[str, Any]:
        """Return what the loss remembers: tensors, attributes of numbers and texts, what `get_extra_state` gives."""
        held = {
            name: {key: copy.deepcopy(value) for key, value in vars(part).items() if _is_memory(key, value)}
            for name, part in self.loss.named_modules()
        }
        return {"tensors": live_state(self.loss), "attributes": held, "extra": extra_state(self.loss)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Give it to the loss again."""
        put_back(self.loss, moved_to(self.loss, state["tensors"]))
        for name, part in self.loss.named_modules():
            for key, value in state["attributes"].get(name, {}).items():
                present = vars(part).get(key)
                if isinstance(value, Tensor) and isinstance(present, Tensor) and value.shape == present.shape:
                    present.copy_(value)  # others may hold it
                else:
                    vars(part)[key] = value
        for name, value in state.get("extra", {}).items():
            self.loss.get_submodule(name).set_extra_state(value)

    def __call__(self, logits: Tensor, labels: Tensor, scale: Tensor | int | None = None) -> Tensor:
        """Return the losses, 0 for samples of label -1.

        :param scale: of the whole batch, where these samples are a part of it; None: they are the batch.
        """
        values = self.unreduced(logits, labels.clamp(min=0))
        if values.shape != labels.shape:
            raise ValueError(f"it gives {tuple(values.shape)} values for {len(labels)} samples")
        return torch.where(labels >= 0, values, 0.0) * (self.scale(labels) if scale is None else scale)

    def scale(
        self, labels: Tensor, n: int | None = None, add_up: Callable[[Tensor], Tensor] = lambda divisor: divisor
    ) -> Tensor | int:
        """Return what the values of a batch are multiplied by, so that their mean is its reduced loss over `factor`.

        :param n: samples of the whole batch, of which the labels are a part; None: they are all.
        :param add_up: returns the divisor of the whole batch from that of these labels.
        """
        n = len(labels) if n is None else n
        if self.reduction == "sum":
            return 1
        labelled = labels >= 0
        divisor = (labelled.float() if self.weight is None else self.weight[labels.clamp(min=0)] * labelled).sum()
        divisor = add_up(divisor)
        # A tensor over a tensor: a number over a tensor is a reciprocal times it, and n * (1 / n) need not be 1.
        return torch.where(divisor > 0, torch.full_like(divisor, n) / divisor, 0.0)


def per_sample(loss: Any, nb_classes: int, device: torch.device) -> PerSample:
    """Return a function (logits (n, nb_classes), labels int64 (n,)) -> losses (n,) whose mean is the classifier's loss.

    Samples of label -1 have loss 0, and the mean over all is the classifier's loss over the others.

    Whatever the reduction does beyond taking a mean is kept: CrossEntropyLoss and NLLLoss with class weights divide by
    the sum of the weights of the labels at hand, and `reduction="sum"` does not divide at all: then the sum of the
    values is the classifier's loss. That it is so is tried out on random logits, by copies of the loss, which may
    remember its calls. A loss whose tensors lie elsewhere is moved to the device.

    :raises ValueError: if the loss has no such form, with its name and the reason.
    """
    name = getattr(loss, "__name__", type(loss).__name__)
    if not isinstance(loss, nn.Module) or getattr(loss, "reduction", None) not in ("mean", "sum", "none"):
        raise ValueError(f"loss {name} has no per-sample form: it is no torch module with a `reduction`.")
    if any(t.device != device for t in (*loss.parameters(), *loss.buffers())):
        loss.to(device)
    original, losses = _copy(loss), PerSample(_copy(loss))
    for labels in _labels(nb_classes):
        for scale in SCALES:
            logits = scale * torch.randn(len(labels), nb_classes, generator=torch.Generator().manual_seed(0))
            _try_out(original, losses, name, logits.to(device), labels.to(device))
    return PerSample(loss)


def _copy(loss: nn.Module) -> nn.Module:
    """Return a copy to try out; if it holds what cannot be copied, one with attributes and buffers of its own."""
    try:
        return copy.deepcopy(loss)
    except Exception:
        copied = copy.copy(loss)
        copied.__dict__ = {**vars(loss), "_parameters": {**loss._parameters}, "_modules": {**loss._modules}}
        copied._buffers = {name: None if b is None else b.clone() for name, b in loss._buffers.items()}
        return copied


def _labels(nb_classes: int) -> list[Tensor]:
    """Return labels of batches to try a loss out on: each class in turn, two classes unevenly, two samples."""
    in_turn = torch.arange(nb_classes + 3) % nb_classes
    uneven = (in_turn == 0).long() % nb_classes
    return [in_turn, uneven, uneven[:2]]


def _is_memory(key: str, value: Any) -> bool:
    """Whether an attribute of a loss is saved: numbers, texts and tensors that are no parameters, or lists of them."""
    if isinstance(value, Tensor):
        return not value.requires_grad and value.layout == torch.strided
    if isinstance(value, (list, tuple)):
        return all(type(entry) in PLAIN for entry in value)
    return key != "training" and (type(value) in PLAIN or isinstance(value, (np.number, np.bool_)))


def _try_out(original: nn.Module, losses: PerSample, name: str, logits: Tensor, labels: Tensor) -> None:
    """Hold the mean of the losses against the classifier's own loss, where that is a number."""
    try:
        with warnings.catch_warnings():  # of shapes that broadcast, where a loss takes no class indices
            warnings.simplefilter("ignore")
            values = losses(logits, labels)
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        raise ValueError(f"loss {name} has no per-sample form on logits (n, {logits.shape[1]}): {error}") from error
    expected = values.mean() if original.reduction == "none" else original(logits, labels)
    found = values.mean() * losses.factor(len(labels))
    if expected.isfinite() and not torch.allclose(found, expected, rtol=1e-4, atol=1e-6):
        raise ValueError(
            f"loss {name} has no per-sample form: on {len(labels)} samples it is {expected.item():g}, "
            f"the {'sum' if losses.reduction == 'sum' else 'mean'} of its values {found.item():g}. Expected a loss of "
            "one value a sample, such as CrossEntropyLoss without ignore_index."
        )


def require_untrained(loss: Any, optimizer: torch.optim.Optimizer | None, module: nn.Module) -> None:
    """Refuse a loss of which the optimizer trains parameters that are not the model's: nothing saves or guards them.

    :raises ValueError: with their names.
    """
    held = {id(p) for group in getattr(optimizer, "param_groups", ()) for p in group["params"]}
    held -= {id(p) for p in module.parameters()}
    named = loss.named_parameters() if isinstance(loss, nn.Module) else ()
    trained = [name for name, parameter in named if id(parameter) in held]
    if trained:
        raise ValueError(
            f"loss {type(loss).__name__} has parameters that the optimizer trains, {', '.join(trained)}: no "
            "checkpoint, average or guard of a training sees them. Expected a loss without."
        )
