"""The report's attacks beside ART's own on the same adversarially trained digits model: accuracy and time.

    python benchmarks/report_attacks.py [--samples 200] [--autoattack 30] [--repeats 5] [--out benchmarks/results]

Pairs alternate in one process; times are medians of --repeats, of one for AutoAttack, which ART has written itself and
which needs `pip install multiprocess`.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from art.attacks.evasion import AutoAttack, ProjectedGradientDescentPyTorch

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from digits import EPS, digits, small_cnn

from art_gair import AdversarialTrainerGAIRAT, GeometryAwarePGD, UniformWeighting
from art_gair.engine.fast import FastClassifier
from art_gair.evaluation.autoattack import run_autoattack
from art_gair.evaluation.threat import Threat
from art_gair.report.statistics import interval


def measured(calls: dict[str, Callable[[], Any]], right: Callable[[Any], int], n: int, repeats: int) -> list[str]:
    """A line of the table for each attack."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    counts: dict[str, int] = {}
    for i in range(repeats):
        for name in list(calls) if i % 2 else list(calls)[::-1]:
            began = time.perf_counter()
            x_adv = calls[name]()
            seconds[name].append(time.perf_counter() - began)
            counts[name] = right(x_adv)
    bounds = {name: interval(k, n) for name, k in counts.items()}
    return [
        f"| {name} | {n} | {100 * counts[name] / n:.1f} | {100 * bounds[name][0]:.1f} - {100 * bounds[name][1]:.1f} "
        f"| {median(seconds[name]):.3g} |"
        for name in calls
    ]


def main(argv: list[str] | None = None) -> None:
    """Train one model, attack it by each, and write report_attacks.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--autoattack", type=int, default=30, help="samples for AutoAttack")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args(argv)
    logging.disable(logging.WARNING)
    x_train, x_test, y_train, y_test = digits(0)
    classifier = small_cnn(0)
    attack = GeometryAwarePGD(classifier, eps=EPS, eps_step=EPS / 4)
    AdversarialTrainerGAIRAT(classifier, attack, UniformWeighting()).fit(x_train, y_train, nb_epochs=10)
    tensor_classifier = FastClassifier(classifier)

    def pair(n: int) -> tuple[Any, Any, Threat, Callable[[Any], int]]:
        x, y = x_test[:n], y_test[:n]
        threat = Threat(tensor_classifier, np.inf, EPS, n)
        return x, y, threat, lambda z: int((classifier.predict(np.asarray(z)).argmax(axis=1) == y).sum())

    lines = ["| attack | samples | accuracy, % | 95 % interval | seconds |", "|---|--:|--:|--:|--:|"]
    x, y, threat, right = pair(args.samples)
    art = ProjectedGradientDescentPyTorch(
        classifier, eps=EPS, eps_step=EPS / 4, max_iter=20, num_random_init=1, batch_size=args.samples, verbose=False
    )
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y)
    pgd = {
        "ART's PGD-20": lambda: art.generate(x, y),
        "the report's PGD-20": lambda: threat.pgd(inputs, labels, loss="ce", max_iter=20, step=0.25)[0].numpy(),
    }
    lines += measured(pgd, right, args.samples, args.repeats)
    few_x, few_y, few_threat, few_right = pair(args.autoattack)
    arts = AutoAttack(classifier, eps=EPS, eps_step=EPS / 4, batch_size=args.autoattack)
    few = (torch.from_numpy(few_x), torch.from_numpy(few_y))
    auto = {
        "ART's AutoAttack": lambda: arts.generate(few_x, few_y),
        "AutoAttack in the report": lambda: run_autoattack(few_threat, *few, "standard", 0, []).numpy(),
    }
    lines += measured(auto, few_right, args.autoattack, 1)
    args.out.mkdir(parents=True, exist_ok=True)
    head = f"# The report's attacks beside ART's\n\nDigits, AT, eps {EPS}, {torch.get_num_threads()} threads.\n\n"
    (args.out / "report_attacks.md").write_text(head + "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
