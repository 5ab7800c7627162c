"""The table of a GPU run, from its records."""

from __future__ import annotations

from statistics import median
from typing import Any

GOAL = "Goals: GAIRAT in bf16 takes a tenth of ART's step, and at most 1.03 times the bare passes of its precision."


def page(report: dict[str, Any]) -> str:
    """Return the whole page as Markdown."""
    facts = ", ".join(f"{name} {value}" for name, value in report["environment"].items() if value is not None)
    settings = ", ".join(f"{name} {value}" for name, value in report["settings"].items())
    cells = report["cells"]
    warning = "" if report["settings"]["device"] == "cuda" else "A CPU has run this: no figure here is one of a GPU. "
    sections = [
        f"# The GPU in one command\n\n{warning}{facts}.\n\nSettings: {settings}; it took {report['seconds']:.0f} s.",
        _section("Tests", [["part", "outcome"], *([c["name"], headline(c)] for c in cells if c["part"] == "tests")]),
        _section("Peak rates, TFLOP/s", _rates(_of_part(cells, "rates"))),
        _section("The fast view, beside the model's own noise under TF32", _views(_of_part(cells, "views"))),
        _section(f"A step\n\n{GOAL}", _steps(_of_part(cells, "steps"))),
        _section("Host syncs a step, by where they come from", _syncs(_of_part(cells, "steps"))),
        _section("Failed or skipped", _gaps(cells)),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def headline(record: dict[str, Any]) -> str:
    """Return what became of a cell, in one line."""
    if record["status"] != "measured":
        return f"{record['status']}: {record['error']}"
    result = record["result"]
    if record["part"] == "tests":
        names = f" ({', '.join(result['names of failed'])})" if result["failed"] else ""
        return f"{result['passed']} passed, {result['failed']} failed{names}, {result['skipped']} skipped"
    if record["part"] == "views":
        taken = "taken" if result["taken"] else "refused"
        return f"{taken}, logits differ by {result['logits']:.1e}, gradients by {result['gradients']:.1e}"
    if record["part"] == "steps":
        return f"{result['seconds a step']:.4g} s a step, {result['host syncs a step']:g} host syncs"
    return ", ".join(f"{name} {value / 1e12:.3g} TFLOP/s" for name, value in result.items())


def _section(title: str, rows: list[list[str]]) -> str:
    """A title and a table; nothing where the table has only its head."""
    if len(rows) < 2:
        return ""
    head, *body = rows
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body)]
    return f"## {title}\n\n" + "\n".join(lines)


def _of_part(cells: list[dict[str, Any]], part: str) -> list[dict[str, Any]]:
    return [cell for cell in cells if cell["part"] == part and cell["status"] == "measured"]


def _rates(cells: list[dict[str, Any]]) -> list[list[str]]:
    rows = [["precision", "convolution", "matrix product"]]
    return rows + [[c["name"], *(f"{rate / 1e12:.3g}" for rate in c["result"].values())] for c in cells]


def _views(cells: list[dict[str, Any]]) -> list[list[str]]:
    differences = ("logits", "gradients", "model's noise, logits", "model's noise, gradients")
    rows = [["model", "TF32", "fast view", "BatchNorms folded", "form", *differences]]
    for cell in cells:
        result = cell["result"]
        rows.append(
            [
                *(cell["keys"]["model"], "on" if cell["keys"]["tf32"] else "off"),
                *("taken" if result["taken"] else "refused", str(result["folded"]), result["form"]),
                *(f"{result[name]:.1e}" for name in differences),
            ]
        )
    return rows


def _steps(cells: list[dict[str, Any]]) -> list[list[str]]:
    """One row a model, contender and precision: medians over the rounds."""
    seconds: dict[tuple[str, str, str], list[float]] = {}
    last: dict[tuple[str, str, str], dict[str, Any]] = {}
    for cell in cells:
        key = (cell["keys"]["model"], cell["keys"]["contender"], cell["keys"]["precision"])
        seconds.setdefault(key, []).append(cell["result"]["seconds a step"])
        last[key] = cell
    rows = [["model", "batch", "trainer", "precision", "s a step", "times faster than ART AT, fp32"]]
    rows[0] += ["times the floor", "peak MiB", "host syncs a step", "start, s", "rounds"]
    for (model, contender, precision), taken in seconds.items():
        art, floor = (seconds.get((model, *other)) for other in (("ART AT", "fp32"), ("floor", precision)))
        keys, result = (last[model, contender, precision][name] for name in ("keys", "result"))
        rows.append(
            [
                *(model, str(keys["batch"]), contender, precision, f"{median(taken):.4g}"),
                *(
                    f"{median(art) / median(taken):.2f}" if art else "",
                    f"{median(taken) / median(floor):.3f}" if floor else "",
                ),
                *(f"{result['peak MiB']:.0f}" if "peak MiB" in result else "", f"{result['host syncs a step']:g}"),
                *(f"{result['start, s']:.2f}", str(len(taken))),
            ]
        )
    return rows


def _syncs(cells: list[dict[str, Any]]) -> list[list[str]]:
    """One row a line of Python and count: the steps it holds for."""
    steps: dict[tuple[str, float], list[str]] = {}
    for name, lines in {cell["name"]: cell["result"]["syncs from"] for cell in cells}.items():
        for line, count in lines.items():
            steps.setdefault((line, count), []).append(name)
    return [["from", "a step", "of"], *([line, f"{n:g}", "; ".join(names)] for (line, n), names in steps.items())]


def _gaps(cells: list[dict[str, Any]]) -> list[list[str]]:
    """One row for each cell that has not been measured in any round."""
    measured = {cell["name"] for cell in cells if cell["status"] == "measured"}
    gaps = {(c["part"], c["name"]): c for c in cells if c["status"] == "failed" or c["name"] not in measured}
    return [["part", "cell", "why"], *([part, name, headline(c)] for (part, name), c in gaps.items())]
