"""ART 1.20.1: the TRADES and AWP trainers preprocess their validation data twice.

    python examples/art_issues/validation_preprocessed_twice.py

`fit` calls `_apply_preprocessing` on the validation data and hands the result to `predict`, which preprocesses it again
(adversarial_trainer_trades_pytorch.py and adversarial_trainer_awp_pytorch.py). So the accuracy in the log is that of
other inputs. Here the classes are x > 0.5 or not, the model is right about all of them, and the learning rate is 0.
Exits with 1 while the bug is there.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

import numpy as np
import torch
from art.attacks.evasion import ProjectedGradientDescent
from art.defences.trainer import AdversarialTrainerAWPPyTorch, AdversarialTrainerTRADESPyTorch
from art.estimators.classification import PyTorchClassifier

X = np.linspace(0.0, 1.0, 100, dtype=np.float32)[:, None]
Y = (X[:, 0] > 0.5).astype(np.int64)


class Threshold(torch.nn.Module):
    """Class 1 where the input, preprocessed to [-1, 1], is positive."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([[-1.0, 1.0]]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, (n, 2)."""
        return x @ self.weight


def classifier() -> PyTorchClassifier:
    """Return the classifier; its preprocessing is (x - 0.5) / 0.5."""
    model = Threshold()
    settings: dict[str, Any] = {"clip_values": (0.0, 1.0), "preprocessing": (0.5, 0.5), "device_type": "cpu"}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    return PyTorchClassifier(model, torch.nn.CrossEntropyLoss(), (1,), 2, optimizer, **settings)


def logged_accuracy(trainer: Any) -> float:
    """Train for an epoch and return the validation accuracy that the trainer logs."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("art")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    trainer.classifier.save = lambda **_: None  # AWP saves checkpoints in ART's data folder
    trainer.fit(X, Y, validation_data=(X, Y), nb_epochs=1)
    logger.removeHandler(handler)
    found = re.search(r"acc(?:-clean \(val\)|\(val\)): ([\d.]+)", " ".join(lines))
    assert found is not None, lines
    return float(found[1])


def main() -> int:
    """Compare what is logged with what `predict` gives."""
    wrong = 0
    for name in ("TRADES", "AWP"):
        estimator = classifier()
        attack = ProjectedGradientDescent(estimator, eps=0.01, eps_step=0.01, max_iter=1, verbose=False)
        trainer: Any = (
            AdversarialTrainerTRADESPyTorch(estimator, attack, beta=6.0)
            if name == "TRADES"
            else AdversarialTrainerAWPPyTorch(estimator, classifier(), attack, "PGD", 0.01, 6.0, 10)
        )
        received = logged_accuracy(trainer)
        expected = float(np.mean(estimator.predict(X).argmax(axis=1) == Y))
        print(f"{name}: validation accuracy, expected {expected:.4f}, received {received:.4f}")
        wrong += abs(expected - received) > 1e-3
    print("The bug is there." if wrong else "The bug is gone.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
