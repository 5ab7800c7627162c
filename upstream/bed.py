"""A test bed: a copy of ART's sources, with what its tests need beside them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

PINNED = "1.20.1"

STUBS = {"tensorflow/__init__.py": '__version__ = "2.0"\n', "keras/__init__.py": "", "keras/backend/__init__.py": ""}
"""Modules whose names ART's conftest and helpers import, though no test here uses them."""


class BedError(Exception):
    """There is no test bed to be had; the message says why."""


def make_bed(folder: Path, art: Path | None, data: Path | None) -> Path:
    """Put a copy of ART's sources, and what their tests need, into a folder; return the copy.

    :param folder: for the copy, stubs and a home of its own; what is there is replaced.
    :param art: a checkout of ART; None takes the source distribution of the pinned release.
    :param data: folder with `art-tests/` and `mnist-5k.npz`, if there is one.
    :raises BedError: if the sources cannot be had; nothing is deleted then, if it is for the checkout.
    """
    if art is not None:
        _require_checkout(art, folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    bed = folder / "art"
    if art is None:
        _unpack(_download(folder.parent / "sdist"), bed)
    else:
        shutil.copytree(art, bed, ignore=shutil.ignore_patterns(".git", "__pycache__", ".venv"), symlinks=True)
    for path, text in STUBS.items():
        (folder / "stubs" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "stubs" / path).write_text(text, encoding="utf-8")
    _lay_over(bed, folder / "home", data)
    return bed


def _require_checkout(art: Path, folder: Path) -> None:
    if not (art / "art" / "__init__.py").is_file():
        raise BedError(f"ART is {str(art)!r}; expected a checkout of ART.")
    source, target = art.resolve(), folder.resolve()
    if source.is_relative_to(target) or target.is_relative_to(source):
        raise BedError(f"ART is {str(art)!r}, which would be copied to {folder}; expected a checkout elsewhere.")


def _download(folder: Path) -> Path:
    """Return the archive of the pinned release, which pip fetches once."""
    found = [*folder.glob(f"*{PINNED}.tar.gz")]
    if not found:
        source = ["--no-deps", "--no-binary", ":all:", f"adversarial-robustness-toolbox=={PINNED}"]
        command = [sys.executable, "-m", "pip", "download", "-q", "-d", str(folder), *source]
        if subprocess.run(command, check=False).returncode != 0:
            raise BedError("pip cannot download ART's source distribution; give a checkout: ART=FOLDER.")
        found = [*folder.glob(f"*{PINNED}.tar.gz")]
    return found[0]


def _unpack(archive: Path, bed: Path) -> None:
    with tarfile.open(archive) as packed:
        packed.extractall(bed.parent / "unpacked", filter="data")
    (inside,) = (bed.parent / "unpacked").iterdir()
    inside.rename(bed)


def _lay_over(bed: Path, home: Path, data: Path | None) -> None:
    """Add ART's conftest and weights, which its source distribution lacks, and MNIST where ART looks for it."""
    if data is not None and (data / "art-tests").is_dir() and not (bed / "conftest.py").exists():
        shutil.copytree(data / "art-tests", bed, dirs_exist_ok=True)
    (home / ".art" / "data").mkdir(parents=True)
    if data is not None and (data / "mnist-5k.npz").is_file():
        shutil.copyfile(data / "mnist-5k.npz", home / ".art" / "data" / "mnist.npz")


def environment(bed: Path, packages: Path, root: Path) -> dict[str, str]:
    """Return the environment in which ART's tests run.

    :param packages: folder of packages that they need beside this project's.
    :param root: of this project.
    """
    paths = [bed, bed.parent / "stubs", packages, root]
    settings = {"HOME": str(bed.parent / "home"), "PYTHONPATH": os.pathsep.join(map(str, paths))}
    return {**os.environ, **settings, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
