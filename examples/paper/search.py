"""The search of PROTOCOL.md: one training a regime, candidate and seed; each writes a JSON file, and none is run twice.

    python examples/paper/search.py --regimes fashion cifar10 [--candidates at trades] [--seeds 0] [--test]
                                    [--share 1/2] [--results examples/paper/results] [--runs runs/paper]

It goes on where it was stopped: trainings are resumed from checkpoints in the folder of runs. `--share 1/2` takes every
second training, so that two processes can work side by side. `--test` reports with AutoAttack on the test images: for
finalists alone. Fashion-MNIST is looked for where Debian's package dataset-fashion-mnist puts it, or in $FASHION_MNIST,
the CIFAR-10 subset in $ART_GAIR_DATA. Without regimes it prints the tables of what has been found.
"""

from __future__ import annotations

from pathlib import Path

from candidates import CANDIDATES, SEARCH
from regimes import REGIMES
from tables import kept_of, listed, looks_of, markdown, passes_of
from trainings import Job, parser, read_all, results_of, run_all


def main(argv: list[str] | None = None) -> None:
    """Run what is missing, and print the table."""
    arguments = parser(__doc__)
    arguments.add_argument("--regimes", nargs="+", choices=REGIMES, default=[])
    arguments.add_argument("--candidates", nargs="+", choices=CANDIDATES, default=list(SEARCH))
    arguments.add_argument("--seeds", nargs="+", type=int, default=[0])
    arguments.add_argument("--test", action="store_true", help="report on the test images, with AutoAttack")
    args = arguments.parse_args(argv)
    args.results = results_of(args)
    run_all(
        [Job(r, name, s, test=args.test) for r in args.regimes for s in args.seeds for name in args.candidates], args
    )
    for regime in args.regimes or REGIMES:
        print(f"\n{REGIMES[regime].title}\n\n{table(args.results, regime)}")


def table(results: Path, regime: str) -> str:
    """Return what the search found on a regime's validation images with seed 0, best first, as Markdown."""
    lines = [["candidate", "epochs", "passes", "looks", "clean", "PGD-20", "worst case", "flags", "kept", "processor"]]
    jobs = {job.candidate: job for last in (True, False) for job in _jobs(regime, last) if job.file(results).exists()}
    found = read_all([*jobs.values()], results).values()  # a training may be reported on twice
    for one in sorted(found, key=lambda f: (-f["validation"]["accuracy"]["worst"], f["candidate"])):
        accuracy, flags = one["validation"]["accuracy"], one["validation"]["flags"]
        figures = [f"{accuracy[name]:.1f}" for name in ("clean", "pgd_20", "worst")]
        counts = [str(one["epochs"]), f"{passes_of(one):.1f}", str(looks_of(one))]
        lines.append([one["candidate"], *counts, *figures, listed(flags), kept_of(one), one["processor"]])
    return markdown(lines)


def _jobs(regime: str, last: bool) -> list[Job]:
    return [Job(regime, name, last=last) for name in SEARCH]


if __name__ == "__main__":
    main()
