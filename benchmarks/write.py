"""The table and the figure of `bench`, from the cells it has measured."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.figure import Figure

Cell = dict[str, Any]
NOT_MEASURED = "not measured"

PAIRS = {
    "AT": ("ART AT", "AT"),
    "GAIRAT": ("ART AT", "GAIRAT"),
    "BoundaryPGD with half the passes": ("ART AT", "BoundaryPGD"),
    "TRADES": ("ART TRADES", "TRADES"),
    "attack alone": ("ART PGD", "GA-PGD"),
}
"""Column: how many times faster the second is than the first."""


def ratio(cell: Cell, slow: str, fast: str, kind: str = "seconds") -> float | None:
    """How many times more the first takes than the second, of medians."""
    figures = cell[kind]
    if slow not in figures or fast not in figures:
        return None
    return float(_middle(figures[slow]) / _middle(figures[fast]))


def _middle(figure: Any) -> float:
    return float(median(figure)) if isinstance(figure, list) else float(figure)


def _times(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value:.2f} x"


def row(cell: Cell) -> list[str]:
    """One cell as a line of the table."""
    work, seconds, memory = cell["work"], cell["seconds"], cell["memory"]
    share = NOT_MEASURED
    if "GAIRAT" in seconds and work["model"] != "mlp":
        share = f"{100 * cell['flops'] / _middle(seconds['GAIRAT']) / cell['peak']['convolution']:.0f} %"
    return [
        *(work["model"], work["precision"] + (", compiled" if work["compile"] else "")),
        str(work["batch"]) + (f", {work['fit_of']} a fit" if work.get("fit_of") else ""),
        *(f"{_middle(seconds[name]):.3g}" if name in seconds else NOT_MEASURED for name in ("ART AT", "GAIRAT")),
        *(_times(ratio(cell, *pair)) for pair in PAIRS.values()),
        _times(ratio(cell, "GAIRAT", "floor")),
        f"{cell['flops'] / 1e9:.3g}",
        share,
        *(f"{memory[name]:.0f}" if name in memory else NOT_MEASURED for name in ("ART AT", "GAIRAT")),
    ]


HEAD = [
    *("model", "precision", "batch", "ART's AT, s a step", "GAIRAT, s a step"),
    *(f"{name}, times faster" for name in PAIRS),
    *("GAIRAT over the floor", "GFLOP a step", "of the convolution's peak"),
    *("ART's AT, peak MiB", "GAIRAT, peak MiB"),
]


def table(cells: list[Cell]) -> str:
    """Return the Markdown table."""
    lines = [HEAD, ["---"] * 3 + ["--:"] * (len(HEAD) - 3), *map(row, cells)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machines(cells: list[Cell]) -> str:
    """Return the machines the cells come from, with the rates measured beside them."""
    lines = []
    for environment in {tuple(c["environment"].items()): c for c in cells}.values():
        alike = [c for c in cells if c["environment"] == environment["environment"]]
        for precision in sorted({c["work"]["precision"] for c in alike}):
            peaks = [c["peak"] for c in alike if c["work"]["precision"] == precision]
            rates = ", ".join(
                f"{name} {min(p[name] for p in peaks) / 1e12:.3g} to {max(p[name] for p in peaks) / 1e12:.3g}"
                for name in ("convolution", "matrix product")
            )
            facts = ", ".join(f"{key} {value}" for key, value in environment["environment"].items())
            lines.append(f"- {precision}: {facts}; peak rates measured in these runs, TFLOP/s: {rates}")
    return "\n".join(lines)


def draw(cells: list[Cell]) -> Figure:
    """Draw one group of bars a cell: how many times faster than ART, pair by pair."""
    figure = Figure(figsize=(max(7.0, 1.2 * len(cells)), 4.2), layout="constrained")
    axes = figure.subplots()
    colors, width = ("#b8c4d6", "#3b6ea8", "#8a6fb0", "#c4572e", "#6a9a58"), 0.8 / len(PAIRS)
    for i, (name, pair) in enumerate(PAIRS.items()):
        heights = [ratio(cell, *pair) or 0.0 for cell in cells]
        places = [x + width * (i - (len(PAIRS) - 1) / 2) for x in range(len(cells))]
        bars = axes.bar(places, heights, width, label=name, color=colors[i])
        axes.bar_label(bars, fmt=lambda h: f"{h:.1f}" if h else "", fontsize=7)
    axes.axhline(1.0, color="#333333", linewidth=0.8)
    names = [f"{c['work']['model']}\n{c['work']['precision']}, {c['work']['batch']}" for c in cells]
    axes.set_xticks(range(len(cells)), names, fontsize=8)
    axes.set(ylabel="times faster than ART's", title="Adversarial training, K = 10: ART's time over ours")
    axes.legend(ncols=len(PAIRS), loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False)
    return figure


def write(cells: list[Cell], folder: Path) -> None:
    """Write results.md and results.png."""
    text = f"# ART's trainers and ours, side by side\n\n{table(cells)}\n\n{machines(cells)}\n"
    (folder / "results.md").write_text(text)
    draw(cells).savefig(folder / "results.png", dpi=150)
