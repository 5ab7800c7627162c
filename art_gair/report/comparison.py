"""Reports side by side."""

from __future__ import annotations

from collections.abc import Sequence

from art_gair.report.data import RobustnessReport, require_reports
from art_gair.report.markdown import markdown_table


def compare(reports: Sequence[RobustnessReport], names: Sequence[str] | None = None) -> str:
    """Set methods side by side, a column each: a Markdown table.

    An attack that a report lacks, or that a cascade cut short, is a dash.

    :param reports: of the same samples, eps and norm.
    :param names: of the columns.
    :raises TypeError: if reports or names are no list of such.
    :raises ValueError: if there is none, if names are too many or few, or samples, eps or norm differ.
    """
    names = require_comparable(reports, names)
    titles = {attack.name: attack.title for report in reports for attack in report.attacks}
    body = [("clean", *(_percent(r.clean_accuracy) for r in reports))]
    body += [(title, *(_alone(r, name) for r in reports)) for name, title in titles.items()]
    body += [("**worst case** (95 % interval)", *map(_worst_case, reports))]
    body += [("signs of masking", *(", ".join(f.name for f in r.flags) or "none" for r in reports))]
    return markdown_table([("accuracy, %", *names), *body])


def require_comparable(reports: Sequence[RobustnessReport], names: Sequence[str] | None) -> Sequence[str]:
    """Return the reports' names.

    :raises ValueError: as `compare` does.
    """
    if names is None and isinstance(reports, (list, tuple)):
        names = [f"model {i + 1}" for i in range(len(reports))]
    require_reports(reports, names)
    assert names is not None
    for setting in ("eps", "norm"):
        values = {report.settings[setting] for report in reports}
        if len(values) > 1:
            raise ValueError(f"reports were made with {setting} {sorted(map(str, values))}; expected the same in all.")
    others = [name for name, report in zip(names, reports, strict=True) if report.data_hash != reports[0].data_hash]
    if others:
        raise ValueError(f"reports are of different samples: x or y of {others} differ from those of {names[0]!r}.")
    return names


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _alone(report: RobustnessReport, name: str) -> str:
    return _percent(report.accuracy(name)) if name in (attack.name for attack in report.attacks) else "-"


def _worst_case(report: RobustnessReport) -> str:
    low, high = report.worst_case_interval
    return f"**{_percent(report.worst_case)}** ({_percent(low)} - {_percent(high)})"
