"""GAIRAT on one process or on many, by the same script: on scikit-learn's digits, saved, and reported on.

    python examples/adversarial_training_distributed.py
    torchrun --nproc-per-node 2 --max-restarts 3 examples/adversarial_training_distributed.py [--epochs 20]

Nothing here knows of processes but the last lines, which one of them writes. `--batch-size` is that of all processes
together. Kill one: torchrun starts all again, and they go on from the last save.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from digits import EPS, digits, small_cnn

from art_gair import AdversarialTrainerGAIRAT, Checkpoint, GeometryAwarePGD, evaluate_robustness
from art_gair.distributed import is_first

BURN_IN = 6
"""First epochs, without weights. A function of the epoch, unlike a share, stays what it is when --epochs changes."""


def main(argv: list[str] | None = None) -> None:
    """Train, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/distributed"))
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    x_train, x_test, y_train, y_test = digits(args.seed)
    classifier = small_cnn(args.seed)  # the seed makes it the same model on each process
    attack = GeometryAwarePGD(classifier, eps=EPS, eps_step=EPS / 4)
    plugins = [Checkpoint(args.out / "saves")]
    trainer = AdversarialTrainerGAIRAT(classifier, attack, burn_in=lambda epoch: epoch < BURN_IN, plugins=plugins)
    trainer.fit(
        x_train,
        y_train,
        validation_data=(x_test, y_test),
        validation_attack=[attack, attack.with_loss("margin")],
        batch_size=args.batch_size,
        nb_epochs=args.epochs,
        seed=args.seed,
        resume=True,
    )
    report = evaluate_robustness(classifier, x_test, y_test, EPS, seed=args.seed)
    if is_first():
        report.save(args.out / "report")
        print(report.table())


if __name__ == "__main__":
    main()
