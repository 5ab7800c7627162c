"""What the attack maximises: one pure function a loss, (logits, labels, clean logits) -> one value a sample, (n,)."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from art_gair.logits import kl_divergence, margin

AttackLoss = Callable[[Tensor, Tensor, "Tensor | None"], Tensor]


def cross_entropy(logits: Tensor, labels: Tensor, clean_logits: Tensor | None = None) -> Tensor:
    """CE(f(x_adv), y): the loss of PGD (Madry et al., ICLR 2018)."""
    return F.cross_entropy(logits, labels, reduction="none")


def negative_margin(logits: Tensor, labels: Tensor, clean_logits: Tensor | None = None) -> Tensor:
    """max_{j != y} z_j - z_y, the negative margin (Carlini & Wagner, 2017, with kappa = 0).

    Unlike the cross entropy it does not saturate, so it looks behind gradients that vanish in the softmax.
    """
    return -margin(logits, labels)


def kl(logits: Tensor, labels: Tensor, clean_logits: Tensor | None = None) -> Tensor:
    """KL(f(x) || f(x_adv)): the loss of TRADES' attack (Zhang et al., ICML 2019). Its gradient is zero at x itself."""
    assert clean_logits is not None
    return kl_divergence(clean_logits, logits)


LOSSES: dict[str, AttackLoss] = {"ce": cross_entropy, "margin": negative_margin, "kl": kl}
