"""Writes a report into a folder: JSON, Markdown, a page of HTML and its figures."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from art_gair import plots
from art_gair.report.data import RobustnessReport
from art_gair.report.html import write_html
from art_gair.report.markdown import write_markdown

FIGURES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "attacks": ("Accuracy under each attack, and the worst case", plots.attack_bars),
    "eps": ("Accuracy as eps grows", plots.accuracy_against_eps),
    "kappa": ("How many PGD-20 steps each sample withstands", plots.kappa_histogram),
    "margins": ("Margins, clean and under the attacks", plots.margins),
    "classes": ("Robustness by class", plots.robustness_by_class),
    "confusion": ("What the worst attack makes of each class", plots.confusion),
    "examples": ("Where PGD-20 succeeds best, and least", plots.adversarial_examples),
}
"""Title and drawing of each figure; a drawing that does not apply to a report is None."""


def save(report: RobustnessReport, folder: Path) -> None:
    """Write report.json, report.md, report.html and the figures; all are made before the first is written.

    Where matplotlib is missing or fails there are no figures: hours of attacks are not lost for them. Figures of a
    report that was in the folder before are deleted, if this one has none of their name.
    """
    missing = None
    try:
        figures = {
            name: (title, png)
            for name, (title, draw) in FIGURES.items()
            if (png := _draw_png(draw(report))) is not None
        }
    except Exception as error:
        figures, missing = {}, error
    markdown = write_markdown(report, {name: title for name, (title, _) in figures.items()})
    page = write_html(report, figures)
    folder.mkdir(parents=True, exist_ok=True)
    report.to_json(folder / "report.json")
    for name in FIGURES:
        if name in figures:
            (folder / f"{name}.png").write_bytes(figures[name][1])
        else:
            (folder / f"{name}.png").unlink(missing_ok=True)
    (folder / "report.md").write_text(markdown, encoding="utf-8")
    (folder / "report.html").write_text(page, encoding="utf-8")
    if missing is not None:  # last: a warning may be an error
        warnings.warn(f"The report is saved without its figures. {type(missing).__name__}: {missing}", stacklevel=3)


def _draw_png(figure: Any) -> bytes | None:
    if figure is None:
        return None
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=130)
    return file.getvalue()
