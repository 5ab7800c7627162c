"""A long training in small, on scikit-learn's digits: saved, watched, averaged, and stopped when it no longer improves.

    python examples/adversarial_training_long_run.py [--epochs 40] [--patience 8] [--seed 0] [--out runs/long_run]

The first 12 epochs have no weights; robust accuracy may fall after them, so --patience should outlast that.
Stop it by Ctrl-C, or kill it: the same command goes on from where it stood. Watch it by
`tensorboard --logdir runs/long_run`, or read runs/long_run/epochs.csv. A folder of another name begins anew.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from digits import EPS, digits, small_cnn

from art_gair import (
    EMA,
    AdversarialTrainerGAIRAT,
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    GeometryAwarePGD,
    TensorBoard,
    evaluate_robustness,
)
from art_gair.augmentations import crop

BURN_IN = 12
"""First epochs, without weights. A function of the epoch, unlike a share, stays what it is when --epochs changes."""

HELD_OUT = 300
"""Training digits set aside for validation: the best epoch must not be chosen on test data."""


def main(argv: list[str] | None = None) -> None:
    """Train, and report on the best epoch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--patience", type=int, default=8, help="validated epochs to wait for a better one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/long_run"))
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    x_train, x_test, y_train, y_test = digits(args.seed)
    classifier = small_cnn(args.seed)
    attack = GeometryAwarePGD(classifier, eps=EPS, eps_step=EPS / 4)
    plugins = [
        Checkpoint(args.out / "saves", every=2, every_minutes=5),
        EMA(0.99, validate="both"),  # each epoch is judged by the better one, the average or the model itself
        TensorBoard(args.out / "tensorboard"),
        CSVLogger(args.out / "epochs.csv"),
        EarlyStopping(args.patience),
    ]
    trainer = AdversarialTrainerGAIRAT(classifier, attack, burn_in=lambda epoch: epoch < BURN_IN, plugins=plugins)
    trainer.fit(
        x_train[HELD_OUT:],
        y_train[HELD_OUT:],
        validation_data=(x_train[:HELD_OUT], y_train[:HELD_OUT]),
        validation_attack=[attack, attack.with_loss("margin")],  # GAIRAT looks too good under the first alone
        validate_on=200,
        keep_best=True,
        batch_size=64,
        nb_epochs=args.epochs,
        augment=crop(),
        seed=args.seed,
        resume=True,
    )
    record = trainer.history[trainer.best_epoch or 0]
    print(f"{len(trainer.history)} epochs. Best: epoch {record['epoch']}, the {record['validated_model']} model.")
    print(evaluate_robustness(classifier, x_test, y_test, EPS, seed=args.seed, verbose=False).table())


if __name__ == "__main__":
    main()
