"""How the time of a GAIRAT epoch grows with K, the number of samples, the batch and the model's width.

    python benchmarks/growth.py [--repeats 3] [--out benchmarks/results]

One setting moves at a time from K = 10, 1,000 samples, batch 128 and width 16; each figure is the median of epochs of a
training that has begun. A straight line is fitted where time should be one: in K, in samples, in the number of steps an
epoch, since a step of a small model costs little more for more samples, and in the width's square, as weights grow.
"""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from torch import nn

from art_gair import AdversarialTrainerGAIRAT, GeometryAwarePGD

BASE = {"K": 10, "samples": 1000, "batch": 128, "width": 16}
SETTINGS: dict[str, list[int]] = {
    "K": [1, 2, 5, 10, 20, 40],
    "samples": [1000, 2000, 5000, 10_000, 20_000, 50_000],
    "batch": [16, 32, 64, 128, 256, 512],
    "width": [8, 16, 32, 64],
}


def network(width: int) -> nn.Module:
    """Two convolutions with BatchNorm for 8x8 images, and a linear layer."""
    layers: list[nn.Module] = []
    for inside, outside in ((1, width), (width, 2 * width)):
        layers += [nn.Conv2d(inside, outside, 3, stride=2, padding=1), nn.BatchNorm2d(outside), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * width, 10))


def epoch_seconds(setting: dict[str, int], repeats: int) -> float:
    """Seconds of one epoch: the median over the epochs after the first."""
    torch.manual_seed(0)
    model = network(setting["width"])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    classifier = PyTorchClassifier(
        model, nn.CrossEntropyLoss(), (1, 8, 8), 10, optimizer, clip_values=(0.0, 1.0), device_type="cpu"
    )
    rng = np.random.default_rng(0)
    x = rng.random((setting["samples"], 1, 8, 8), dtype=np.float32)
    trainer = AdversarialTrainerGAIRAT(classifier, GeometryAwarePGD(classifier, max_iter=setting["K"]))
    trainer.fit(x, rng.integers(10, size=len(x)), batch_size=setting["batch"], nb_epochs=repeats + 1)
    return median(record["seconds"] for record in trainer.history[1:])


STRAIGHT: dict[str, tuple[str, Callable[[int], float]]] = {
    "K": ("step of the attack", float),
    "samples": ("sample", float),
    "batch": ("step of the training", lambda batch: math.ceil(BASE["samples"] / batch)),
    "width": ("width squared", lambda width: float(width**2)),
}
"""What time should grow in a straight line with, as a function of the setting."""


def line(values: list[float], unit: str, seconds: list[float]) -> str:
    """Fit seconds = a + b * value, weighted so that each point's relative distance counts; say how far points lie."""
    points, times = np.array(values, dtype=float), np.array(seconds)
    slope, start = np.polyfit(points, times, 1, w=1 / times)
    off = float(np.abs((start + slope * points) / times - 1).max())
    return f"{start:.3g} s + {slope:.3g} s a {unit}; points lie within {100 * off:.0f} % of it"


def main(argv: list[str] | None = None) -> None:
    """Measure, and write growth.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args(argv)
    logging.disable(logging.WARNING)
    text = ["# How the time of an epoch grows\n"]
    for name, values in SETTINGS.items():
        settings: list[dict[str, Any]] = [{**BASE, name: value} for value in values]
        seconds = [epoch_seconds(setting, args.repeats) for setting in settings]
        text += [f"| {name} | seconds an epoch | microseconds a sample |", "|--:|--:|--:|"]
        for setting, taken in zip(settings, seconds, strict=True):
            text.append(f"| {setting[name]} | {taken:.3g} | {1e6 * taken / setting['samples']:.0f} |")
        unit, grows_with = STRAIGHT[name]
        text.append(f"\nStraight line: {line([grows_with(v) for v in values], unit, seconds)}.\n")
        print("\n".join(text), flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "growth.md").write_text("\n".join(text))


if __name__ == "__main__":
    main()
