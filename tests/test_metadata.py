"""What is said in several places, outside the package, is said alike."""

from __future__ import annotations

import re
from pathlib import Path

import art_gair

ROOT = Path(__file__).parents[1]
SETUP = (ROOT / "setup.py").read_text()
WORKFLOW = (ROOT / ".github/workflows/tests.yml").read_text()


def matches(pattern: str, text: str) -> list[str]:
    """Return what a pattern finds, and fail where it finds nothing."""
    texts: list[str] = re.findall(pattern, text, re.MULTILINE)
    assert texts, pattern
    return texts


def test_the_citation_has_the_package_s_version() -> None:
    assert matches(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text()) == [art_gair.__version__]


def test_the_workflow_runs_each_python_that_setup_names() -> None:
    named = matches(r'"Programming Language :: Python :: (3\.\d+)"', SETUP)
    (listed,) = matches(r"^ +python: \[(.+)\]$", WORKFLOW)
    assert matches(r"3\.\d+", listed) == named
    assert named[0] == matches(r'python_requires=">=(.+)"', SETUP)[0]
    assert f"{named[0]} to {named[-1]}" in (ROOT / "constraints.txt").read_text().splitlines()[0]


def test_the_workflow_runs_the_oldest_torch_that_setup_allows() -> None:
    (oldest,) = matches(r'"torch>=(.+)"', SETUP)
    assert f"{oldest}.0" in matches(r"^ +torch: torch==(\S+)", WORKFLOW)


def test_the_workflow_and_ci_run_the_same_make_targets() -> None:
    targets = set(matches(r"^([a-z-]+):", (ROOT / "Makefile").read_text()))
    from_workflow = matches(r"- run: make (.+)$", WORKFLOW)
    assert from_workflow == matches(r"^make (.+)$", (ROOT / ".ci/run").read_text())
    assert {command.split()[0] for command in from_workflow} <= targets
