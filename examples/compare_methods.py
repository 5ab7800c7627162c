"""Every method of the package on scikit-learn's digits, side by side: a table and a figure.

    python examples/compare_methods.py [--methods at gairat trades] [--epochs 20] [--seed 0] [--out runs/methods.png]

Each line is a recipe, the paper's settings with the radius of the attack set to the digits'. Both attacks are PGD-20,
on the cross entropy and on the margin; a gap between them is a sign of masked gradients, and the worse one counts.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import matplotlib
import numpy as np
from digits import EPS, digits, small_cnn
from evaluation import COLUMNS, accuracies, table
from matplotlib.figure import Figure

from art_gair import recipes

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
}


def draw(results: dict[str, list[float]], n: int) -> Figure:
    """Draw one group of bars a method, with 95 % intervals for a share of n samples (normal approximation)."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(results))
    for i, (name, color) in enumerate(zip(COLUMNS, ("#b8c4d6", "#3b6ea8", "#c4572e"), strict=True)):
        share = np.array([accuracy[i] for accuracy in results.values()])
        error = 196 * np.sqrt(share * (1 - share) / n)
        axes.bar(places + 0.27 * (i - 1), 100 * share, 0.27, yerr=error, label=name, color=color, capsize=2)
    axes.set(xticks=places, ylabel="accuracy, %", ylim=(0, 105), title=f"Digits, eps {EPS}, {n} test samples")
    axes.set_xticklabels(results, rotation=20)
    axes.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.18), frameon=False)
    return figure


def main(argv: list[str] | None = None) -> None:
    """Train each method, print the table, save the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/methods.png"))
    args = parser.parse_args(argv)
    matplotlib.use("agg")
    x_train, x_test, y_train, y_test = digits(args.seed)
    results: dict[str, list[float]] = {}
    seconds: dict[str, float] = {}
    for method in args.methods:
        classifier = small_cnn(args.seed)
        trainer = METHODS[method](classifier)
        trainer.attack.set_params(eps=EPS, eps_step=EPS / 4)
        began = time.perf_counter()
        trainer.fit(x_train, y_train, batch_size=64, nb_epochs=args.epochs)
        seconds[method] = time.perf_counter() - began
        results[method] = accuracies(classifier, x_test, y_test, EPS)
    print("\n" + table(results, seconds))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    draw(results, len(x_test)).savefig(args.out, dpi=130)
    print(f"figure: {args.out}")


if __name__ == "__main__":
    main()
