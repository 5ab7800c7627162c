"""The code that type checkers accept also runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from torch import nn

from tests.typed import user_code


def test_typed_user_code_runs(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    classifier = PyTorchClassifier(model, nn.CrossEntropyLoss(), (6,), 3, optimizer, clip_values=(0.0, 1.0))
    x, y = np.random.default_rng(0).random((32, 6), dtype=np.float32), np.arange(32, dtype=np.int64) % 3
    assert len(user_code.train(x, y, classifier, tmp_path)) == 8
    assert 0 <= user_code.evaluate(x, y, classifier) <= 1
