"""ART 1.20.1: the "fast is better than free" trainer trains in eval mode.

    python examples/art_issues/fbf_batchnorm_in_eval_mode.py

`_batch_process` in adversarial_trainer_fbf_pytorch.py takes `loss_gradient`, which puts the model in eval mode, and
never puts it in train mode for the update. So BatchNorm normalises with its initial statistics, which never move, and
Dropout drops nothing. Here BatchNorm's running mean starts at 0, and the data have the mean 5. Exits with 1 while the
bug is there.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from art.defences.trainer import AdversarialTrainerFBFPyTorch
from art.estimators.classification import PyTorchClassifier

rng = np.random.default_rng(0)
X = rng.normal(5.0, 1.0, (64, 4)).astype(np.float32)
Y = np.eye(2)[(X[:, 0] > 5.0).astype(int)]


class Network(torch.nn.Module):
    """BatchNorm and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(4)
        self.linear = torch.nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, (n, 2)."""
        return torch.as_tensor(self.linear(self.norm(x)))


def main() -> int:
    """Train for an epoch and look at BatchNorm's running mean."""
    model = Network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    classifier = PyTorchClassifier(model, torch.nn.CrossEntropyLoss(), (4,), 2, optimizer, device_type="cpu")
    AdversarialTrainerFBFPyTorch(classifier, eps=0.1).fit(X, Y, batch_size=16, nb_epochs=1)
    running_mean = model.norm.running_mean
    assert running_mean is not None
    received = running_mean.mean().item()
    expected = 5.0 * (1 - 0.9**4)  # four batches, momentum 0.1
    print(f"BatchNorm's running mean after four batches: expected about {expected:.2f}, received {received:.2f}")
    wrong = received == 0.0
    print("The bug is there." if wrong else "The bug is gone.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
