"""GAIR-RST on scikit-learn's digits: few labels, many samples without.

    python examples/adversarial_training_semi_supervised.py [--labelled 200] [--epochs 40] [--seed 0]

A plain classifier learns from the labelled digits and labels the others; GAIR-RST then trains on both, half and half in
each batch. Beside it GAIR-TRADES on the labelled digits alone, for as many steps.
"""

from __future__ import annotations

import argparse

from digits import EPS, digits, small_cnn

from art_gair import evaluate_robustness, recipes
from art_gair.evaluation import compare
from art_gair.training.semi_supervised import SemiSupervisedBatches, pseudo_label


def main(argv: list[str] | None = None) -> None:
    """Label, train, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labelled", type=int, default=200)
    parser.add_argument("--threshold", type=float, default=0.9, help="least confidence of a pseudo-label")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    x_train, x_test, y_train, y_test = digits(args.seed)
    n = args.labelled
    x, y, x_more, truth = x_train[:n], y_train[:n], x_train[n:], y_train[n:]
    teacher = small_cnn(args.seed)
    teacher.fit(x, y, batch_size=64, nb_epochs=args.epochs)
    labels = pseudo_label(teacher, x_more, args.threshold)
    sure = labels >= 0
    if not sure.any():
        parser.error(f"no label is as sure as --threshold {args.threshold}; lower it, or raise --epochs {args.epochs}.")
    right = (labels == truth)[sure].mean()
    print(f"{len(x)} labelled digits; {sure.sum()} of {len(labels)} others labelled by the model, {right:.1%} rightly")

    reports = {}
    for method, make in {"GAIR-TRADES": recipes.gair_trades, "GAIR-RST": recipes.gair_rst}.items():
        classifier = small_cnn(args.seed)
        trainer = make(classifier)
        trainer.attack.set_params(eps=EPS, eps_step=EPS / 4)
        if method == "GAIR-RST":
            batches = SemiSupervisedBatches(x, y, x_more[sure], labels[sure], batch_size=64, share=0.5)
            trainer.fit_generator(batches, nb_epochs=args.epochs)
        else:
            trainer.fit(x, y, batch_size=32, nb_epochs=args.epochs)
        reports[method] = evaluate_robustness(classifier, x_test, y_test, EPS, seed=args.seed, verbose=False)
    print("\n" + compare(list(reports.values()), list(reports)))


if __name__ == "__main__":
    main()
