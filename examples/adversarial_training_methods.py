"""Every method of the package on scikit-learn's digits, side by side: a table and a figure.

    python examples/adversarial_training_methods.py [--methods at gairat trades] [--epochs 20] [--seed 0]

Each column is a recipe: the paper's settings at the digits' radius, and `robust`, which takes a third of AT's passes in
as many epochs. The worst case of the
report's attacks counts; flags say where even that may be too high.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from digits import EPS, digits, small_cnn

from art_gair import evaluate_robustness, plots, recipes
from art_gair.evaluation import compare

METHODS = {
    "at": recipes.at,
    "gairat": recipes.gairat,
    "fat": recipes.fat,
    "gair_fat": recipes.gair_fat,
    "trades": recipes.trades,
    "gair_trades": recipes.gair_trades,
    "mart": recipes.mart,
    "gair_mart": recipes.gair_mart,
    "mail_at": recipes.mail_at,
    "mail_trades": recipes.mail_trades,
    "robust": recipes.robust,
}


def main(argv: list[str] | None = None) -> None:
    """Train each method, print the table, save the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/methods.png"))
    args = parser.parse_args(argv)
    x_train, x_test, y_train, y_test = digits(args.seed)
    reports = {}
    for method in args.methods:
        classifier = small_cnn(args.seed)
        trainer = METHODS[method](classifier, eps=EPS)
        began = time.perf_counter()
        trainer.fit(x_train, y_train, batch_size=64, nb_epochs=args.epochs)
        print(f"{method}: trained in {time.perf_counter() - began:.1f} s", flush=True)
        reports[method] = evaluate_robustness(classifier, x_test, y_test, EPS, seed=args.seed, verbose=False)
    print("\n" + compare(list(reports.values()), list(reports)))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    plots.comparison_bars(list(reports.values()), list(reports)).savefig(args.out, dpi=130)
    print(f"figure: {args.out}")


if __name__ == "__main__":
    main()
