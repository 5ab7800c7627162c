"""Fills the templates: the files of the contribution, by their paths in ART."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from upstream.lift import Core, LiftError
from upstream.pieces import DEFAULTS, DEFINITIONS, FORMULAS, VALUES

TEMPLATES = Path(__file__).parent / "templates"
BLOCK = re.compile(r"^( *)<<([^<>]+)>>\n", re.MULTILINE)
INLINE = re.compile(r"<<([^<>]+)>>")
WIDTH = 120


def render(core: Core) -> dict[str, str]:
    """Return the text of each file, by its path in ART.

    :raises LiftError: if a template asks for what the core, or the table of pieces, does not hold.
    """
    return {
        str(path.relative_to(TEMPLATES).with_suffix("")): fill(path.read_text(encoding="utf-8"), core)
        for path in sorted(TEMPLATES.rglob("*.in"))
        if path.name != "header.in"
    }


def fill(template: str, core: Core) -> str:
    """Return a template with the pieces in their places; errors as for `render`."""
    text = BLOCK.sub(lambda match: textwrap.indent(_block(match[2], core), match[1]) + "\n", template)
    return "".join(_line(line, core) for line in text.splitlines(keepends=True))


def _block(name: str, core: Core) -> str:
    if name == "header":
        return (TEMPLATES / "header.in").read_text(encoding="utf-8").rstrip("\n")
    if name not in DEFINITIONS:
        raise LiftError(f"a template asks for {name!r}, which is no piece.")
    return core.text(DEFINITIONS[name])


def _line(line: str, core: Core) -> str:
    """Fill a line; if it is too long then, as docstrings may be in a template, break it, with a fitting indent."""
    if not INLINE.search(line) and len(line) <= WIDTH + 1:
        return line
    filled = INLINE.sub(lambda match: _inline(match[1], core), line)
    if len(filled.rstrip("\n")) <= WIDTH:
        return filled
    hang = re.match(r" *(:\w+ \w+: )?", filled)
    indent = " " * (0 if hang is None else hang.end())
    return textwrap.fill(filled.rstrip("\n"), WIDTH, subsequent_indent=indent, break_long_words=False) + "\n"


def _inline(name: str, core: Core) -> str:
    if name in VALUES:
        return core.value(VALUES[name])
    kind, _, rest = name.partition(" ")
    function, _, argument = rest.partition(".")
    if kind == "formula" and rest in FORMULAS:
        return core.formula(FORMULAS[rest])
    if kind == "default" and function in DEFAULTS:
        return core.default(DEFAULTS[function], argument)
    raise LiftError(f"a template asks for {name!r}, which is no value, formula or default.")
