"""How often does the report suspect an honest model, and how many samples does it need to see a masked one?

    python benchmarks/false_alarms.py --fashion FOLDER --cifar10 FOLDER [--seeds 5] [--samples 10000] [--draws 20]
                                      [--work runs/false_alarms] [--out benchmarks/results]

Trains AT, TRADES (both honest) and GAIRAT on Fashion-MNIST and on the JPEG copy of CIFAR-10, one model a seed, and
attacks each on the whole test set with the quick preset. What the attacks did is saved; then random rows of it are
judged, --draws times for each number of samples: with replacement at the full size (a bootstrap), without below it.
Models and reports stay in --work, and a run that was stopped goes on there.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from real_data import DATA_SETS, DataSet
from torch.optim.lr_scheduler import MultiStepLR

from art_gair import (
    TRADES,
    AdversarialTrainerGAIRAT,
    GeometryAwarePGD,
    RobustnessReport,
    UniformWeighting,
    evaluate_robustness,
)
from art_gair.evaluation import judge

METHODS = ("AT", "TRADES", "GAIRAT")
HONEST = ("AT", "TRADES")
TRAINING_IMAGES = 10_000
EPOCHS = {"fashion": 15, "cifar10": 20}
SIZES = (200, 400, 1_000, 2_000, 5_000)


def trainer(method: str, classifier: PyTorchClassifier, eps: float) -> AdversarialTrainerGAIRAT:
    """Return a trainer of the method with 10 steps of eps / 4."""
    radii: dict[str, Any] = {"eps": eps, "eps_step": eps / 4}
    if method == "TRADES":
        attack = GeometryAwarePGD(classifier, loss="kl", num_random_init=0, **radii)
        return AdversarialTrainerGAIRAT(classifier, attack, UniformWeighting(), objective=TRADES(6.0))
    weighting = UniformWeighting() if method == "AT" else None
    return AdversarialTrainerGAIRAT(classifier, GeometryAwarePGD(classifier, **radii), weighting)


def trained(data: str, method: str, seed: int, folder: Path, work: Path) -> PyTorchClassifier:
    """Return the classifier of this method and seed, trained now or read from the work folder."""
    classifier, path = DATA_SETS[data].classifier(seed), work / f"{data}-{method}-{seed}.pt"
    if path.exists():
        classifier.model.load_state_dict(torch.load(path, weights_only=True))
        return classifier
    x, y = DATA_SETS[data].load(folder, "train", TRAINING_IMAGES)
    epochs = EPOCHS[data]
    scheduler = MultiStepLR(classifier.optimizer, [int(0.6 * epochs), int(0.85 * epochs)], 0.1)
    torch.manual_seed(seed)
    trainer(method, classifier, DATA_SETS[data].eps).fit(x, y, nb_epochs=epochs, scheduler=scheduler)
    torch.save(classifier.model.state_dict(), path)
    return classifier


def attacked(data: str, method: str, seed: int, folder: Path, work: Path, samples: int) -> RobustnessReport:
    """Return the report on this model, made now or read from the work folder."""
    path = work / f"{data}-{method}-{seed}-{samples}.json"
    if path.exists():
        return RobustnessReport.from_json(path)
    classifier = trained(data, method, seed, folder, work)
    x, y = DATA_SETS[data].load(folder, "test", samples)
    began = time.perf_counter()
    report = evaluate_robustness(classifier, x, y, DATA_SETS[data].eps, seed=seed, batch_size=500, verbose=False)
    report.to_json(path)
    print(f"{path.stem}: {time.perf_counter() - began:.0f} s", flush=True)
    return report


def effects(report: RobustnessReport) -> dict[str, float]:
    """Net share of PGD-20's survivors that each other attack, or each of its tries, breaks."""
    first = report.attack("pgd_20")
    survivors = int((report.clean.correct & ~first.broken).sum())
    shares = {}
    for attack in report.attacks[1:]:
        tries = attack.tries if len(attack.tries) > 1 and attack.name == "scaled" else {"": attack.broken}
        for name, broken in tries.items():
            net = int((broken & ~first.broken).sum()) - int((first.broken & ~broken).sum())
            shares[f"{attack.name} {name}".strip()] = net / survivors
    return shares


def draws(report: RobustnessReport, n: int, count: int) -> Iterator[RobustnessReport]:
    """Yield reports on random rows; with replacement where all rows are asked for."""
    generator = np.random.default_rng(0)
    for _ in range(count):
        yield report.subset(np.sort(generator.choice(report.n, n, replace=n >= report.n)))


def flagged(report: RobustnessReport, n: int, count: int) -> list[list[str]]:
    """Return the names of the flags on each draw."""
    return [[flag.name for flag in judge(subset)[0]] for subset in draws(report, n, count)]


