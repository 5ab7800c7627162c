"""What a training asks of an attack: anyone can implement it, ART's own attacks are adapted to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from art_gair.engine.classifier import TensorClassifier

Perturb = Callable[[Tensor, Tensor], "tuple[Tensor, Tensor | None]"]
"""Takes a batch on the device, x float32 (n, *input_shape) and labels int64 (n,); returns x_adv like x, and kappa int64
(n,), 0..max_iter, or None where an attack does not count it."""


@runtime_checkable
class InnerAttack(Protocol):
    """The inner maximiser of a training. It need not be an ART attack, and it is never changed by a training.

    An example, which moves along one random sign and counts one look:

        class OneStep:
            max_iter = 1       # kappa is 0 or 1
            batch_size = 128

            def on_batches(self, classifier, epoch):
                def perturb(x, labels):
                    with classifier.attacked(x) as model, torch.no_grad():
                        kappa = (model(x).argmax(dim=1) == labels).long()
                        x_adv = x + 0.1 * torch.randn_like(x).sign()
                        return classifier.box.clip(x_adv), kappa

                return perturb
    """

    max_iter: int
    """K: kappa lies in 0..max_iter. 0 if the attack counts none; schemes that need kappa are then refused."""

    batch_size: int
    """Samples that validation attacks at once."""

    def on_batches(self, classifier: TensorClassifier, epoch: int) -> Perturb:
        """Return the attack on batches of one epoch.

        :param classifier: the model as tensors see it. `with classifier.attacked(x) as model` gives logits of the model
            in eval mode; enter it once a batch. `classifier.box` holds clip_values, or None.
        :param epoch: epoch of the training, counted from 0, for schedules.
        """
        ...


def check_perturbed(attack: InnerAttack, perturb: Perturb) -> Perturb:
    """Return the attack on batches; what it returns is checked: shapes and types each time, values on the first batch.

    :raises ValueError: when it is called, naming the attack, if x_adv or kappa is not what `Perturb` promises.
    """
    looked_at_values = False

    def checked(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        nonlocal looked_at_values
        x_adv, kappa = perturb(x, labels)
        _require_alike(attack, "x_adv", x_adv, x.shape, x.dtype, x.device)
        if (kappa is None) != (attack.max_iter == 0):
            raise ValueError(
                f"attack {type(attack).__name__} has max_iter {attack.max_iter} and returned kappa {kappa!r}; expected "
                "kappa of shape (n,), or max_iter = 0 and None."
            )
        if kappa is not None:
            _require_alike(attack, "kappa", kappa, labels.shape, torch.int64, x.device)
        if not looked_at_values:
            looked_at_values = True
            _require_values(attack, x_adv, kappa)
        return x_adv.detach(), kappa

    return checked


def _require_alike(
    attack: InnerAttack, name: str, value: object, shape: torch.Size, dtype: torch.dtype, device: torch.device
) -> None:
    tensor = isinstance(value, Tensor)
    received = (tuple(value.shape), value.dtype, value.device) if tensor else type(value).__name__  # type: ignore[attr-defined]
    if received != (tuple(shape), dtype, device):
        raise ValueError(
            f"attack {type(attack).__name__} returned {name} {received}; expected {(tuple(shape), dtype, device)}."
        )


def _require_values(attack: InnerAttack, x_adv: Tensor, kappa: Tensor | None) -> None:
    if not torch.isfinite(x_adv).all():
        raise ValueError(f"attack {type(attack).__name__} returned x_adv with NaN or infinite values.")
    if kappa is not None and (kappa.min() < 0 or kappa.max() > attack.max_iter):
        raise ValueError(
            f"attack {type(attack).__name__} returned kappa {int(kappa.min())} to {int(kappa.max())}; "
            f"expected 0 to max_iter, {attack.max_iter}."
        )
