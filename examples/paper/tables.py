"""Tables and figures that several scripts share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from candidates import CANDIDATES
from matplotlib.figure import Figure
from trainings import Job, Json


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Return a table, the first line of which is its head."""
    rule = ["---", *["--:"] * (len(lines[0]) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))


def spread(values: Sequence[float]) -> str:
    """Return mean and standard deviation."""
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def passes_of(one: Json) -> float:
    """Return the passes a sample that a training took: those planned, but for the attack's, which were counted."""
    attack = sum(record["attack_passes"] for record in one["history"])
    return float(attack + len(one["history"]) * CANDIDATES[one["candidate"]].beside_attack)


def looks_of(one: Json) -> int:
    """Return how many epochs validation chose from."""
    return sum(record["robust_accuracy"] is not None for record in one["history"])


def kept_of(one: Json) -> str:
    """Return which model validation kept: raw or the EMA, and its epoch, counted from 0."""
    return f"{one['history'][one['best_epoch']]['validated_model']} {one['best_epoch']}"


def listed(names: Iterable[str]) -> str:
    """Return each name once, in order."""
    return ", ".join(sorted(set(names))) or "none"


def accuracies(found: dict[Job, Json]) -> str:
    """Return clean, PGD-20 and worst case of each candidate on validation images, mean and deviation, as Markdown."""
    lines = [["candidate", "seeds", "epochs", "passes", "looks", "clean", "PGD-20", "worst case", "flags", "processor"]]
    for candidate in dict.fromkeys(job.candidate for job in found):
        alike = [one for job, one in found.items() if job.candidate == candidate]
        passes = f"{mean(passes_of(one) for one in alike):.1f}"
        counts = [str(len(alike)), str(alike[0]["epochs"]), passes, str(looks_of(alike[0]))]
        cells = [spread([one["validation"]["accuracy"][m] for one in alike]) for m in ("clean", "pgd_20", "worst")]
        flags = listed(flag for one in alike for flag in one["validation"]["flags"])
        lines.append([candidate, *counts, *cells, flags, listed(one["processor"] for one in alike)])
    return markdown(lines)


def bars(
    found: dict[Job, Any], part: str = "validation", names: Mapping[str, str] | None = None, title: str = ""
) -> Figure:
    """Draw PGD-20 and worst case of each candidate side by side, a dot a seed on them.

    :param names: what candidates are called, where that is not their own name.
    """
    drawn = list(dict.fromkeys(job.candidate for job in found))
    figure = Figure(figsize=(max(6.0, 0.7 * len(drawn)), 3.8), layout="constrained")
    axes = figure.subplots()
    for place, (measure, label) in enumerate({"pgd_20": "PGD-20", "worst": "worst case"}.items()):
        values = [[one[part]["accuracy"][measure] for job, one in found.items() if job.candidate == n] for n in drawn]
        places = [x + 0.4 * (place - 0.5) for x in range(len(drawn))]
        axes.bar(places, [mean(v) for v in values], 0.38, label=label, color=("#b8c4d6", "#c4572e")[place])
        for x, v in zip(places, values, strict=True):
            axes.plot([x] * len(v), v, "o", color="#333333", markersize=2.5)
    labels = [(names or {}).get(name, name) for name in drawn]
    slanted: dict[str, Any] = {"rotation": 40, "ha": "right", "fontsize": 8} if len(drawn) > 5 else {}
    axes.set_xticks(range(len(drawn)), labels, **slanted)
    axes.set(ylabel="accuracy, %", title=title)
    figure.legend(loc="outside lower center", frameon=False, ncols=2)
    return figure
