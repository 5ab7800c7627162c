"""What the README shows, runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_python_blocks_run(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})


def test_the_first_block_trains_a_classifier_that_works() -> None:
    names: dict[str, Any] = {}
    exec(compile(BLOCKS[0], "README.md", "exec"), names)
    record = names["trainer"].history[-1]
    assert record["clean_accuracy"] > 0.7
    assert record["robust_accuracy"] > 0.6
    assert len([line for line in BLOCKS[0].splitlines() if line]) == 10


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "examples/README.md"])
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text(encoding="utf-8"))
    assert targets
    for target in targets:
        assert (path.parent / target).exists(), target


def test_every_example_is_listed() -> None:
    listed = (ROOT / "examples/README.md").read_text(encoding="utf-8")
    for file in (ROOT / "examples").glob("*.py"):
        assert f"`{file.name}`" in listed


def test_every_make_target_of_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"(?:^    |`)make (\w+)", README, flags=re.MULTILINE))
    assert {"demo", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_every_measured_figure_stands_in_a_file_of_results() -> None:
    """Rows of the README's tables of figures, and its sentence on speed, agree with what a program wrote."""
    results = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "benchmarks/results").glob("*.md")}
    sections = {part.split("\n", 1)[0]: part for part in README.split("\n## ")}
    for title, file in (("Before you believe a number", "false_alarms.md"), ("Speed", "avx512.md")):
        figures = re.findall(r"(?<![\w.])\d+\.\d+(?![\w.]*\))", re.sub(r"\]\([^)]*\)", "]", sections[title]))
        assert figures
        for figure in figures:
            assert figure in results[file], f"{figure} of the section {title!r} does not stand in {file}"
