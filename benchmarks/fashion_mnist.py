"""Does the report see that GAIRAT hides gradients? AT and GAIRAT on 10,000 images of Fashion-MNIST, eps 0.1.

    python benchmarks/fashion_mnist.py FOLDER [--epochs 15] [--samples 400] [--preset quick] [--seed 0]
                                       [--out benchmarks/results]

FOLDER holds the four files of Fashion-MNIST, train-images-idx3-ubyte.gz and so on, as Debian's package
dataset-fashion-mnist installs them in /usr/share/datasets/fashion-mnist.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch
from real_data import DATA_SETS

from art_gair import AdversarialTrainerGAIRAT, GeometryAwarePGD, UniformWeighting, evaluate_robustness
from art_gair.evaluation import compare

DATA = DATA_SETS["fashion"]
TRAIN = 10_000


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
    x_train, y_train = DATA.load(args.folder, "train", TRAIN)
    x_test, y_test = DATA.load(args.folder, "test", args.samples)
    reports = {}
    for method, weighting in {"AT": UniformWeighting(), "GAIRAT": None}.items():
        classifier = DATA.classifier(args.seed)
        attack = GeometryAwarePGD(classifier, eps=DATA.eps, eps_step=DATA.eps / 4)
        AdversarialTrainerGAIRAT(classifier, attack, weighting).fit(x_train, y_train, nb_epochs=args.epochs)
        reports[method] = evaluate_robustness(classifier, x_test, y_test, DATA.eps, preset=args.preset, seed=args.seed)
        print(f"\n{method}\n{reports[method].table()}\n", flush=True)
    tables = "\n\n".join(f"## {method}\n\n```\n{report.table()}\n```" for method, report in reports.items())
    head = f"# Fashion-MNIST\n\n{TRAIN} images, {args.epochs} epochs, seed {args.seed}, "
    head += f"{torch.get_num_threads()} threads.\n\n```\n{compare(list(reports.values()), list(reports))}\n```\n\n"
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "fashion_mnist.md").write_text(head + tables + "\n")


if __name__ == "__main__":
    main()
