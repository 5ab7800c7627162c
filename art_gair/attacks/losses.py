"""What the attack maximises: one pure function a loss, (logits, labels, clean logits) -> one value a sample, (n,)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

AttackLoss = Callable[[Tensor, Tensor, "Tensor | None"], Tensor]


def cross_entropy(logits: Tensor, labels: Tensor, clean_logits: Tensor | None = None) -> Tensor:
    """CE(f(x_adv), y): the loss of PGD (Madry et al., ICLR 2018)."""
    return F.cross_entropy(logits, labels, reduction="none")


def margin(logits: Tensor, labels: Tensor, clean_logits: Tensor | None = None) -> Tensor:
    """max_{j != y} z_j - z_y: positive exactly where x_adv is misclassified (Carlini & Wagner, 2017, with kappa = 0).

    Unlike the cross entropy it does not saturate, so it looks behind gradients that vanish in the softmax.
    """
    true = logits.gather(1, labels[:, None])
    other = logits.scatter(1, labels[:, None], -torch.inf).amax(dim=1)
    return other - true[:, 0]


def kl(logits: Tensor, labels: Tensor, clean_logits: Tensor | None = None) -> Tensor:
    """KL(f(x) || f(x_adv)): the loss of TRADES' attack (Zhang et al., ICML 2019). Its gradient is zero at x itself."""
    assert clean_logits is not None
    return F.kl_div(F.log_softmax(logits, 1), F.log_softmax(clean_logits, 1), reduction="none", log_target=True).sum(1)


LOSSES: dict[str, AttackLoss] = {"ce": cross_entropy, "margin": margin, "kl": kl}
