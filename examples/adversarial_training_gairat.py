"""Train a CIFAR-10 classifier with GAIRAT, in the paper's settings, and attack it.

    python examples/adversarial_training_gairat.py --model resnet18                  # the paper's run, for a GPU
    python examples/adversarial_training_gairat.py --model small_cnn --subset 5000 --epochs 5 --lr 0.01   # a look, CPU
    python examples/adversarial_training_gairat.py --checkpoint runs/resnet18   # after a kill, the same command goes on

Each batch is cropped and flipped on the device before it is attacked. The quick robustness report at the end is an
upper bound; for a model you mean to use, run it with --preset full, which adds AutoAttack.
"""

from __future__ import annotations

import argparse
import logging
import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from art.estimators.classification import PyTorchClassifier
from data import load_cifar10
from models import MODELS
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from art_gair import AdversarialTrainerGAIRAT, Checkpoint, GeometryAwarePGD, TanhWeighting, evaluate_robustness
from art_gair.augmentations import crop_and_flip


@dataclass(frozen=True)
class Settings:
    """The paper's settings of a training on CIFAR-10; the learning rate is multiplied by a factor at each drop."""

    epochs: int = 100
    burn_in: float = 0.3
    drops: tuple[tuple[float, float], ...] = ((0.3, 0.1), (0.6, 0.1))
    """Share of the epochs after which, and factor by which, the learning rate falls."""
    eps: float = 8 / 255
    eps_step: float = 2 / 255


WRN = Settings(120, 0.5, ((60 / 120, 0.1), (90 / 120, 0.1), (110 / 120, 0.5)), eps=0.031, eps_step=0.007)


def number(text: str) -> float:
    """Read 0.031 as well as 8/255."""
    return float(Fraction(text))


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; the defaults are the paper's for the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="resnet18")
    parser.add_argument("--data", type=Path, help=".npz file in the place of ART's download of CIFAR-10")
    parser.add_argument("--subset", type=int, help="train on the first so many images")
    parser.add_argument("--test-subset", type=int, default=1000, help="attack the first so many test images")
    parser.add_argument("--epochs", type=int, help="100; for the WRN 120")
    parser.add_argument("--burn-in", type=int, help="epochs without weights; 30 %% of the epochs, for the WRN half")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=0.1, help="before it drops, in the paper's shares of the epochs")
    parser.add_argument("--weight-decay", type=float, default=2e-4, help="the paper's for the WRN, taken for all")
    parser.add_argument("--lam", type=float, default=-1.0, help="of the tanh weighting; inf is adversarial training")
    parser.add_argument("--eps", type=number, help="radius of the attack, inputs in [0, 1]: 8/255; for the WRN 0.031")
    parser.add_argument("--eps-step", type=number, help="2/255; for the WRN 0.007")
    parser.add_argument("--max-iter", type=int, default=10, help="K, steps of the training attack")
    parser.add_argument("--device", choices=["cpu", "gpu"], default="gpu", help="gpu falls back to the CPU, as in ART")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path, help="folder to save the training in, and to go on from")
    parser.add_argument("--preset", choices=["quick", "standard", "full"], default="quick", help="of the report")
    parser.add_argument("--save", type=Path, help="write the trained weights to this file")
    args = parser.parse_args(argv)
    args.settings = WRN if args.model.startswith("wrn") else Settings()
    for name in ("epochs", "burn_in", "eps", "eps_step"):
        if getattr(args, name) is None:
            setattr(args, name, getattr(args.settings, name))
    return args


def lr_schedule(optimizer: torch.optim.Optimizer, settings: Settings, epochs: int) -> LambdaLR:
    """Let the learning rate fall at the paper's shares of the epochs."""
    return LambdaLR(optimizer, lambda epoch: math.prod(f for share, f in settings.drops if epoch >= share * epochs))


def main(argv: list[str] | None = None) -> None:
    """Train, attack, print the report."""
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
    plugins = [] if args.checkpoint is None else [Checkpoint(args.checkpoint, every_minutes=10)]
    weighting = TanhWeighting(args.lam)
    trainer = AdversarialTrainerGAIRAT(classifier, attack, weighting, burn_in=args.burn_in, plugins=plugins)
    trainer.fit(
        x_train,
        y_train,
        batch_size=args.batch_size,
        nb_epochs=args.epochs,
        scheduler=lr_schedule(optimizer, args.settings, args.epochs),
        augment=crop_and_flip(),
        seed=args.seed,
        resume=bool(plugins),
    )

    n = args.test_subset
    print("kappa histogram of the last epoch:", trainer.history[-1]["kappa_histogram"])
    print(f"trained in {sum(record['seconds'] for record in trainer.history):.1f} s", flush=True)
    settings = {"preset": args.preset, "seed": args.seed}
    print(evaluate_robustness(classifier, x_test[:n], y_test[:n], args.eps, **settings).table())
    if args.save is not None:
        torch.save(classifier.model.state_dict(), args.save)


if __name__ == "__main__":
    main()
