"""Experiment 3, robust overfitting: AT and GAIRAT for several lam, the epoch that validation chose and the last one.

    python examples/paper/overfitting.py [--form digits|cpu|paper] [--seeds 0 1 2] [--share 1/2]

The claim (Zhang et al., ICLR 2021, Table 1): under PGD-20, GAIRAT is above AT, at the last epoch most of all. What the
worst case of several attacks says stands beside it. In the CPU form 1,000 images of Fashion-MNIST.
"""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from tables import listed, markdown, spread
from trainings import SEEDS, Job, all_seeds, parser, read_all, results_of, run_all, save_figure

METHODS = {
    "at": "AT",
    "gairat_lam_1": "GAIRAT, lam 1",
    "gairat_lam_0": "GAIRAT, lam 0",
    "gairat": "GAIRAT, lam -1",
}
REGIMES = {"digits": "digits", "cpu": "fashion_few", "paper": "cifar10_paper"}
MEASURES = {"clean": "clean", "pgd_20": "PGD-20", "worst": "worst case"}


def main(argv: list[str] | None = None) -> None:
    """Train what is missing; print the table and draw the figure."""
    arguments = parser(__doc__)
    arguments.add_argument("--form", choices=REGIMES, default="cpu")
    arguments.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    args = arguments.parse_args(argv)
    args.results = results_of(args)
    regime = REGIMES[args.form]
    run_all([Job(regime, method, seed, last=True) for seed in args.seeds for method in METHODS], args)
    jobs = [Job(regime, method, seed, last=True) for seed in all_seeds(args) for method in METHODS]
    found = read_all(jobs, args.results)
    print(table(found))
    save_figure(draw(found), args.results / f"overfitting-{args.form}.png")


def table(found: dict[Job, Any]) -> str:
    """Return the accuracies, mean and deviation over the seeds, as Markdown."""
    heads = [f"{title}, {when}" for when in ("best", "last") for title in MEASURES.values()]
    lines = [["method", "seeds", *heads, "flags at the last epoch", "processor"]]
    for method, title in METHODS.items():
        alike = [one for job, one in found.items() if job.candidate == method]
        if alike:
            cells = [spread([one[w]["accuracy"][m] for one in alike]) for w in ("validation", "last") for m in MEASURES]
            flags = listed(flag for one in alike for flag in one["last"]["flags"])
            lines.append([title, str(len(alike)), *cells, flags, listed(one["processor"] for one in alike)])
    return markdown(lines)


def draw(found: dict[Job, Any]) -> Figure:
    """Draw robust accuracy over the epochs, in training and in validation."""
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for number, (method, title) in enumerate(METHODS.items()):
        histories = [one["history"] for job, one in found.items() if job.candidate == method and job.seed == 0]
        for history in histories:
            measured = [record for record in history if record["robust_accuracy"] is not None]
            for axes, key, records in zip(
                panels, ("train_robust_accuracy", "robust_accuracy"), (history, measured), strict=True
            ):
                values = [100 * record[key] for record in records]
                axes.plot([record["epoch"] for record in records], values, label=title, color=f"C{number}")
    for axes in panels:
        axes.xaxis.get_major_locator().set_params(integer=True)
    panels[0].set(title="in training, PGD-10", xlabel="epoch", ylabel="robust accuracy, %")
    panels[1].set(title="in validation, PGD-10 and margin", xlabel="epoch")
    panels[0].legend(frameon=False)
    return figure


if __name__ == "__main__":
    main()
