"""Holds the contribution against ART's gates, in a copy of ART's tree: `make upstream-check`, or with ART=<checkout>.

Style gates on the new files; the new tests, with their coverage; ART's own tests of PGD and TRADES with the class
replaced, by the contribution's and by this package's. ART's tests need its conftest, which a checkout has, and a
release has not: then it is taken from the folder that the environment variable ART_GAIR_DATA names, as is MNIST.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from upstream.bed import BedError, environment, make_bed
from upstream.files import RefusedError
from upstream.lift import LiftError
from upstream.moves import UnfinishedError
from upstream.note import Note
from upstream.replaced import PGD_SELECTED, write_replaced
from upstream.write import RECORD, ROOT, write

BUILD = ROOT / "build" / "upstream"
IGNORED_BY_ART = "C0330,C0415,E203,E231,W503"
NOT_FOR_ART = "C0415,E0401,E1102,R0801,R0902,R0903,R0912,R0913,R0914,R0915,R0917,W0511"
"""Messages of pylint that ART's configuration turns off: sizes, imports in functions, what torch hides."""


class Gates:
    """Runs commands in a folder and keeps the names of those that fail."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.folder, self.env = folder, env
        self.failed: list[str] = []

    def __call__(self, name: str, *command: str | Path) -> None:
        """Run a command, print whether it passes, and its output if it does not."""
        start = time.perf_counter()
        done = subprocess.run(
            [str(part) for part in command], cwd=self.folder, env=self.env, capture_output=True, text=True, check=False
        )
        last = (done.stdout.strip().splitlines() or [""])[-1]
        verdict = "ok" if done.returncode == 0 else "FAILED"
        print(f"{name}: {verdict}, {time.perf_counter() - start:.0f} s. {last}", flush=True)
        if done.returncode != 0:
            self.failed.append(name)
            print(done.stdout, done.stderr, sep="\n", flush=True)


def check_style(gates: Gates, tools: Path, files: Sequence[str]) -> None:
    """Run ART's style gates on the Python files of the contribution."""
    sources = [file for file in files if file.startswith("art/")]
    gates("pycodestyle", tools / "pycodestyle", f"--ignore={IGNORED_BY_ART}", "--max-line-length=120", *files)
    gates("ruff", tools / "ruff", "check", *files)
    gates("black", tools / "black", "-q", "-l", "120", "--check", *files)
    gates("mypy", tools / "mypy", "--follow-imports=silent", *[s for s in sources if "__init__" not in s])
    gates(
        "pylint",
        *(tools / "pylint", "--fail-under=9.6", f"--disable={NOT_FOR_ART}", "--max-line-length=120"),
        *("--good-names=x,y,n,a,b,F,_", *[s for s in sources if "__init__" not in s]),
    )


def check_tests(gates: Gates, files: Sequence[str], *, whole_mnist: bool) -> None:
    """Run the new tests with their coverage, the example, and ART's own tests with the class replaced."""
    python = (sys.executable, "-m")
    pytest = ("pytest", "-q", "-p", "no:cacheprovider", "--framework=pytorch")
    sources = [file for file in files if file.startswith("art/") and "__init__" not in file]
    tests = [file for file in files if file.startswith("tests/")]
    gates("new tests", *python, "coverage", "run", f"--include={','.join(sources)}", "-m", *pytest, *tests)
    gates("coverage of at least 80 %", *python, "coverage", "report", "--fail-under=80")
    gates("example", sys.executable, "examples/adversarial_training_gairat.py")
    for name in ("slim", "ours"):
        try:
            pgd, trades = write_replaced(gates.folder, name, whole_mnist=whole_mnist)
        except (OSError, ValueError) as error:
            gates.failed.append(f"ART's tests on {name}: {error}")
            continue
        gates(f"ART's tests of PGD on {name}", *python, *pytest, pgd, "-k", PGD_SELECTED)
        gates(f"ART's tests of TRADES on {name}", *python, *pytest, trades)


def write_copy(bed: Path, art: Path | None, record: Path = RECORD) -> list[str]:
    """Write into a copy of a checkout, where what `make upstream` wrote into the checkout may be replaced as there.

    :param record: the note of what was written into checkouts.
    """
    copied = bed.parent / "written.json"
    if art is not None:
        Note(copied, bed).write(Note(record, art).read())
    return write(bed, record=copied)


def main(argv: list[str] | None = None) -> int:
    """Make the test bed, write into it and hold it against the gates; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("art", type=Path, nargs="?", help="a checkout of ART 1.20, which is copied; else the release")
    parser.add_argument("--tools", type=Path, default=BUILD / "tools" / "bin", help="where the gates are installed")
    parser.add_argument("--packages", type=Path, default=BUILD / "packages", help="packages that ART's tests need")
    parser.add_argument("--only", choices=["style", "tests"], help="a part")
    args = parser.parse_args(argv)
    folder = os.environ.get("ART_GAIR_DATA")
    try:
        bed = make_bed(BUILD / "bed", args.art, None if folder is None else Path(folder))
        files = [file for file in write_copy(bed, args.art) if file.endswith(".py")]
    except (BedError, RefusedError, UnfinishedError, LiftError, OSError, ValueError) as error:
        print(f"No check: {error}", file=sys.stderr)
        return 1
    gates = Gates(bed, environment(bed, args.packages, ROOT))
    if args.only != "tests":
        check_style(gates, args.tools, files)
    if args.only != "style":
        if not (bed / "conftest.py").exists():
            gates.failed.append("tests: there is no conftest.py; give ART=<checkout>, or ART_GAIR_DATA")
        else:
            check_tests(gates, files, whole_mnist=_whole_mnist(bed))
    print("All gates pass." if not gates.failed else f"Failed: {'; '.join(gates.failed)}.")
    return 1 if gates.failed else 0


def _whole_mnist(bed: Path) -> bool:
    """Whether ART will find the whole of MNIST, or download it."""
    path = bed.parent / "home" / ".art" / "data" / "mnist.npz"
    if not path.exists():
        return True
    with np.load(path) as data:
        return len(data["y_train"]) == 60_000


if __name__ == "__main__":
    sys.exit(main())
