"""How often does the report suspect an honest model? Digits, adversarially trained, seed by seed.

    python benchmarks/false_alarms.py [--seeds 20] [--epochs 10] [--methods AT GAIRAT] [--preset quick]
                                      [--out benchmarks/results]

Each seed has a split, a network, a training and an evaluation of its own; an AT model that raises any flag counts as a
false alarm. Beside it GAIRAT with the same attack, to see what the report says of it.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from digits import EPS, digits, small_cnn

from art_gair import AdversarialTrainerGAIRAT, GeometryAwarePGD, UniformWeighting, evaluate_robustness


def main(argv: list[str] | None = None) -> None:
    """Train, evaluate, count, and write false_alarms.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--methods", nargs="+", choices=["AT", "GAIRAT"], default=["AT", "GAIRAT"])
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args(argv)
    logging.disable(logging.WARNING)
    lines = [
        "| method | seed | clean, % | PGD-20, % | margin, % | worst case, % | flags |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    alarms = dict.fromkeys(args.methods, 0)
    for seed in range(args.seeds):
        x_train, x_test, y_train, y_test = digits(seed)
        for method in alarms:
            classifier = small_cnn(seed)
            attack = GeometryAwarePGD(classifier, eps=EPS, eps_step=EPS / 4)
            weighting = UniformWeighting() if method == "AT" else None
            AdversarialTrainerGAIRAT(classifier, attack, weighting).fit(x_train, y_train, nb_epochs=args.epochs)
            report = evaluate_robustness(classifier, x_test, y_test, EPS, preset=args.preset, seed=seed, verbose=False)
            alarms[method] += bool(report.flags)
            shown = [report.clean_accuracy, report.accuracy("pgd_20"), report.accuracy("margin"), report.worst_case]
            figures = " | ".join(f"{100 * (share or 0.0):.1f}" for share in shown)
            flags = ", ".join(flag.name for flag in report.flags) or "none"
            lines.append(f"| {method} | {seed} | {figures} | {flags} |")
            print(lines[-1], flush=True)
    n = len(x_test)
    said = [f"{method}: {count} of {args.seeds} models raised a flag." for method, count in alarms.items()]
    head = f"# False alarms\n\n{n} test digits, eps {EPS}, preset {args.preset}, {args.epochs} epochs.\n\n"
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "false_alarms.md").write_text(head + "\n\n".join(said) + "\n\n" + "\n".join(lines) + "\n")
    print("\n".join(said))


if __name__ == "__main__":
    main()
