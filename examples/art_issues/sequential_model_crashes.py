"""ART 1.20.1: the TRADES and FBF trainers fail on models that are `nn.Sequential`.

    python examples/art_issues/sequential_model_crashes.py

ART's wrapper of a model returns a list: for `nn.Sequential` the output of every layer, for another module the logits
alone. For the training accuracy both trainers take element 0, `model_outputs[0].max(1)[1] == o_batch`, which is the
first layer's output, not the logits, element -1. Behind a convolution the shapes do not fit, and training stops with an
error; behind a Flatten or Linear layer the accuracy in the log is wrong. Exits with 1 while the bug is there.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from art.attacks.evasion import ProjectedGradientDescent
from art.defences.trainer import AdversarialTrainerFBFPyTorch, AdversarialTrainerTRADESPyTorch
from art.estimators.classification import PyTorchClassifier

X = np.random.default_rng(0).random((8, 1, 8, 8), dtype=np.float32)
Y = np.eye(2)[np.arange(8) % 2]


def classifier() -> PyTorchClassifier:
    """Return a small convolutional classifier."""
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4 * 36, 2)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loss = torch.nn.CrossEntropyLoss()
    return PyTorchClassifier(model, loss, (1, 8, 8), 2, optimizer, clip_values=(0.0, 1.0), device_type="cpu")


def main() -> int:
    """Train for an epoch with each trainer."""
    estimator = classifier()
    attack = ProjectedGradientDescent(estimator, eps=0.1, eps_step=0.1, max_iter=1, verbose=False)
    trainers: dict[str, Any] = {
        "TRADES": AdversarialTrainerTRADESPyTorch(estimator, attack, beta=6.0),
        "FBF": AdversarialTrainerFBFPyTorch(classifier(), eps=0.1),
    }
    wrong = 0
    for name, trainer in trainers.items():
        try:
            trainer.fit(X, Y, nb_epochs=1)
            received = "trained"
        except RuntimeError as error:
            received, wrong = f"RuntimeError: {error}", wrong + 1
        print(f"{name}: expected trained, received {received}")
    print("The bug is there." if wrong else "The bug is gone.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
