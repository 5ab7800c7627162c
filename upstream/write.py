"""Writes the contribution into a checkout of ART: `python -m upstream.write ART`, or `make upstream ART=...`.

Formulas, loops and their docstrings come from the source of this package's core, the shape from `templates/`. Nothing
is written unless all of it can be.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from upstream.checkout import Checkout
from upstream.edits import EDITS
from upstream.files import RefusedError, locked
from upstream.lift import Core, LiftError
from upstream.moves import UnfinishedError
from upstream.render import render

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "build" / "upstream" / "written.json"


def write(folder: Path, core: Path = ROOT / "art_gair", record: Path = RECORD) -> list[str]:
    """Write the files, and return their paths in ART; what a run that was killed left half-done is taken back first.

    :param folder: a checkout of ART.
    :param core: the package whose formulas are taken.
    :param record: where it is noted what was written, so that a later run may replace it.
    :raises RefusedError: if the checkout cannot be written to, by the reason.
    :raises OSError: if a file cannot be read or written.
    :raises UnfinishedError: if what was written before such an error cannot be taken back.
    :raises LiftError: if the core is no longer what the templates and pieces expect.
    """
    checkout = Checkout(folder, record)
    with locked(checkout.folder):
        taken_back = checkout.recover()
        if taken_back:
            print("Taken back from a run that was killed half-way:", *taken_back, sep="\n  ", file=sys.stderr)
        files = _edited(checkout, render(Core(core)))
        checkout.require_free(files)
        checkout.write(files)
    return list(files)


def _edited(checkout: Checkout, files: dict[str, str]) -> dict[str, str]:
    """Return the files, and those of ART with the contribution's lines in them."""
    for edit in EDITS:
        before = files.get(edit.path) or checkout.read(edit.path)
        try:
            files[edit.path] = edit.applied(before)
        except ValueError as error:
            raise RefusedError(str(error)) from error
    return files


def main(argv: list[str] | None = None) -> int:
    """Write, and say what was written; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("art", type=Path, help="folder of a checkout of ART 1.20")
    folder = parser.parse_args(argv).art
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that what was moved is put back
    try:
        paths = write(folder)
    except (RefusedError, LiftError, OSError, ValueError) as error:
        print(f"Nothing was written: {error}", file=sys.stderr)
        return 1
    except UnfinishedError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Written into {folder}:", *paths, sep="\n  ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
