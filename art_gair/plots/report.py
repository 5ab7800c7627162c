"""Figures of a robustness report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from art_gair.plots.style import (
    BROKEN,
    CLEAN,
    COLOURS,
    DARK,
    MAGNIFIED,
    ROBUST,
    make_figure,
    percent_axis,
    require_matplotlib,
)
from art_gair.report.data import RobustnessReport, require_report, require_reports
from art_gair.report.statistics import interval


def attack_bars(report: RobustnessReport) -> Any:
    """Draw accuracy clean, under each attack and in the worst case, with 95 % intervals."""
    require_report(report)
    counts = {"clean": int(report.clean.correct.sum())}
    for attack in report.attacks:
        alone = report.accuracy(attack.name)
        share = report.standing_after(attack.name) if alone is None else alone
        counts[attack.title if alone is not None else f"{attack.title}\n(after those above)"] = round(report.n * share)
    counts["worst case"] = int(report.robust.sum())
    shares = np.array(list(counts.values())) / report.n
    bounds = np.array([interval(count, report.n) for count in counts.values()])
    figure, axis = make_figure(size=(6.4, 1.2 + 0.45 * len(counts)))
    colours = [CLEAN, *[BROKEN] * len(report.attacks), DARK]
    axis.barh(list(counts), shares, color=colours, xerr=np.abs(bounds.T - shares), ecolor="#444444", capsize=3)
    for i, share in enumerate(shares):
        axis.text(
            0.01,
            i,
            f"{100 * share:.1f}",
            va="center",
            fontsize=9,
            color="black",
            bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1},
        )
    axis.invert_yaxis()
    axis.set(xlim=(0, 1.02), xlabel="accuracy (95 % interval)")
    percent_axis(axis.xaxis)
    return figure


def accuracy_against_eps(report: RobustnessReport) -> Any:
    """Draw accuracy under PGD-20 as eps grows, with 95 % intervals; eps of the report and guessing are marked."""
    require_report(report)
    eps, right, n = (np.array(column) for column in zip(*report.curve, strict=True))
    share = right / n
    bounds = np.array([interval(int(k), int(m)) for k, m in zip(right, n, strict=True)])
    figure, axis = make_figure()
    error = np.abs(bounds.T - share)
    axis.errorbar(eps, share, yerr=error, marker="o", color=DARK, ecolor="#999999", capsize=3)
    axis.axhline(1 / report.nb_classes, color=BROKEN, linestyle="--", label="guessing")
    axis.axvline(report.settings["eps"], color=ROBUST, linestyle=":", label=f"eps = {report.settings['eps']:.3g}")
    axis.set_xscale("symlog", linthresh=report.settings["eps"])
    axis.set(ylim=(-0.02, 1.02), xlabel=f"eps, norm {report.settings['norm']}", ylabel="accuracy under PGD-20")
    axis.set_xticks([0.0, report.settings["eps"], eps[-1]], ["0", f"{report.settings['eps']:.3g}", f"{eps[-1]:.3g}"])
    axis.minorticks_off()
    percent_axis(axis.yaxis)
    axis.legend(frameon=False)
    return figure


def kappa_histogram(report: RobustnessReport) -> Any:
    """Draw how many samples withstand so many steps of PGD-20, and how many of them withstand all attacks."""
    require_report(report)
    shares = report.by_kappa()
    figure, axis = make_figure()
    values, robust = [s.value for s in shares], np.array([s.robust for s in shares])
    broken = np.array([s.n for s in shares]) - robust
    axis.bar(values, robust, color=ROBUST, label="withstand every attack")
    axis.bar(values, broken, bottom=robust, color=BROKEN, label="fall to one")
    axis.set(xlabel="kappa of PGD-20", ylabel="samples", xlim=(-0.6, 20.6), xticks=range(0, 21, 4))
    axis.legend(frameon=False)
    return figure


def margins(report: RobustnessReport) -> Any:
    """Draw the margins p_y - max p_j of the samples, and the least ones under all attacks."""
    require_report(report)
    figure, axis = make_figure()
    edges = np.linspace(-1.0, 1.0, 41)
    axis.hist(report.clean.margins, edges, color=CLEAN, label="clean")
    axis.hist(report.adversarial_margins, edges, histtype="step", linewidth=1.8, color=DARK, label="under all attacks")
    axis.axvline(0.0, color="#999999", linewidth=0.8)
    axis.set(xlabel="margin: p of the class less the largest other (right of 0: classified right)", ylabel="samples")
    axis.legend(frameon=False)
    return figure


def robustness_by_class(report: RobustnessReport) -> Any:
    """Draw clean and robust accuracy of each class."""
    require_report(report)
    shares = report.by_class()
    figure, axis = make_figure()
    places = np.arange(len(shares))
    axis.bar(places - 0.2, [s.clean / s.n for s in shares], 0.4, color=CLEAN, label="clean")
    axis.bar(places + 0.2, [s.robust / s.n for s in shares], 0.4, color=DARK, label="worst case")
    names = [report.class_name(s.value) for s in shares]
    axis.set_xticks(places, names, rotation=90 if len(names) > 20 or max(map(len, names)) > 4 else 0, fontsize=8)
    axis.set(xlabel="class", ylabel="accuracy", ylim=(0, 1.15))
    percent_axis(axis.yaxis)
    axis.legend(frameon=False, ncols=2, loc="upper right")
    return figure


def confusion(report: RobustnessReport) -> Any:
    """Draw what the worst attack makes of each class, as shares of the class."""
    require_report(report)
    counts = report.confusion()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axis = make_figure(size=(6.0, 5.0))
    image = axis.imshow(shares, cmap="viridis", vmin=0.0, vmax=1.0)
    percent_axis(figure.colorbar(image, ax=axis, label="samples of the class").ax.yaxis)
    axis.set(xlabel="predicted under the worst attack", ylabel="class")
    if report.class_names is None or report.nb_classes > 30:
        for side in (axis.xaxis, axis.yaxis):
            side.get_major_locator().set_params(integer=True)
        return figure
    places = range(report.nb_classes)
    axis.set_xticks(places, report.class_names, rotation=90, fontsize=8)
    axis.set_yticks(places, report.class_names, fontsize=8)
    return figure


def adversarial_examples(report: RobustnessReport) -> Any:
    """Draw images before and after PGD-20 and what it added: fallen deepest on the left, steadiest on the right.

    :return: None for samples that are no images of 1 or 3 channels.
    """
    require_report(report)
    examples = report.examples
    if examples is None or examples.clean.shape[1] not in (1, 3):
        return None
    clean, adversarial = (np.moveaxis(z, 1, 3) / 255.0 for z in (examples.clean, examples.adversarial))
    change = adversarial - clean
    size = max(float(np.abs(change).max()), 1e-6)
    count = len(clean)
    figure = require_matplotlib()(figsize=(1.3 * count + 0.5, 4.4), layout="constrained")
    axes = figure.subplots(3, count, squeeze=False)
    for row, images in enumerate((clean, adversarial, MAGNIFIED + change / (2 * size))):
        for column, image in enumerate(images):
            axis = axes[row][column]
            axis.imshow(image.squeeze(), cmap="gray", vmin=0.0, vmax=1.0)
            axis.set_xticks([])
            axis.set_yticks([])
        axes[row][0].set_ylabel(("clean", "under PGD-20", "added, magnified")[row], fontsize=9)
    for column in range(count):
        label, prediction = examples.labels[column], examples.predictions[column]
        colour = ROBUST if label == prediction else BROKEN
        names = [report.class_name(int(value))[:10] for value in (label, prediction)]
        separator = " → " if report.class_names is None else " →\n"
        axes[0][column].set_title(separator.join(names), fontsize=9, color=colour)
    return figure


def comparison_bars(reports: Sequence[RobustnessReport], names: Sequence[str]) -> Any:
    """Draw a group of bars for each report: clean, the attacks that all ran in full, the worst case; 95 % intervals.

    :param reports: at least one.
    :param names: of the reports.
    :raises TypeError: if reports or names are no list of such.
    :raises ValueError: if there is no report, or names are too many or few.
    """
    require_reports(reports, names)
    shared = [a.name for a in reports[0].attacks if all(_is_complete(report, a.name) for report in reports)]
    kinds = ["clean", *(reports[0].attack(name).title for name in shared), "worst case"]
    figure, axis = make_figure(size=(max(6.4, 1.2 * len(reports) + 2.0), 4.2))
    width = 0.8 / len(kinds)
    colours = [CLEAN, *COLOURS[1 : len(kinds) - 1], DARK]
    for i, (kind, colour) in enumerate(zip(kinds, colours, strict=False)):
        counts = [_count_right(report, kind, shared[i - 1] if 0 < i <= len(shared) else "") for report in reports]
        shares = np.array([count / report.n for count, report in zip(counts, reports, strict=True)])
        bounds = np.array([interval(count, report.n) for count, report in zip(counts, reports, strict=True)])
        places = np.arange(len(reports)) + width * (i - (len(kinds) - 1) / 2)
        axis.bar(places, shares, width, yerr=np.abs(bounds.T - shares), label=kind, color=colour, capsize=2)
    axis.set_xticks(range(len(reports)), names, rotation=20 if max(map(len, names)) * len(names) > 40 else 0)
    axis.set(ylabel="accuracy (95 % interval)", ylim=(0, 1.05))
    percent_axis(axis.yaxis)
    figure.legend(frameon=False, ncols=3, loc="outside lower center", fontsize=9)
    return figure


def _is_complete(report: RobustnessReport, name: str) -> bool:
    return name in (attack.name for attack in report.attacks) and report.complete(name)


def _count_right(report: RobustnessReport, kind: str, name: str) -> int:
    if kind == "clean":
        return int(report.clean.correct.sum())
    if kind == "worst case":
        return int(report.robust.sum())
    return int((report.clean.correct & ~report.attack(name).broken).sum())
