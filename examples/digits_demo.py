"""GAIRAT on scikit-learn's digits beside plain and adversarial training: a table and a figure in about a minute.

    python examples/digits_demo.py [--epochs 20] [--seed 0] [--out runs/digits_demo.png]

Needs no download. `make demo` runs this file.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from digits import EPS, digits, small_cnn
from evaluation import accuracies, table
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from art_gair import (
    AdversarialTrainerGAIRAT,
    DiscreteWeighting,
    GeometryAwarePGD,
    SigmoidWeighting,
    TanhWeighting,
    UniformWeighting,
)


def trainer_of(classifier: PyTorchClassifier, weighting: Any) -> AdversarialTrainerGAIRAT:
    """Return a trainer that attacks with 10 steps of eps / 4."""
    return AdversarialTrainerGAIRAT(classifier, GeometryAwarePGD(classifier, eps=EPS, eps_step=EPS / 4), weighting)


def draw(trainer: AdversarialTrainerGAIRAT, x: NDArray[Any], y: NDArray[Any]) -> Figure:
    """Draw kappa over the epochs, the weight functions, and digits with their adversarial twins."""
    figure = Figure(figsize=(10, 6.6), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[1.15, 1])
    left, right = top.subplots(1, 2)
    _draw_histogram(left, trainer)
    _draw_weights(right, trainer.attack.max_iter)
    _draw_twins(bottom, trainer.attack, x, y)
    return figure


def _draw_histogram(axes: Any, trainer: AdversarialTrainerGAIRAT) -> None:
    counts = np.array([record["kappa_histogram"] for record in trainer.history]).T
    image = axes.imshow(100 * counts / counts.sum(axis=0), origin="lower", aspect="auto", norm="log", cmap="viridis")
    weighted_from = sum(record["burn_in"] for record in trainer.history)
    axes.axvline(weighted_from - 0.5, color="white", linestyle="--", linewidth=1)
    axes.text(weighted_from - 0.3, 0.2, "weights from here", color="white", fontsize=8, rotation=90)
    axes.set(xlabel="epoch", ylabel="kappa", title="GAIRAT: how many looks the training digits survive")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.figure.colorbar(image, ax=axes, label="% of samples", format="%g")


def _draw_weights(axes: Any, max_iter: int) -> None:
    kappa = torch.arange(max_iter + 1)
    for scheme, name, style in (
        (TanhWeighting(-1.0), "tanh, lam = -1", "o-"),
        (SigmoidWeighting(-1.0), "sigmoid, lam = -1", "s-"),
        (DiscreteWeighting(), "discrete", "^-"),
        (UniformWeighting(), "uniform: plain AT", "k--"),
    ):
        axes.plot(kappa, scheme(kappa=kappa, max_iter=max_iter), style, markersize=4, label=name)
    axes.set(xlabel="kappa", ylabel="weight", title="What each scheme gives a sample (mean 1)")
    axes.legend(frameon=False)


def _draw_twins(figure: SubFigure, attack: GeometryAwarePGD, x: NDArray[Any], y: NDArray[Any]) -> None:
    """Show digits from the smallest kappa to the largest."""
    torch.manual_seed(0)
    x_adv, kappa = attack.generate_with_kappa(x, y)
    predicted = attack.estimator.predict(x_adv).argmax(axis=1)
    order = np.argsort(kappa, kind="stable")
    shown = [int(order[np.searchsorted(kappa[order], k)]) for k in np.unique(kappa)]
    figure.suptitle("Test digits (above) and their adversarial twins (below), from the boundary, kappa 0, to safety")
    for column, i in enumerate(shown):
        for row, (picture, title) in enumerate(
            ((x[i], f"{y[i]}, kappa {kappa[i]}"), (x_adv[i], f"seen as {predicted[i]}"))
        ):
            axes = figure.add_subplot(2, len(shown), row * len(shown) + column + 1)
            axes.imshow(picture[0], cmap="gray", vmin=0, vmax=1)
            axes.set_title(title, fontsize=9, color="tab:red" if row and predicted[i] != y[i] else "black")
            axes.set_axis_off()


def main(argv: list[str] | None = None) -> None:
    """Train three classifiers, print their accuracies, save the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/digits_demo.png"))
    args = parser.parse_args(argv)
    matplotlib.use("agg")
    x_train, x_test, y_train, y_test = digits(args.seed)
    print(f"digits: {len(x_train)} to train, {len(x_test)} to test, eps {EPS}, {args.epochs} epochs, seed {args.seed}")

    results: dict[str, list[float]] = {}
    seconds: dict[str, float] = {}
    for method, weighting in {"plain": None, "AT": UniformWeighting(), "GAIRAT": TanhWeighting(-1.0)}.items():
        classifier = small_cnn(args.seed)
        began = time.perf_counter()
        if weighting is None:
            classifier.fit(x_train, y_train, batch_size=64, nb_epochs=args.epochs)
        else:
            trainer = trainer_of(classifier, weighting)
            trainer.fit(x_train, y_train, batch_size=64, nb_epochs=args.epochs)
        seconds[method] = time.perf_counter() - began
        results[method] = accuracies(classifier, x_test, y_test, EPS)

    print("\n" + table(results, seconds))
    print(
        "\nAccuracy in %; * marks the worse of two attacks that are both weaker than AutoAttack: an upper bound only."
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    draw(trainer, x_test, y_test).savefig(args.out, dpi=130)
    print(f"figure: {args.out}")


if __name__ == "__main__":
    main()
