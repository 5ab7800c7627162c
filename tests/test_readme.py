"""What the README, the guides and CONTRIBUTING show, runs."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from torch import nn

from art_gair.training.history import EpochRecord

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md"]
DOCUMENTS = [ROOT / "README.md", ROOT / "examples/README.md", *GUIDES]


def blocks_of(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


BLOCKS = blocks_of(README)


class Services:
    """Stand-ins for wandb, mlflow and timm, which are not installed: functions that the guides call, and what they got.

    Their signatures are those of wandb 0.31.0, mlflow 3.17.2 and timm 1.0.31, with which the blocks were run when they
    were written.
    """

    def __init__(self) -> None:
        self.logged: dict[str, list[tuple[int, dict[str, float]]]] = {"wandb": [], "mlflow": []}

    @contextmanager
    def init(self, *, project: str, id: str, resume: str) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(log=lambda data, step: self.logged["wandb"].append((step, data)))

    @contextmanager
    def start_run(self, run_id: str | None = None) -> Iterator[None]:
        yield

    def create_model(self, name: str, *, pretrained: bool, num_classes: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.logged["mlflow"].append((step, metrics))


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Services:
    found = Services()
    called = {"wandb": ["init"], "mlflow": ["start_run", "log_metrics"], "timm": ["create_model"]}
    for name, functions in called.items():
        module = ModuleType(name)
        for function in functions:
            setattr(module, function, getattr(found, function))
        monkeypatch.setitem(sys.modules, name, module)
    return found


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_python_blocks_run(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})


@pytest.mark.filterwarnings("ignore:The epoch parameter:UserWarning")  # SequentialLR of older torch warns of itself
@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_the_blocks_of_a_guide_are_one_script(
    guide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, services: Services
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks_of(guide.read_text(encoding="utf-8")):
        exec(compile(block, guide.name, "exec"), names)
    if guide.name == "long_runs.md":
        for logged in services.logged.values():
            assert [step for step, _ in logged] == [0, 1]
            assert logged[1][1]["loss"] > 0
        rates = [round(record["lr"], 6) for record in names["trainer"].history]
        assert rates == [0.001, 0.01, 0.005]  # the warm-up and the cosine are stepped 11 times an epoch


def test_the_first_block_trains_a_classifier_that_works() -> None:
    names: dict[str, Any] = {}
    exec(compile(BLOCKS[0], "README.md", "exec"), names)
    record = names["trainer"].history[-1]
    assert record["clean_accuracy"] > 0.7
    assert record["robust_accuracy"] > 0.6
    assert len([line for line in BLOCKS[0].splitlines() if line]) == 10


def anchors_of(path: Path) -> set[str]:
    """Return what the headings of a page are called in links, as GitHub makes it."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", path.read_text(encoding="utf-8")):
        page = path.parent / target if target else path
        assert page.exists(), target
        assert not anchor or anchor in anchors_of(page), f"{target}#{anchor}"


def test_the_guide_names_what_history_holds() -> None:
    text = (ROOT / "docs/training.md").read_text(encoding="utf-8").partition("## What history holds")[2]
    named = " ".join(re.findall(r"^\| (`.*?) \|", text, flags=re.MULTILINE))
    keys = re.findall("`(.*?)`", named)
    assert sorted(keys) == sorted(EpochRecord.__annotations__)


def test_every_guide_is_listed() -> None:
    listed = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    for guide in (ROOT / "docs").glob("*.md"):
        assert guide.name == "README.md" or f"]({guide.name})" in listed


def test_the_readme_is_short() -> None:
    assert README.count("\n") < 160


def test_every_example_is_listed() -> None:
    listed = (ROOT / "examples/README.md").read_text(encoding="utf-8")
    for file in [*(ROOT / "examples").glob("*.py"), *(ROOT / "examples").glob("*.ipynb")]:
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
