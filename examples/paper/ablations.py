"""Experiment 5, ablations of GAIRAT: weight function, lam, burn-in, K, step, kappa by cross entropy or margin.

    python examples/paper/ablations.py [--form digits|cpu|paper] [--seeds 0] [--share 1/2]

One setting is changed at a time; the others are those of `gairat`: tanh, lam -1, burn-in 0.3, K = 10, eps_step eps / 4.
At equal compute: a smaller K trains more epochs.
"""

from __future__ import annotations

from candidates import ABLATIONS
from tables import accuracies, bars
from trainings import Job, all_seeds, parser, read_all, results_of, run_all, save_figure

REGIMES = {"digits": "digits", "cpu": "fashion", "paper": "cifar10_paper"}


def main(argv: list[str] | None = None) -> None:
    """Train what is missing; print a table for each setting and draw the figure."""
    arguments = parser(__doc__)
    arguments.add_argument("--form", choices=REGIMES, default="cpu")
    arguments.add_argument("--seeds", nargs="+", type=int, default=[0])
    args = arguments.parse_args(argv)
    args.results = results_of(args)
    names = dict.fromkeys(name for group in ABLATIONS.values() for name in group)
    jobs = [Job(REGIMES[args.form], name, seed) for seed in args.seeds for name in names]
    run_all(jobs, args)
    found = read_all([Job(REGIMES[args.form], name, seed) for seed in all_seeds(args) for name in names], args.results)
    for setting, group in ABLATIONS.items():
        print(f"\n{setting}\n\n" + accuracies({job: one for job, one in found.items() if job.candidate in group}))
    save_figure(bars(found), args.results / f"ablations-{args.form}.png")


if __name__ == "__main__":
    main()
