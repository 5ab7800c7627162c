"""Clean accuracy, and accuracy under the training attack, on held-out data."""

from __future__ import annotations

import torch
from torch import Tensor

from art_gair.attacks.geometry_aware_pgd import Perturb
from art_gair.classifier import TensorClassifier


def accuracy_of(
    classifier: TensorClassifier, attack: Perturb, x: Tensor, labels: Tensor, batch_size: int
) -> tuple[float, float]:
    """Return clean and robust accuracy, 0..1, of the model in eval mode; waits for the device once.

    :param x: checked inputs (n, *input_shape).
    :param labels: classes, int64 (n,).
    """
    correct = torch.zeros(2, dtype=torch.int64, device=classifier.device)
    for rows in torch.arange(len(x)).split(batch_size):
        batch, y = x[rows].to(classifier.device, torch.float32), labels[rows].to(classifier.device)
        x_adv, _ = attack(batch, y)
        with classifier.attacked(batch) as logits_of, torch.no_grad():
            correct += torch.stack([(logits_of(z).argmax(dim=1) == y).sum() for z in (batch, x_adv)])
    clean, robust = (correct.double() / len(x)).tolist()
    return clean, robust
