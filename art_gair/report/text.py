"""The report in words: rows of its tables, sentences about it, and the terminal's table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from art_gair.report.statistics import CONFIDENCE, interval

if TYPE_CHECKING:
    from art_gair.report.data import RobustnessReport
    from art_gair.report.results import Share

Row = tuple[str, ...]

HEADER: Row = ("", "accuracy, %", f"{CONFIDENCE:.0%} interval", "broken", "seconds")


def attack_rows(report: RobustnessReport) -> list[Row]:
    """Clean, each attack, the worst case: accuracy, its interval, samples broken, seconds."""
    n, correct = report.n, report.clean.correct

    def row(title: str, count: int, broken: str, seconds: str) -> Row:
        low, high = interval(count, n)
        return title, f"{100 * count / n:.1f}", f"{100 * low:.1f} - {100 * high:.1f}", broken, seconds

    rows = [row("clean", int(correct.sum()), "", "")]
    for attack in report.attacks:
        known = report.complete(attack.name)
        count = int((correct & ~attack.broken).sum()) if known else round(n * report.standing_after(attack.name))
        title = attack.title if known else f"{attack.title} (after those above)"
        rows.append(row(title, count, f"{attack.broken.sum()} of {attack.attacked.sum()}", f"{attack.seconds:.1f}"))
    return [*rows, row("worst case", int(report.robust.sum()), "", f"{report.environment['seconds']:.1f}")]


def share_rows(kind: str, shares: Sequence[Share], report: RobustnessReport) -> list[Row]:
    """Clean and robust accuracy by class or by kappa."""

    def name(value: int) -> str:
        return report.class_name(value) if kind == "class" else str(value)

    return [
        (kind, "samples", "clean, %", "robust, %"),
        *((name(s.value), str(s.n), f"{100 * s.clean / s.n:.1f}", f"{100 * s.robust / s.n:.1f}") for s in shares),
    ]


def summary(report: RobustnessReport) -> str:
    """One line: how many samples, which ball, which class is the weakest."""
    s, worst = report.settings, report.worst_class
    settings = f"{report.n} samples, eps {s['eps']:.4g} in norm {s['norm']}, preset {s['preset']}, seed {s['seed']}"
    return f"{settings}; worst class {report.class_name(worst.value)}: {worst.robust} of {worst.n} robust."


def detection_limit(report: RobustnessReport) -> str:
    """What it means that no sign was raised: on few samples few gaps can be told from chance."""
    gap = report.detectable_gap
    if gap > report.clean.correct.sum():
        return f"{report.n} samples are too few for the tests of gradient masking: they cannot detect any gap."
    return (
        f"No sign of gradient masking was found. On {report.n} samples the tests can detect gaps of at least {gap} "
        f"samples, {100 * gap / report.n:.1f} points."
    )


def origin(report: RobustnessReport) -> dict[str, str]:
    """What the report comes from: the call, the model, the machine, the packages."""
    packages = ", ".join(f"{name} {version}" for name, version in report.environment["packages"].items())
    settings = ", ".join(f"{name}={value}" for name, value in _call_settings(report).items())
    machine = f"{report.environment['device']}, python {report.environment['python']}"
    arithmetic = report.environment.get("arithmetic")  # of reports that know of it
    machine += f", {arithmetic}" if arithmetic else ""
    return {
        "call": f"evaluate_robustness(classifier, x, y, {settings})",
        "model": report.environment["model"],
        "machine": machine,
        "packages": packages,
    }


def _call_settings(report: RobustnessReport) -> dict[str, str]:
    """Arguments as a reader would type them; attacks of the user's are described already."""
    extra = report.settings.get("attacks")
    settings = {name: repr(value) for name, value in report.settings.items() if name != "attacks"}
    return settings | ({"attacks": f"[{', '.join(extra)}]"} if extra else {})


def table(report: RobustnessReport) -> str:
    """Columns for a terminal, then flags, notes and warnings."""
    lines = [HEADER, *attack_rows(report)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADER))]
    text = [
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    ]
    return "\n".join([*(line.rstrip() for line in text), "", *_sentences(report)])


def _sentences(report: RobustnessReport) -> Iterator[str]:
    yield summary(report)
    if report.flags:
        signs = "1 sign" if len(report.flags) == 1 else f"{len(report.flags)} signs"
        yield f"{signs} of gradient masking; the true accuracy may be lower:"
        yield from (f"  ! {flag}" for flag in report.flags)
    else:
        yield detection_limit(report)
    yield from (f"  note: {note.evidence}" for note in report.notes)
    yield from (f"  warning: {warning}" for warning in report.warnings)
