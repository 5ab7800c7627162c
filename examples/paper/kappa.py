"""Experiment 2, data differ: kappa over training, and kappa against the distance to the decision boundary.

    python examples/paper/kappa.py [--form digits|cpu|paper] [--images 500]

The claim (Zhang et al., ICLR 2021, Fig. 1 and 3): kappa tells how near a sample lies to the boundary. Here it is held
against the distance that a minimal-norm attack measures, FAB (Croce & Hein, ICML 2020) in L-inf, on training images of
an AT model. The distance of a misclassified image, which is lost, is that to leaving the wrong class, with a minus.
It breaks there: kappa is 0, or little more where the attack finds the right class, however far a sample is lost.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from candidates import K
from matplotlib.figure import Figure
from pyautoattack.fab_pt import FABAttack_PT
from regimes import REGIMES
from scipy.stats import spearmanr
from tables import markdown
from trainings import (
    Job,
    Json,
    parser,
    read_all,
    remembered,
    results_of,
    rounded,
    run_all,
    save_figure,
    split_of,
    trained,
)

from art_gair import GeometryAwarePGD

FORMS = {"digits": "digits", "cpu": "fashion", "paper": "cifar10_paper"}
METHODS = {"at": "AT", "gairat": "GAIRAT"}
STEPS = {"as trained, K = 10": (K, 1, 4), "K = 40 in a ball of 3 eps, from x": (40, 0, 40)}
"""Steps, random starts, and steps that cross the radius."""


def main(argv: list[str] | None = None) -> None:
    """Train AT and GAIRAT if they are missing; measure, print the table and draw the figures."""
    arguments = parser(__doc__)
    arguments.add_argument("--form", choices=FORMS, default="cpu")
    arguments.add_argument("--images", type=int, default=500, help="training images whose distance is measured")
    args = arguments.parse_args(argv)
    args.results = results_of(args)
    jobs = [Job(FORMS[args.form], method, last=True) for method in METHODS]
    run_all(jobs, args)
    if any(not job.file(args.results).exists() for job in jobs):
        return
    file = args.results / "kappa" / f"{args.form}-{args.images}.json"
    named = named_of(jobs[0], args.images)
    found = remembered(file, args.results, named, partial(measure, jobs[0], args.runs, args.images))
    print(table(found))
    save_figure(draw(found, read_all(jobs, args.results)), args.results / f"kappa-{args.form}.png")


def named_of(job: Job, images: int) -> Json:
    """Return what the measurement depends on."""
    return {"model": job.named(), "images": images, "eps": rounded(REGIMES[job.regime].eps)}


def measure(job: Job, runs: Path, images: int) -> Json:
    """Return kappa and the distance to the boundary of training images."""
    regime = REGIMES[job.regime]
    classifier = regime.classifier(job.seed)
    trained(classifier, job, runs)
    classifier.model.eval()
    x, y = (part[:images] for part in split_of(job.regime).train)
    predicted = classifier.predict(x).argmax(axis=1)
    torch.manual_seed(0)
    fab = FABAttack_PT(classifier.model, norm="Linf", n_iter=50, eps=1.0, device=classifier.device, seed=0)
    inputs = torch.from_numpy(x).to(classifier.device)
    nearest = fab.perturb(inputs, torch.from_numpy(predicted).to(classifier.device))
    distance = (nearest - inputs).abs().flatten(1).amax(dim=1).cpu().numpy()
    kappas = {}
    for title, (steps, starts, crossing) in STEPS.items():
        settings: dict[str, Any] = {"max_iter": steps, "num_random_init": starts}
        settings |= {"eps": regime.eps * (1 if starts else 3), "eps_step": regime.eps * (1 if starts else 3) / crossing}
        torch.manual_seed(0)
        kappas[title] = GeometryAwarePGD(classifier, **settings).generate_with_kappa(x, y)[1].tolist()
    signed = np.where(predicted == y, distance, -distance)
    return {"distance": [rounded(float(d)) for d in signed], "kappa": kappas}


def table(found: Json) -> str:
    """Return the rank correlations as Markdown."""
    distance = np.array(found["distance"])
    lines = [["kappa", "all images", "images classified rightly", "lost images", "kappa = 0", "of these lost"]]
    for title, values in found["kappa"].items():
        kappa, right = np.array(values), distance > 0
        cells = [correlation(kappa[rows], distance[rows]) for rows in (right | ~right, right, ~right)]
        zero = kappa == 0
        lost = f"{(zero & ~right).sum() / max(1, zero.sum()):.0%}"
        lines.append([title, *cells, str(int(zero.sum())), lost])
    return "Spearman's rank correlation of kappa and distance\n\n" + markdown(lines)


def correlation(kappa: Any, distance: Any) -> str:
    """Return the rank correlation, where there is one."""
    if len(kappa) < 3 or len(set(kappa)) == 1:
        return "none: kappa is constant"
    return f"{spearmanr(kappa, distance).statistic:.2f}"


def draw(found: Json, trainings: dict[Job, Any]) -> Figure:
    """Draw kappa over the epochs of each method, and kappa against the distance."""
    figure = Figure(figsize=(11.0, 6.4), layout="constrained")
    panels = figure.subplots(2, 2)
    for axes, (job, one) in zip(panels[0], trainings.items(), strict=True):
        shares = np.array([record["kappa_histogram"] for record in one["history"]], dtype=float)
        shares = 100 * shares / shares.sum(axis=1, keepdims=True)
        epochs = range(len(shares))
        groups = {"0": shares[:, 0], "1 to K - 1": shares[:, 1:-1].sum(axis=1), "K": shares[:, -1]}
        axes.stackplot(epochs, *groups.values(), labels=[f"kappa {name}" for name in groups])
        axes.set(title=f"{METHODS[job.candidate]}: kappa in training", xlabel="epoch", ylabel="share of images, %")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, frameon=False, fontsize=8)
    rng = np.random.default_rng(0)
    for axes, (title, kappa) in zip(panels[1], found["kappa"].items(), strict=True):
        distance = np.array(found["distance"])
        for rows, label in ((distance > 0, "classified rightly"), (distance <= 0, "lost")):
            jitter = rng.uniform(-0.25, 0.25, rows.sum())
            axes.plot(distance[rows], np.array(kappa)[rows] + jitter, ".", markersize=3, label=label)
        axes.axvline(found["eps"], color="#999999", linewidth=0.8, linestyle="--")
        axes.set(title=title, xlabel="distance to the boundary, L-inf", ylabel="kappa")
        axes.legend(fontsize=8)
    return figure


if __name__ == "__main__":
    main()
