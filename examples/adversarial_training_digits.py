"""GAIRAT on scikit-learn's digits beside plain and adversarial training: a table and figures in about a minute.

    python examples/adversarial_training_digits.py [--epochs 20] [--seed 0] [--out runs/digits]

Needs no download. `make demo` runs this file.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from digits import EPS, digits, small_cnn
from numpy.typing import NDArray

from art_gair import (
    AdversarialTrainerGAIRAT,
    DiscreteWeighting,
    GeometryAwarePGD,
    SigmoidWeighting,
    TanhWeighting,
    UniformWeighting,
    evaluate_robustness,
    plots,
)
from art_gair.evaluation import compare

WEIGHTINGS = {
    "tanh, lam = -1": TanhWeighting(-1.0),
    "sigmoid, lam = -1": SigmoidWeighting(-1.0),
    "discrete": DiscreteWeighting(),
    "uniform: plain AT": UniformWeighting(),
}


def make_trainer(classifier: PyTorchClassifier, weighting: Any) -> AdversarialTrainerGAIRAT:
    """Return a trainer that attacks with 10 steps of eps / 4."""
    return AdversarialTrainerGAIRAT(classifier, GeometryAwarePGD(classifier, eps=EPS, eps_step=EPS / 4), weighting)


def draw_examples(attack: GeometryAwarePGD, x: NDArray[Any], y: NDArray[Any]) -> Any:
    """Draw a digit for each kappa that occurs, and its adversarial example."""
    torch.manual_seed(0)
    x_adv, kappa = attack.generate_with_kappa(x, y)
    predictions = attack.estimator.predict(x_adv).argmax(axis=1)
    rows = [int(np.flatnonzero(kappa == k)[0]) for k in np.unique(kappa)]
    return plots.examples_by_kappa(x[rows], x_adv[rows], y[rows], predictions[rows], kappa[rows])


def main(argv: list[str] | None = None) -> None:
    """Train three classifiers, print how they stand up to attacks, save the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/digits"))
    args = parser.parse_args(argv)
    x_train, x_test, y_train, y_test = digits(args.seed)
    print(f"digits: {len(x_train)} to train, {len(x_test)} to test, eps {EPS}, {args.epochs} epochs, seed {args.seed}")

    reports = {}
    for method, weighting in {"plain": None, "AT": UniformWeighting(), "GAIRAT": TanhWeighting(-1.0)}.items():
        classifier = small_cnn(args.seed)
        began = time.perf_counter()
        if weighting is None:
            classifier.fit(x_train, y_train, batch_size=64, nb_epochs=args.epochs)
        else:
            trainer = make_trainer(classifier, weighting)
            trainer.fit(x_train, y_train, batch_size=64, nb_epochs=args.epochs)
        print(f"{method}: trained in {time.perf_counter() - began:.1f} s", flush=True)
        reports[method] = evaluate_robustness(classifier, x_test, y_test, EPS, seed=args.seed, verbose=False)

    print("\n" + compare(list(reports.values()), list(reports)))
    print("\nThe worst case counts. It is an upper bound: AutoAttack (preset='full') may break more.")
    figures = {
        "methods": plots.comparison_bars(list(reports.values()), list(reports)),
        "kappa": plots.kappa_heatmap(trainer.history),
        "weights": plots.weight_functions(WEIGHTINGS),
        "examples": draw_examples(trainer.attack, x_test, y_test),
    }
    args.out.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(args.out / f"{name}.png", dpi=130)
    print(f"figures: {', '.join(f'{name}.png' for name in figures)} in {args.out}")


if __name__ == "__main__":
    main()
