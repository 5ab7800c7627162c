"""The report in words: a terminal's table, Markdown, and one page of HTML that holds all its figures."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from art_gair import plots
from art_gair.evaluation.signs import LEAST_GAP
from art_gair.report.statistics import CONFIDENCE, interval

if TYPE_CHECKING:
    from art_gair.report.data import RobustnessReport

Row = tuple[str, ...]

HEADER: Row = ("", "accuracy, %", f"{CONFIDENCE:.0%} interval", "broken", "seconds")

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


def rows(report: RobustnessReport) -> list[Row]:
    """Clean, each attack, the worst case: accuracy, its interval, samples broken, seconds."""
    n, correct = report.n, report.clean.correct

    def row(title: str, count: int, broken: str, seconds: str) -> Row:
        low, high = interval(count, n)
        return title, f"{100 * count / n:.1f}", f"{100 * low:.1f} - {100 * high:.1f}", broken, seconds

    found = [row("clean", int(correct.sum()), "", "")]
    for a in report.attacks:
        known = report.complete(a.name)
        count = int((correct & ~a.broken).sum()) if known else round(n * report.standing_after(a.name))
        title = a.title if known else f"{a.title} (after those above)"
        found.append(row(title, count, f"{a.broken.sum()} of {a.attacked.sum()}", f"{a.seconds:.1f}"))
    return [*found, row("worst case", int(report.robust.sum()), "", f"{report.environment['seconds']:.1f}")]


def table(report: RobustnessReport) -> str:
    """Columns for a terminal, then flags and warnings."""
    lines = [HEADER, *rows(report)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADER))]
    text = [
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    ]
    return "\n".join([*(line.rstrip() for line in text), "", *_said(report)])


def _said(report: RobustnessReport) -> Iterator[str]:
    yield about(report)
    if not report.flags:
        yield no_flags(report)
    else:
        signs = "1 sign" if len(report.flags) == 1 else f"{len(report.flags)} signs"
        yield f"{signs} of gradient masking; the true accuracy may be lower:"
        yield from (f"  ! {flag}" for flag in report.flags)
    yield from (f"  warning: {warning}" for warning in report.warnings)


def no_flags(report: RobustnessReport) -> str:
    """What it means that nothing was found: on few samples little can be."""
    return (
        f"No sign of gradient masking was found; on {report.n} samples a gap between two attacks stands out "
        f"from chance at {LEAST_GAP} samples or more, {100 * LEAST_GAP / report.n:.1f} points."
    )


def about(report: RobustnessReport) -> str:
    """One line: how many samples, which ball, what was found weakest."""
    s, worst = report.settings, report.worst_class
    how = f"{report.n} samples, eps {s['eps']:.4g} in norm {s['norm']}, preset {s['preset']}, seed {s['seed']}"
    return f"{how}; worst class {worst.value}: {worst.robust} of {worst.n} robust."


def comparison(reports: Sequence[RobustnessReport], names: Sequence[str]) -> str:
    """A Markdown table, a column each; an attack that a report lacks, or that a cascade cut short, is a dash."""
    titles = {a.name: a.title for report in reports for a in report.attacks}

    def percent(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.1f}"

    def alone(report: RobustnessReport, name: str) -> str:
        return percent(report.accuracy(name)) if name in (a.name for a in report.attacks) else "-"

    def worst(report: RobustnessReport) -> str:
        low, high = report.worst_case_interval
        return f"**{percent(report.worst_case)}** ({percent(low)} - {percent(high)})"

    body = [("clean", *(percent(r.clean_accuracy) for r in reports))]
    body += [(title, *(alone(r, name) for r in reports)) for name, title in titles.items()]
    body += [("**worst case** (95 % interval)", *map(worst, reports))]
    body += [("signs of masking", *(", ".join(f.name for f in r.flags) or "none" for r in reports))]
    return _markdown_table([("accuracy, %", *names), *body])


def markdown(report: RobustnessReport, figures: Sequence[str]) -> str:
    """The report as a document; figures lie beside it."""
    text = ["# Robustness report\n", f"{about(report)}\n", _markdown_table([HEADER, *rows(report)])]
    text += ["\n## Signs of gradient masking\n"]
    text += [f"- **{flag.name}**: {flag.evidence}. Rule: {flag.rule}" for flag in report.flags] or [no_flags(report)]
    if report.warnings:
        text += ["\n## Warnings\n", *(f"- {warning}" for warning in report.warnings)]
    text += ["\n## Figures\n", *(f"![{FIGURES[name][0]}]({name}.png)\n" for name in figures)]
    text += ["## By class\n", _markdown_table(_shares("class", report.by_class()))]
    text += ["\n## Made by\n", *(f"- {name}: {value}" for name, value in _origin(report).items())]
    return "\n".join(text) + "\n"


def _shares(kind: str, shares: Sequence[Any]) -> list[Row]:
    header = (kind, "samples", "clean, %", "robust, %")
    return [
        header,
        *((str(s.value), str(s.n), f"{100 * s.clean / s.n:.1f}", f"{100 * s.robust / s.n:.1f}") for s in shares),
    ]


def _origin(report: RobustnessReport) -> dict[str, str]:
    packages = ", ".join(f"{name} {version}" for name, version in report.environment["packages"].items())
    settings = ", ".join(f"{name}={value!r}" for name, value in report.settings.items())
    call = f"evaluate_robustness(classifier, x, y, {settings})"
    device = f"{report.environment['device']}, python {report.environment['python']}"
    return {"call": call, "model": report.environment["model"], "machine": device, "packages": packages}


def _markdown_table(lines: Sequence[Row]) -> str:
    head, *body = lines
    rule = ("---", *("--:" for _ in head[1:]))
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *body))


def page(report: RobustnessReport, figures: dict[str, bytes]) -> str:
    """One page of HTML that needs nothing beside it."""
    low, high = (f"{100 * v:.1f}" for v in report.worst_case_interval)
    flags = "".join(
        f"<li><strong>{html.escape(f.name)}</strong>: {html.escape(f.evidence)}."
        f"<details><summary>the rule</summary>{html.escape(f.rule)}</details></li>"
        for f in report.flags
    )
    verdict = (
        f'<section class="bad"><h2>Signs of gradient masking</h2><p>The true accuracy may be lower than any figure '
        f"here.</p><ul>{flags}</ul></section>"
        if flags
        else f'<section class="good"><p>{no_flags(report)}</p></section>'
    )
    warned = "".join(f"<li>{html.escape(w)}</li>" for w in report.warnings)
    verdict += f'<section class="bad"><h2>Warnings</h2><ul>{warned}</ul></section>' if warned else ""
    drawn = "".join(
        f'<figure><img alt="{FIGURES[name][0]}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
        f"<figcaption>{FIGURES[name][0]}</figcaption></figure>"
        for name, png in figures.items()
    )
    origin = "".join(f"<dt>{name}</dt><dd>{html.escape(value)}</dd>" for name, value in _origin(report).items())
    return PAGE.format(
        worst=f"{100 * report.worst_case:.1f}",
        interval=f"{low} - {high}",
        about=html.escape(about(report)),
        verdict=verdict,
        attacks=_html_table([HEADER, *rows(report)]),
        figures=drawn,
        classes=_html_table(_shares("class", report.by_class())),
        kappas=_html_table(_shares("kappa", report.by_kappa())),
        origin=origin,
    )


def _html_table(lines: Sequence[Row]) -> str:
    def line(cells: Row, tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    head, *body = lines
    inside = line(head, "th") + "".join(line(cells, "td") for cells in body)
    return f'<div class="wide"><table>{inside}</table></div>'


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Robustness report</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff; max-width: 62rem; margin: 0 auto;
  padding: 1rem; }}
h1 {{ margin: 0; }} h2 {{ margin: 2rem 0 .5rem; font-size: 1.2rem; }}
.worst {{ font-size: 3rem; font-weight: 700; line-height: 1.1; margin: 1rem 0 0; }}
.good, .bad {{ border-left: .4rem solid #117733; background: #eef7f0; padding: .2rem 1rem; margin: 1rem 0; }}
.bad {{ border-color: #b3261e; background: #fcefee; }} .bad h2 {{ margin-top: .5rem; }}
.wide {{ overflow-x: auto; }} table {{ border-collapse: collapse; min-width: 24rem; }}
th, td {{ padding: .25rem .75rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }}
@media (max-width: 32rem) {{ table {{ font-size: .8rem; }} th, td {{ padding: .25rem .35rem; }} }}
th:first-child, td:first-child {{ text-align: left; }} .attacks tr:last-child td {{ font-weight: 700; }}
.figures {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }}
figure {{ margin: 0; }} figure:last-child {{ grid-column: 1 / -1; }}
img {{ width: 100%; height: auto; }} figcaption {{ color: #555; font-size: .9rem; }}
dt {{ font-weight: 600; }} dd {{ margin: 0 0 .5rem; overflow-wrap: anywhere; }} details {{ color: #444; }}
</style></head><body>
<h1>Robustness report</h1>
<p class="worst">{worst} %</p>
<p>of the samples withstand every attack (95 % interval {interval} %). {about}</p>
{verdict}
<h2>Attack by attack</h2><div class="attacks">{attacks}</div>
<h2>Figures</h2><div class="figures">{figures}</div>
<h2>By class</h2>{classes}
<details><summary><strong>By kappa</strong>, the PGD-20 steps that a sample withstands</summary>{kappas}</details>
<h2>Made by</h2><dl>{origin}</dl>
</body></html>
"""


def save(report: RobustnessReport, folder: Path) -> None:
    """Write JSON, Markdown, figures and the page."""
    figures = {name: png for name, (_, draw) in FIGURES.items() if (png := _png(draw(report))) is not None}
    folder.mkdir(parents=True, exist_ok=True)
    report.to_json(folder / "report.json")
    for name, png in figures.items():
        (folder / f"{name}.png").write_bytes(png)
    (folder / "report.md").write_text(markdown(report, list(figures)), encoding="utf-8")
    (folder / "report.html").write_text(page(report, figures), encoding="utf-8")


def _png(figure: Any) -> bytes | None:
    if figure is None:
        return None
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=130)
    return file.getvalue()
