"""Experiment 4, the methods' table: PGD-20 and the worst case side by side, with the flags, at equal compute.

    python examples/paper/methods.py [--form digits|cpu|paper] [--seeds 0 1 2] [--share 1/2]

In the CPU form on 6,000 images of Fashion-MNIST; reported on 1,000 images that no training saw, by which the epoch was
chosen.
"""

from __future__ import annotations

from candidates import METHODS
from tables import accuracies, bars
from trainings import SEEDS, Job, all_seeds, parser, read_all, results_of, run_all, save_figure

REGIMES = {"digits": "digits", "cpu": "fashion", "paper": "cifar10_paper"}


def main(argv: list[str] | None = None) -> None:
    """Train what is missing; print the table and draw the figure."""
    arguments = parser(__doc__)
    arguments.add_argument("--form", choices=REGIMES, default="cpu")
    arguments.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    arguments.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    args = arguments.parse_args(argv)
    args.results = results_of(args)
    run_all([Job(REGIMES[args.form], method, seed) for seed in args.seeds for method in args.methods], args)
    jobs = [Job(REGIMES[args.form], method, seed) for seed in all_seeds(args) for method in args.methods]
    found = read_all(jobs, args.results)
    print(accuracies(found))
    save_figure(bars(found), args.results / f"methods-{args.form}.png")


if __name__ == "__main__":
    main()
