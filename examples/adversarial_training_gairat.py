"""Train a CIFAR-10 classifier with GAIRAT, in the paper's settings, and attack it.

    python examples/adversarial_training_gairat.py --model resnet18                  # the paper's run, for a GPU
    python examples/adversarial_training_gairat.py --model small_cnn --subset 5000 --epochs 5 --lr 0.01   # a look, CPU

Crop + flip augmentation is done on tensors, batch by batch, and fed to `fit_generator`. Both attacks at the end are
PGD-20; for the robustness of a model you mean to use, run AutoAttack as well.
"""

from __future__ import annotations

import argparse
import logging
import time
from fractions import Fraction
from pathlib import Path

import torch
from art.estimators.classification import PyTorchClassifier
from data import AugmentedBatches, load_cifar10
from evaluation import accuracies, table
from models import MODELS
from torch import nn

from art_gair import AdversarialTrainerGAIRAT, GeometryAwarePGD, TanhWeighting


def number(text: str) -> float:
    """Read 0.031 as well as 8/255."""
    return float(Fraction(text))


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; the defaults are the paper's for ResNet-18."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="resnet18")
    parser.add_argument("--data", type=Path, help=".npz file in the place of ART's download of CIFAR-10")
    parser.add_argument("--subset", type=int, help="train on the first so many images")
    parser.add_argument("--test-subset", type=int, default=1000, help="attack the first so many test images")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--burn-in", type=int, help="epochs without weights; 30 %% of the epochs if not given")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=0.1, help="divided by 10 after 30 %% and 60 %% of the epochs")
    parser.add_argument("--weight-decay", type=float, default=2e-4)
    parser.add_argument("--lam", type=float, default=-1.0, help="of the tanh weighting; inf is adversarial training")
    parser.add_argument("--eps", type=number, default="8/255", help="radius of the attack, inputs in [0, 1]")
    parser.add_argument("--eps-step", type=number, default="2/255")
    parser.add_argument("--max-iter", type=int, default=10, help="K, steps of the training attack")
    parser.add_argument("--device", choices=["cpu", "gpu"], default="gpu", help="gpu falls back to the CPU, as in ART")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, help="write the trained weights to this file")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Train, attack, print a table."""
    args = arguments(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.manual_seed(args.seed)
    x_train, y_train, x_test, y_test = load_cifar10(args.data, args.subset)
    print(f"{args.model}: {len(x_train)} training images, {args.epochs} epochs, seed {args.seed}", flush=True)

    model = MODELS[args.model]()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=args.weight_decay)
    classifier = PyTorchClassifier(
        model,
        nn.CrossEntropyLoss(),
        input_shape=(3, 32, 32),
        nb_classes=10,
        optimizer=optimizer,
        clip_values=(0.0, 1.0),
        device_type=args.device,
    )
    attack = GeometryAwarePGD(classifier, eps=args.eps, eps_step=args.eps_step, max_iter=args.max_iter)
    trainer = AdversarialTrainerGAIRAT(classifier, attack, TanhWeighting(args.lam), burn_in=args.burn_in)
    drops = [round(0.3 * args.epochs), round(0.6 * args.epochs)]
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, drops)

    began = time.perf_counter()
    trainer.fit_generator(
        AugmentedBatches(x_train, y_train, args.batch_size), nb_epochs=args.epochs, scheduler=scheduler
    )
    seconds = time.perf_counter() - began

    n = args.test_subset
    print("kappa histogram of the last epoch:", trainer.history[-1]["kappa_histogram"])
    print(table({"GAIRAT": accuracies(classifier, x_test[:n], y_test[:n], args.eps)}, {"GAIRAT": seconds}))
    if args.save is not None:
        torch.save(classifier.model.state_dict(), args.save)


if __name__ == "__main__":
    main()
