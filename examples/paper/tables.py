"""Tables and figures that several scripts share."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

from matplotlib.figure import Figure
from trainings import Job


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Return a table, the first line of which is its head."""
    rule = ["---", *["--:"] * (len(lines[0]) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))


def spread(values: Sequence[float]) -> str:
    """Return mean and standard deviation."""
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def accuracies(found: dict[Job, Any], part: str = "validation") -> str:
    """Return clean, PGD-20 and worst case of each candidate over its seeds, the flags beside them, as Markdown."""
    lines = [["candidate", "seeds", "epochs", "clean", "PGD-20", "worst case", "flags"]]
    for candidate in dict.fromkeys(job.candidate for job in found):
        alike = [one for job, one in found.items() if job.candidate == candidate]
        cells = [spread([one[part]["accuracy"][m] for one in alike]) for m in ("clean", "pgd_20", "worst")]
        flags = sorted({flag for one in alike for flag in one[part]["flags"]})
        epochs = str(alike[0].get("epochs", ""))
        lines.append([candidate, str(len(alike)), epochs, *cells, ", ".join(flags) or "none"])
    return markdown(lines)


def bars(found: dict[Job, Any], part: str = "validation") -> Figure:
    """Draw PGD-20 and worst case of each candidate side by side, a dot a seed on them."""
    names = list(dict.fromkeys(job.candidate for job in found))
    figure = Figure(figsize=(max(6.0, 0.7 * len(names)), 3.8), layout="constrained")
    axes = figure.subplots()
    for place, (measure, title) in enumerate({"pgd_20": "PGD-20", "worst": "worst case"}.items()):
        values = [[one[part]["accuracy"][measure] for job, one in found.items() if job.candidate == n] for n in names]
        places = [x + 0.4 * (place - 0.5) for x in range(len(names))]
        axes.bar(places, [mean(v) for v in values], 0.38, label=title, color=("#b8c4d6", "#c4572e")[place])
        for x, v in zip(places, values, strict=True):
            axes.plot([x] * len(v), v, "o", color="#333333", markersize=2.5)
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=8)
    axes.set(ylabel="accuracy, %")
    axes.legend(frameon=False, ncols=2)
    return figure
