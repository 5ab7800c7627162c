"""Is it really robust? AT and GAIRAT side by side in the robustness report, on scikit-learn's digits.

    python examples/robustness_report.py [--preset quick] [--epochs 20] [--seed 0] [--out robustness]

Writes a page for each method, out/AT/report.html and out/GAIRAT/report.html, and prints the comparison.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from digits import EPS, digits, small_cnn

from art_gair import AdversarialTrainerGAIRAT, GeometryAwarePGD, UniformWeighting, evaluate_robustness
from art_gair.evaluation import compare


def main(argv: list[str] | None = None) -> None:
    """Train both, evaluate both, and set them side by side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=["quick", "standard", "full"], default="quick")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--samples", type=int, default=450, help="test digits to attack")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("robustness"))
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    x_train, x_test, y_train, y_test = digits(args.seed)
    x_test, y_test = x_test[: args.samples], y_test[: args.samples]
    reports = {}
    for method, weighting in {"AT": UniformWeighting(), "GAIRAT": None}.items():
        classifier = small_cnn(args.seed)
        attack = GeometryAwarePGD(classifier, eps=EPS, eps_step=EPS / 4)
        AdversarialTrainerGAIRAT(classifier, attack, weighting).fit(x_train, y_train, nb_epochs=args.epochs)
        report = evaluate_robustness(classifier, x_test, y_test, EPS, preset=args.preset, seed=args.seed)
        report.save(args.out / method)
        print(f"\n{method}\n{report.table()}\n")
        reports[method] = report
    print(compare(list(reports.values()), list(reports)))


if __name__ == "__main__":
    main()
