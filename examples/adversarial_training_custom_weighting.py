"""A weighting of your own in ten lines: any function of this signature is one.

    python examples/adversarial_training_custom_weighting.py [--epochs 10] [--seed 0]

This one gives the samples that the attack fooled twice the weight of the others, whatever their kappa.
"""

from __future__ import annotations

import argparse

import torch
from digits import EPS, digits, small_cnn
from torch import Tensor

from art_gair import AdversarialTrainerGAIRAT, GeometryAwarePGD, evaluate_robustness


def double_the_fooled(*, kappa: Tensor, max_iter: int, logits: Tensor, labels: Tensor, epoch: int) -> Tensor:
    """Weigh a batch: (n,), >= 0, mean 1."""
    weights = torch.where(logits.argmax(dim=1) != labels, 2.0, 1.0)
    return weights / weights.mean()


def main(argv: list[str] | None = None) -> None:
    """Train with it, and report how the result stands up to attacks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    x_train, x_test, y_train, y_test = digits(args.seed)
    classifier = small_cnn(args.seed)
    attack = GeometryAwarePGD(classifier, eps=EPS, eps_step=EPS / 4)
    trainer = AdversarialTrainerGAIRAT(classifier, attack, double_the_fooled)
    trainer.fit(x_train, y_train, batch_size=64, nb_epochs=args.epochs)
    report = evaluate_robustness(classifier, x_test, y_test, EPS, seed=args.seed, verbose=False)
    print(f"\ndouble_the_fooled\n{report.table()}")


if __name__ == "__main__":
    main()
