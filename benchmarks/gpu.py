"""What a GPU is needed for, in one command: tests, the fast view under TF32, a step's time, memory and host syncs.

    python benchmarks/gpu.py [--minutes 10] [--wheels FOLDER] [--parts tests rates views steps] [--repeats 3]
                             [--device cuda] [--small] [--out benchmarks/results]

Needs no make, no virtual environment and no network: torch >= 2.6, numpy, scipy and scikit-learn as they are installed,
and ART with its needs in pure Python as wheels in a folder. Cells run in order of importance until the time is up. A
cell that fails is recorded with its traceback, and the rest goes on. gpu.json and gpu.md are written after every cell,
so a run that is killed leaves what it has measured. Exit status 1: a cell or a test failed.

`--device cpu --small` proves the script where there is no GPU. Its figures are no results: without --out they go to
runs/gpu.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NEEDS = ("torch", "numpy", "scipy", "sklearn", "art", "tqdm", "six", "packaging", "joblib", "threadpoolctl")


def unpack_wheels(wheels: Path, folder: Path) -> None:
    """Unpack wheels of pure Python into a folder.

    :raises ValueError: if there is none, or one that holds compiled code: that has to be installed.
    """
    paths = sorted(wheels.glob("*.whl"))
    if not paths:
        raise ValueError(f"--wheels {wheels} holds no wheel; expected files *-none-any.whl.")
    for path in paths:
        if not path.name.endswith("-none-any.whl"):
            raise ValueError(f"--wheels {wheels} holds {path.name}; expected wheels of pure Python, *-none-any.whl.")
        with zipfile.ZipFile(path) as file:
            file.extractall(folder)


def import_from(*folders: Path) -> None:
    """Put folders first in the search for modules, here and in the processes started from here."""
    names = [str(folder) for folder in folders]
    sys.path[:0] = names
    earlier = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([*names, *([earlier] if earlier else [])])


def missing() -> list[str]:
    """Return the names of modules that are needed and not found."""
    return [name for name in NEEDS if importlib.util.find_spec(name) is None]


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="begin no cell after this, nor one too long for it")
    parser.add_argument("--wheels", type=Path, help="folder of wheels of pure Python to import from")
    parser.add_argument("--parts", nargs="+", choices=("tests", "rates", "views", "steps"), help="all by default")
    parser.add_argument("--repeats", type=int, default=3, help="rounds over the steps")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="small models, batches and K: a proof of the script")
    parser.add_argument("--out", type=Path, help="folder of gpu.json and gpu.md; benchmarks/results on a GPU")
    args = parser.parse_args(argv)
    args.parts = args.parts or ["tests", "rates", "views", "steps"]
    args.out = args.out or ROOT / ("benchmarks/results" if args.device == "cuda" else "runs/gpu")
    return args


def main(argv: list[str] | None = None) -> int:
    """Measure, and write gpu.json and gpu.md; return the exit status."""
    args = parse(argv)
    os.environ["TQDM_DISABLE"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        if args.wheels is not None:
            unpack_wheels(args.wheels, Path(folder))
        import_from(ROOT, ROOT / "benchmarks", ROOT / "examples", Path(folder))
        if names := missing():
            raise SystemExit(f"Modules not found: {', '.join(names)}. See CONTRIBUTING.md, The GPU in one command.")
        import torch

        if args.device == "cuda" and not torch.cuda.is_available():
            raise SystemExit("torch finds no GPU here. --device cpu --small proves the script without one.")
        from gpu_cells import planned_cells
        from gpu_run import run_cells

        return run_cells(planned_cells(args), args)


if __name__ == "__main__":
    sys.exit(main())
