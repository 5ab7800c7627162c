"""ART 1.20.1: AdversarialTrainerMadryPGD takes validation_data and, with PyTorch, does nothing with it.

    python examples/art_issues/madry_validation_data_unused.py

`fit` hands it on as a keyword argument, through AdversarialTrainer.fit, to PyTorchClassifier.fit, which ignores keyword
arguments that it does not know. So no accuracy is computed, and nothing says so. Here the validation data note when
they are read. Exits with 1 while the bug is there.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from art.defences.trainer import AdversarialTrainerMadryPGD
from art.estimators.classification import PyTorchClassifier

X = np.random.default_rng(0).random((8, 4), dtype=np.float32)
Y = np.eye(2)[np.arange(8) % 2]


class Watched(tuple[Any, ...]):
    """A pair (x, y) that notes whether somebody looks at it."""

    read = False

    def __iter__(self) -> Any:
        self.read = True
        return super().__iter__()

    def __getitem__(self, item: Any) -> Any:
        self.read = True
        return super().__getitem__(item)


def main() -> int:
    """Train for an epoch with validation data."""
    model = torch.nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loss = torch.nn.CrossEntropyLoss()
    classifier = PyTorchClassifier(model, loss, (4,), 2, optimizer, clip_values=(0.0, 1.0), device_type="cpu")
    trainer = AdversarialTrainerMadryPGD(classifier, eps=0.1, eps_step=0.05, max_iter=2)
    validation_data = Watched((X, Y))
    try:
        trainer.fit(X, Y, validation_data=validation_data, nb_epochs=1)
        received = "read" if validation_data.read else "never read, and no error"
    except (TypeError, ValueError, NotImplementedError) as error:
        received = f"refused: {error}"
    print(f"validation_data: expected read, or refused; received {received}")
    wrong = received.startswith("never")
    print("The bug is there." if wrong else "The bug is gone.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
