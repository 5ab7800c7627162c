"""Disks of a few MB and folders that are read-only, for tests that run as root."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(folder: Path, *commands: list[str]) -> Iterator[Path]:
    folder.mkdir()
    if shutil.which("mount") is None:
        pytest.skip("there is no mount")
    done = [subprocess.run([*command, str(folder)], capture_output=True).returncode for command in commands]
    try:
        if any(done):
            pytest.skip("this user cannot mount")
        yield folder
    finally:
        if done[0] == 0:
            subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB."""
    with mounted(tmp_path / "disk", ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs"]) as folder:
        yield folder


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder in which nothing can be written, not even by root."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,ro", "tmpfs"]
    with mounted(tmp_path / "read only", mount) as folder:
        yield folder