def table(rows: list[list[str]]) -> str:
    """Lay rows out as Markdown, the first as the header."""
    head, *body = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *body])


def summary_rows(reports: dict[tuple[str, str, int], RobustnessReport]) -> list[list[str]]:
    """One row a data set and method: accuracies, mean and standard deviation over the seeds, and flagged models."""
    rows = [["data", "method", "models", "clean, %", "PGD-20, %", "worst case, %", "flagged"]]
    for data in DATA_SETS:
        for method in METHODS:
            group = [r for (d, m, _), r in reports.items() if (d, m) == (data, method)]
            if not group:
                continue
            columns = [(r.clean_accuracy, r.accuracy("pgd_20") or 0.0, r.worst_case) for r in group]
            means = [f"{100 * np.mean(c):.1f} ± {100 * np.std(c):.1f}" for c in zip(*columns, strict=True)]
            alarms = sum(bool(judge(report)[0]) for report in group)
            rows.append([DATA_SETS[data].title, method, str(len(group)), *means, str(alarms)])
    return rows


def model_rows(reports: dict[tuple[str, str, int], RobustnessReport]) -> list[list[str]]:
    """One row a model: accuracies and effects on all samples, and its flags and notes."""
    names = list(effects(next(iter(reports.values()))))
    rows = [["data", "method", "seed", "clean, %", "PGD-20, %", "worst case, %", *names, "flags", "notes"]]
    for (data, method, seed), report in reports.items():
        accuracies = (report.clean_accuracy, report.accuracy("pgd_20") or 0.0, report.worst_case)
        shares = [f"{100 * share:.1f} %" for share in effects(report).values()]
        names = [", ".join(f.name for f in findings) or "none" for findings in judge(report)]
        rows.append(
            [DATA_SETS[data].title, method, str(seed), *(f"{100 * a:.1f}" for a in accuracies), *shares, *names]
        )
    return rows


def size_rows(reports: dict[tuple[str, str, int], RobustnessReport], sizes: list[int], count: int) -> list[list[str]]:
    """One row a method and data set: the share of draws with a flag, for each number of samples."""
    rows = [["data", "method", *(f"n = {n}" for n in sizes)]]
    for data in DATA_SETS:
        for method in METHODS:
            group = [r for (d, m, _), r in reports.items() if (d, m) == (data, method)]
            if not group:
                continue
            cells = []
            for n in sizes:
                raised = [bool(names) for report in group for names in flagged(report, n, count)]
                cells.append(f"{sum(raised)} of {len(raised)}")
            rows.append([DATA_SETS[data].title, method, *cells])
    return rows


def describe(data_set: DataSet, epochs: int) -> str:
    """One line: how the models of a data set were trained."""
    return f"- {data_set.title}: {TRAINING_IMAGES} training images, {epochs} epochs, eps {data_set.eps:.4g}"


def main(argv: list[str] | None = None) -> None:
    """Train, attack, judge, and write false_alarms.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fashion", type=Path, help="folder of Fashion-MNIST's four files")
    parser.add_argument("--cifar10", type=Path, help="folder of the JPEG copy of CIFAR-10")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--work", type=Path, default=Path("runs/false_alarms"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args(argv)
    logging.disable(logging.WARNING)
    args.work.mkdir(parents=True, exist_ok=True)
    folders = {data: getattr(args, data) for data in DATA_SETS if getattr(args, data) is not None}
    reports = {
        (data, method, seed): attacked(data, method, seed, folder, args.work, args.samples)
        for data, folder in folders.items()
        for method in args.methods
        for seed in range(args.seeds)
    }
    sizes = [n for n in SIZES if n < args.samples] + [args.samples]
    honest = [report for (_, method, _), report in reports.items() if method in HONEST]
    alarms = sum(bool(judge(report)[0]) for report in honest)
    text = [
        "# False alarms and power of the report's flags",
        f"{alarms} of {len(honest)} honest models (AT, TRADES) are flagged on {args.samples} test images. "
        f"Preset quick, {torch.get_num_threads()} thread(s), torch {torch.__version__}; {args.draws} draws of rows for "
        "each model and number of samples.",
        "\n".join(describe(DATA_SETS[data], EPOCHS[data]) for data in folders),
        "## Methods",
        "Mean ± standard deviation of the models at hand (divided by their number).",
        table(summary_rows(reports)),
        "## Draws with a flag",
        table(size_rows(reports, sizes, args.draws)),
        "## Models",
        "Net share of PGD-20's survivors that the margin loss and each scale of the logits break.",
        table(model_rows(reports)),
    ]
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "false_alarms.md").write_text("\n\n".join(text) + "\n", encoding="utf-8")
    print("\n\n".join(text))


if __name__ == "__main__":
    main()
