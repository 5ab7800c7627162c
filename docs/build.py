"""Write the guides and the reference of all public functions and classes as HTML: `make docs`.

    .venv/bin/python docs/build.py [--out build/docs]

The reference is made from docstrings by pdoc, the guides from Markdown by markdown2, which pdoc brings along. Not by
Sphinx, which ART uses: that and its theme are some twenty packages more, and want docstrings in a markup of their own.
A warning of pdoc, a name without a docstring, and a link that leads nowhere are errors.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
import shutil
import warnings
from pathlib import Path

import markdown2
import pdoc
import pdoc.render

ROOT = Path(__file__).parents[1]

MODULES = (
    *("art_gair", "art_gair.selecting_trainer", "art_gair.attacks.base", "art_gair.weighting"),
    *("art_gair.objectives", "art_gair.plugins", "art_gair.schedules", "art_gair.augmentations"),
    *("art_gair.training.history", "art_gair.training.semi_supervised", "art_gair.evaluation"),
    *("art_gair.report.results", "art_gair.plots"),
)
"""What the reference shows, `art_gair.recipes` with the first; what is not here is for the package alone."""

PAGES = {
    **{f"docs/{path.name}": f"{path.stem}.html" for path in (ROOT / "docs").glob("*.md")},
    **{"docs/README.md": "index.html", "README.md": "readme.html", "CONTRIBUTING.md": "contributing.html"},
    **{
        "CHANGELOG.md": "changelog.html",
        "examples/README.md": "examples.html",
        "art_gair/engine/README.md": "engine.html",
    },
}
"""Markdown files and the pages they become."""

STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b}"
    "pre,code{background:#f4f4f4;font-size:85%}pre{padding:.7rem;overflow-x:auto}img{max-width:100%}"
    "table{border-collapse:collapse;display:block;overflow-x:auto}td,th{border:1px solid #ccc;padding:.3rem .6rem}"
)
LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|#)([^)#]+)(#[^)]*)?\)")
"""A link within the repository: its text, file and anchor."""


def main(argv: list[str] | None = None) -> None:
    """Write everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build/docs")
    out = parser.parse_args(argv).out
    require_docstrings()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", module="pdoc")
        warnings.filterwarnings(
            "ignore", "Error parsing type annotation.*Examples.__init__"
        )  # a NamedTuple's own names
        pdoc.render.configure(include_undocumented=False)
        pdoc.pdoc(*MODULES, output_directory=out / "api")
    for source, page in PAGES.items():
        (out / page).write_text(html(ROOT / source, out), encoding="utf-8")
    print(f"{len(PAGES)} guides and {len(MODULES)} modules: {out / 'index.html'}")


def require_docstrings() -> None:
    """Refuse a public name of the reference without a docstring."""
    for name in MODULES:
        module = importlib.import_module(name)
        for public in getattr(module, "__all__", ()):
            value = getattr(module, public)
            if callable(value) and not inspect.getdoc(value):
                raise SystemExit(f"{name}.{public} has no docstring.")


def html(source: Path, out: Path) -> str:
    """Return a page; the files that it shows and links to are copied."""
    text = source.read_text(encoding="utf-8")
    extras = ["fenced-code-blocks", "tables", "header-ids", "cuddled-lists"]
    body = markdown2.markdown(LINK.sub(lambda match: link(match, source, out), text), extras=extras)
    title = text.split("\n", 1)[0].lstrip("# ")
    menu = '<p><a href="index.html">Guides</a> &middot; <a href="api/index.html">Reference</a></p>'
    head = f'<meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    return f'<!DOCTYPE html><html lang="en"><head>{head}</head><body>{menu}{body}</body></html>\n'


def link(match: re.Match[str], source: Path, out: Path) -> str:
    """Return a link as it is on the site: to a page or to a copy of the file; of one to a folder its text alone.

    :raises SystemExit: if it leads nowhere.
    """
    text, to, anchor = match.groups()
    target = (source.parent / to).resolve()
    if not target.exists():
        raise SystemExit(f"{source.relative_to(ROOT)} links to {to}, which does not exist.")
    name = target.relative_to(ROOT).as_posix()
    if name in PAGES:
        return f"[{text}]({PAGES[name]}{anchor or ''})"
    if target.is_dir():
        return str(text)
    copy = out / "files" / name
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(target, copy)
    return f"[{text}](files/{name})"


if __name__ == "__main__":
    main()
