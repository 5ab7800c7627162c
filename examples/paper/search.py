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
from tables import markdown
from trainings import Job, parser, read_all, run_all


def main(argv: list[str] | None = None) -> None:
    """Run what is missing, and print the table."""
    arguments = parser(__doc__)
    arguments.add_argument("--regimes", nargs="+", choices=REGIMES, default=[])
    arguments.add_argument("--candidates", nargs="+", choices=CANDIDATES, default=list(SEARCH))
    arguments.add_argument("--seeds", nargs="+", type=int, default=[0])
    arguments.add_argument("--test", action="store_true", help="report on the test images, with AutoAttack")
    args = arguments.parse_args(argv)
    run_all(
        [Job(r, name, s, test=args.test) for r in args.regimes for s in args.seeds for name in args.candidates], args
    )
    for regime in args.regimes or REGIMES:
        print(f"\n{REGIMES[regime].title}\n\n{table(args.results, regime)}")


def table(results: Path, regime: str) -> str:
    """Return all that was found on a regime's validation images, best first, as Markdown."""
    lines = [["candidate", "seed", "epochs", "passes", "clean", "PGD-20", "worst case", "flags"]]
    found = {}
    for kind in ("last", "search"):  # trained alike, reported on twice or once
        for file in sorted((results / kind / regime).glob("*.json")):
            candidate, seed = file.stem.rsplit("-", 1)
            found[candidate, seed] = Job(regime, candidate, int(seed), last=kind == "last")
    read = read_all([*found.values()], results).values()
    for one in sorted(read, key=lambda f: (-f["validation"]["accuracy"]["worst"], f["candidate"])):
        accuracy, flags = one["validation"]["accuracy"], one["validation"]["flags"]
        figures = [f"{accuracy[name]:.1f}" for name in ("clean", "pgd_20", "worst")]
        names = [*(str(one[key]) for key in ("candidate", "seed", "epochs")), f"{one['passes']:.1f}"]
        lines.append([*names, *figures, ", ".join(flags) or "none"])
    return markdown(lines)


if __name__ == "__main__":
    main()
