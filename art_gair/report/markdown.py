"""The report as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from art_gair.report.data import RobustnessReport
from art_gair.report.text import HEADER, Row, attack_rows, detection_limit, origin, share_rows, summary


def write_markdown(report: RobustnessReport, figures: dict[str, str]) -> str:
    """Return the report as a document.

    :param figures: title of each figure by the name of its file, which lies beside the document.
    """
    text = ["# Robustness report\n", f"{summary(report)}\n", markdown_table([HEADER, *attack_rows(report)])]
    text += ["\n## Signs of gradient masking\n"]
    flags = [f"- **{flag.name}**: {flag.evidence}. Rule: {flag.rule}" for flag in report.flags]
    text += flags or [detection_limit(report)]
    if report.notes:
        text += ["\n## Notes\n", *(f"- {note.evidence}" for note in report.notes)]
    if report.warnings:
        text += ["\n## Warnings\n", *(f"- {warning}" for warning in report.warnings)]
    text += ["\n## Figures\n", *(f"![{title}]({name}.png)\n" for name, title in figures.items())]
    text += ["## By class\n", markdown_table(share_rows("class", report.by_class(), report))]
    text += ["\n## Made by\n", *(f"- {name}: {value}" for name, value in origin(report).items())]
    return "\n".join(text) + "\n"


def markdown_table(lines: Sequence[Row]) -> str:
    """Lay rows out, the first as the header."""
    head, *body = lines
    rule = ("---", *("--:" for _ in head[1:]))
    rows = (tuple(cell.replace("|", "\\|") for cell in line) for line in (head, rule, *body))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
