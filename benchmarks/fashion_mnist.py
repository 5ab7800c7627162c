"""Does the report see that GAIRAT hides gradients? AT and GAIRAT on 10,000 images of Fashion-MNIST, eps 0.1.

    python benchmarks/fashion_mnist.py FOLDER [--epochs 15] [--samples 400] [--preset quick] [--seed 0]
                                       [--out benchmarks/results]

FOLDER holds the four files of Fashion-MNIST, train-images-idx3-ubyte.gz and so on, as Debian's package
dataset-fashion-mnist installs them in /usr/share/datasets/fashion-mnist.
"""

from __future__ import annotations

import argparse
import gzip
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from numpy.typing import NDArray
from torch import nn

from art_gair import AdversarialTrainerGAIRAT, GeometryAwarePGD, UniformWeighting, evaluate_robustness
from art_gair.evaluation import compare

EPS = 0.1
TRAIN = 10_000


def images_and_labels(folder: Path, part: str, n: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the first n images (n, 1, 28, 28), float32 in 0..1, and their labels int64 (n,); part: train or t10k."""
    with gzip.open(folder / f"{part}-images-idx3-ubyte.gz") as file:
        x = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)[:n]
    with gzip.open(folder / f"{part}-labels-idx1-ubyte.gz") as file:
        y = np.frombuffer(file.read(), np.uint8, offset=8)[:n]
    return x / np.float32(255), y.astype(np.int64)


def network(seed: int) -> PyTorchClassifier:
    """Return an untrained classifier: two strided convolutions with BatchNorm, two linear layers."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        *(nn.Conv2d(1, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(64 * 49, 128), nn.ReLU(), nn.Linear(128, 10)),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return PyTorchClassifier(model, nn.CrossEntropyLoss(), (1, 28, 28), 10, optimizer, clip_values=(0.0, 1.0))


def main(argv: list[str] | None = None) -> None:
    """Train both, report on both, and write fashion_mnist.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--samples", type=int, default=400, help="test images to attack")
    parser.add_argument("--preset", choices=["quick", "standard", "full"], default="quick")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    x_train, y_train = images_and_labels(args.folder, "train", TRAIN)
    x_test, y_test = images_and_labels(args.folder, "t10k", args.samples)
    reports = {}
    for method, weighting in {"AT": UniformWeighting(), "GAIRAT": None}.items():
        classifier = network(args.seed)
        attack = GeometryAwarePGD(classifier, eps=EPS, eps_step=EPS / 4)
        AdversarialTrainerGAIRAT(classifier, attack, weighting).fit(x_train, y_train, nb_epochs=args.epochs)
        reports[method] = evaluate_robustness(classifier, x_test, y_test, EPS, preset=args.preset, seed=args.seed)
        print(f"\n{method}\n{reports[method].table()}\n", flush=True)
    tables = "\n\n".join(f"## {method}\n\n```\n{report.table()}\n```" for method, report in reports.items())
    head = f"# Fashion-MNIST\n\n{TRAIN} images, {args.epochs} epochs, seed {args.seed}, "
    head += f"{torch.get_num_threads()} threads.\n\n```\n{compare(list(reports.values()), list(reports))}\n```\n\n"
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "fashion_mnist.md").write_text(head + tables + "\n")


if __name__ == "__main__":
    main()
