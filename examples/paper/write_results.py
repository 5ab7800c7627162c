"""Fills the tables of RESULTS.md from the JSON files of the results.

    python examples/paper/write_results.py

Each table stands between `<!-- NAME -->` and `<!-- end -->`; what is written around them by hand stays.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ablations
import capacity
import kappa
import methods
import overfitting
from candidates import ABLATIONS, CANDIDATES, METHODS, SEARCH
from regimes import REGIMES
from search import table
from tables import accuracies, bars, kept_of, listed, markdown, spread
from trainings import Job, Json, read, read_all, read_times

BLOCK = re.compile(r"(<!-- (?!end)(\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
SEEDS = (0, 1, 2)
FINAL_SEEDS = (1, 2, 3, 4, 5, 6)
FINALISTS = {"at": "AT", "trades": "TRADES", "gairat": "GAIRAT", "steps_3_1.2+ema": "recipes.robust"}
"""Those at equal compute, which are drawn, and what they are called."""


def main(argv: list[str] | None = None) -> None:
    """Rewrite the file, and draw the figure of the finalists."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=Path(__file__).parent / "RESULTS.md")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results", help="of figures too")
    args = parser.parse_args(argv)
    args.file.write_text(filled(args.file.read_text(), args.results))
    for regime in REGIMES:
        found = read_finalists(args.results, regime)
        drawn = {job: one for job, one in found.items() if job.candidate in FINALISTS}
        if drawn:
            title = f"{REGIMES[regime].title}, eps {REGIMES[regime].eps:.3g}, test images"
            bars(drawn, "test", FINALISTS, title).savefig(args.results / f"finalists-{regime}.png", dpi=130)


def filled(text: str, results: Path) -> str:
    """Return the text with its tables filled."""
    makers = blocks()

    def fill(match: re.Match[str]) -> str:
        return f"{match[1]}\n{makers[match[2]](results)}\n\n{match[3]}"

    return BLOCK.sub(fill, text)


def blocks() -> dict[str, Callable[[Path], str]]:
    """Return what makes each table."""
    made: dict[str, Callable[[Path], str]] = {"hours": hours, "capacity": read_capacity, "kappa": read_kappa}
    made["tried"] = tried
    made |= {"overfitting": read_overfitting, "methods": read_methods}
    for regime in REGIMES:
        made[f"search-{regime}"] = partial(table, regime=regime)
        made[f"curves-{regime}"] = partial(curves, regime=regime)
        made[f"test-{regime}"] = partial(finalists, regime=regime)
    for setting in ABLATIONS:
        made[f"ablation-{setting.replace(' ', '-')}"] = partial(read_ablation, setting=setting)
    return made


def tried(results: Path) -> str:
    """Return how many of the search's candidates have been validated with seed 0, by regime."""
    lines = [["regime", "candidates validated", "of"]]
    for name, regime in REGIMES.items():
        jobs = [Job(name, candidate, last=last) for candidate in SEARCH for last in (True, False)]
        found = {job.candidate for job in jobs if job.file(results).exists()}
        if found:
            lines.append([regime.title, str(len(found)), str(len(SEARCH))])
    return markdown(lines)


def curves(results: Path, regime: str) -> str:
    """Return AT's robust accuracy in training and in validation over the epochs."""
    found = read_all([Job(regime, "at"), Job(regime, "at", last=True)], results)  # one training, reported on twice
    lines = [["epoch", "robust in training, PGD-10, %", "robust in validation, PGD-10 and margin, %"]]
    for one in list(found.values())[:1]:
        for record in one["history"]:
            if record["robust_accuracy"] is not None:
                shares = (record[key] for key in ("train_robust_accuracy", "robust_accuracy"))
                lines.append([str(record["epoch"]), *(f"{100 * share:.1f}" for share in shares)])
    return markdown(lines)


def read_finalists(results: Path, regime: str) -> dict[Job, Json]:
    """Return what the finalists reached on the test images."""
    return read_all([Job(regime, name, seed, test=True) for name in CANDIDATES for seed in FINAL_SEEDS], results)


def finalists(results: Path, regime: str) -> str:
    """Return the finalists on the test images, mean and deviation over the seeds."""
    found = read_finalists(results, regime)
    measures = {"clean": "clean", "pgd_20": "PGD-20", "autoattack": "AutoAttack", "worst": "worst case"}
    lines = [["candidate", "seeds", *measures.values(), "seed by seed", "flags", "kept", "processor"]]
    for name in dict.fromkeys(job.candidate for job in found):
        alike = [one for job, one in found.items() if job.candidate == name]
        values = {m: [one["test"]["accuracy"][m] for one in alike] for m in measures}
        flags = listed(flag for one in alike for flag in one["test"]["flags"])
        seeds = ", ".join(f"{value:.1f}" for value in values["worst"])
        kept = ", ".join(kept_of(one) if "history" in one else "?" for one in alike)
        processors = listed(one["processor"] for one in alike)
        lines.append([name, str(len(alike)), *map(spread, values.values()), seeds, flags, kept, processors])
    return markdown(lines)


def read_capacity(results: Path) -> str:
    """Return the table of experiment 1."""
    return capacity.table(capacity.read_all(capacity.FORMS["cpu"], results))


def read_kappa(results: Path) -> str:
    """Return the table of experiment 2."""
    file = results / "kappa" / "cpu-500.json"
    named = kappa.named_of(Job(kappa.FORMS["cpu"], "at", last=True), 500)
    return kappa.table(read(file, named)) if file.exists() else "not measured yet"


def read_overfitting(results: Path) -> str:
    """Return the table of experiment 3."""
    regime = overfitting.REGIMES["cpu"]
    jobs = [Job(regime, method, seed, last=True) for seed in SEEDS for method in overfitting.METHODS]
    return overfitting.table(read_all(jobs, results))


def read_methods(results: Path) -> str:
    """Return the table of experiment 4."""
    jobs = [Job(methods.REGIMES["cpu"], method, seed) for seed in SEEDS for method in METHODS]
    return accuracies(read_all(jobs, results))


def read_ablation(results: Path, setting: str) -> str:
    """Return a table of experiment 5."""
    jobs = [Job(ablations.REGIMES["cpu"], name, seed) for seed in SEEDS for name in ABLATIONS[setting]]
    return accuracies(read_all(jobs, results))


def hours(results: Path) -> str:
    """Return how long the results took, by kind and machine."""
    sums: dict[tuple[str, str], list[float]] = {}
    for file, seconds, machine in read_times(results):
        sums.setdefault(("/".join(file.split("/")[:2]), machine), []).append(seconds)
    lines: list[list[Any]] = [["results", "runs", "hours of one thread", "machine"]]
    lines += [[k, str(len(s)), f"{sum(s) / 3600:.1f}", machine] for (k, machine), s in sorted(sums.items())]
    return markdown(lines)


if __name__ == "__main__":
    main()
