"""The report as one page of HTML that needs nothing beside it."""

from __future__ import annotations

import base64
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from art_gair.report.data import RobustnessReport
from art_gair.report.text import HEADER, attack_rows, detection_limit, origin, share_rows, summary

TEMPLATE = Path(__file__).with_name("template.html")


def write_html(report: RobustnessReport, figures: dict[str, tuple[str, bytes]]) -> str:
    """Return the page.

    :param figures: title and PNG of each figure, by name.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    low, high = (f"{100 * bound:.1f}" for bound in report.worst_case_interval)
    return template.render(
        worst_case=f"{100 * report.worst_case:.1f}",
        interval=f"{low} - {high}",
        summary=summary(report),
        detection_limit=detection_limit(report),
        report=report,
        attacks=[HEADER, *attack_rows(report)],
        classes=share_rows("class", report.by_class(), report),
        kappas=share_rows("kappa", report.by_kappa(), report),
        figures=[(title, base64.b64encode(png).decode()) for title, png in figures.values()],
        origin=origin(report),
    )
