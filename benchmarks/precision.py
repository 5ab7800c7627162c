"""Does bf16 cost accuracy? The same training in fp32 and in bf16, both evaluated in fp32, seed by seed.

    python benchmarks/precision.py [--data cifar10-exact-subset.npz] [--model thin_cnn] [--seeds 0 1 2] [--epochs 20]

Without --data on scikit-learn's digits. Worst case: a sample counts only if it withstands PGD-20 on the cross entropy
and on the margin. On a CPU without instructions for bf16 the arithmetic is the same, computed slowly.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from real_data import classifier_of, thin_cnn

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from data import load_cifar10
from digits import EPS, digits, small_cnn
from models import MODELS

from art_gair import AdversarialTrainerGAIRAT, GeometryAwarePGD


def cifar_classifier(model: str, seed: int) -> PyTorchClassifier:
    """Return an untrained classifier for CIFAR-10."""
    torch.manual_seed(seed)
    return classifier_of(thin_cnn() if model == "thin_cnn" else MODELS[model](), (3, 32, 32))


def accuracies(classifier: PyTorchClassifier, x: Any, y: Any, eps: float) -> tuple[float, float]:
    """Return clean and worst-case accuracy, in percent."""
    clean = classifier.predict(x).argmax(axis=1) == y
    standing = clean.copy()
    for loss in ("ce", "margin"):
        x_adv = GeometryAwarePGD(classifier, eps=eps, eps_step=eps / 4, max_iter=20, loss=loss).generate(x, y)
        standing &= classifier.predict(x_adv).argmax(axis=1) == y
    return 100 * float(clean.mean()), 100 * float(standing.mean())


def main(argv: list[str] | None = None) -> None:
    """Train in both precisions for each seed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="arrays of CIFAR-10; None is the digits")
    parser.add_argument("--model", choices=["thin_cnn", *MODELS], default="thin_cnn", help="with --data")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=20)
    args = parser.parse_args(argv)
    eps, results = (EPS, {}) if args.data is None else (8 / 255, {})
    for seed in args.seeds:
        if args.data is None:
            x, x_test, y, y_test = digits(seed)
        else:
            x, y, x_test, y_test = load_cifar10(args.data, None)
        for precision in ("fp32", "bf16"):
            classifier = small_cnn(seed) if args.data is None else cifar_classifier(args.model, seed)
            attack = GeometryAwarePGD(classifier, eps=eps, eps_step=eps / 4)
            trainer = AdversarialTrainerGAIRAT(classifier, attack, precision=precision)
            torch.manual_seed(seed)
            began = time.perf_counter()
            trainer.fit(x, y, nb_epochs=args.epochs)
            results[precision, seed] = accuracies(classifier, x_test, y_test, eps)
            taken = time.perf_counter() - began
            print(precision, seed, *(f"{a:.1f}" for a in results[precision, seed]), f"{taken:.0f} s", flush=True)
    print("\n|  | fp32 | bf16 | bf16 - fp32, each seed |\n|---|--:|--:|--:|")
    for i, name in enumerate(("clean", "worst case")):
        columns = {p: [results[p, seed][i] for seed in args.seeds] for p in ("fp32", "bf16")}
        spread = {p: f"{np.mean(c):.1f} ± {statistics.stdev(c) if len(c) > 1 else 0:.1f}" for p, c in columns.items()}
        apart = ", ".join(f"{b - a:+.1f}" for a, b in zip(*columns.values(), strict=True))
        print(f"| {name}, % | {spread['fp32']} | {spread['bf16']} | {apart} |")


if __name__ == "__main__":
    main()
