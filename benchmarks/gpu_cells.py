"""What the GPU run measures: tests, peak rates, the fast view, and steps of ART's trainer and ours."""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch
from contenders import CONTENDERS, Work
from gpu_run import Cell
from gpu_steps import measure_steps
from measure import peak_rates
from torch import Tensor

from art_gair.engine import FastClassifier, FoldedModule
from art_gair.engine.classifier import TensorClassifier

ROOT = Path(__file__).resolve().parents[1]
PRECISIONS = ("fp32", "bf16")
WARM_UP_PASSES = 5
"""Forward passes in train mode, so that BatchNorm has statistics worth folding."""


@dataclass(frozen=True)
class Size:
    """How large the measurements are."""

    views: tuple[str, ...]
    steps: tuple[str, ...]
    batch: int
    max_iter: int
    seconds: float
    """Time that the timed steps of one visit should take."""


FULL = Size(("small_cnn", "resnet18", "wrn32_10", "vit"), ("resnet18", "wrn32_10"), 128, 10, seconds=3.0)
SMALL = Size(("small_cnn", "vit"), ("mlp",), batch=8, max_iter=2, seconds=0.1)


def planned_cells(args: Namespace) -> list[Cell]:
    """Return the cells in order of importance; the rounds over the steps alternate in direction."""
    size = SMALL if args.small else FULL
    parts: dict[str, Callable[[], Iterator[Cell]]] = {
        "tests": lambda: iter([Cell("tests", "tests marked gpu", {}, partial(run_tests, _gpu_tests(), args.minutes))]),
        "rates": lambda: (
            Cell("rates", precision, {"precision": precision}, partial(peak_rates, precision, args.device))
            for precision in PRECISIONS
        ),
        "views": lambda: _view_cells(size, args.device),
        "steps": lambda: _step_cells(size, args.device, args.repeats),
    }
    return [cell for part, cells in parts.items() if part in args.parts for cell in cells()]


def _view_cells(size: Size, device: str) -> Iterator[Cell]:
    for model in size.views:
        for allowed in (True, False):
            name = f"{model}, TF32 {'on' if allowed else 'off'}"
            call = partial(compare_view, Work(model, size.batch, "fp32", device), allowed)
            yield Cell("views", name, {"model": model, "tf32": allowed}, call)


def _step_cells(size: Size, device: str, repeats: int) -> Iterator[Cell]:
    def visits(model: str) -> list[Cell]:
        contenders = [(name, "fp32") for name in ("ART AT", "GAIRAT", "floor", "AT")]
        contenders[1:1] = [(name, "bf16") for name in ("GAIRAT", "floor", "AT")]
        cells = []
        for contender, precision in contenders:
            work = Work(model, size.batch, precision, device, size.max_iter)
            call = partial(measure_steps, work, CONTENDERS[contender], size.seconds)
            keys = {"model": model, "batch": size.batch, "contender": contender, "precision": precision}
            cells.append(Cell("steps", f"{model}, {contender}, {precision}", keys, call))
        return cells

    one_round = [cell for model in size.steps for cell in visits(model)]
    for i in range(repeats):
        yield from one_round[:: -1 if i % 2 else 1]
    if device == "cuda":
        yield _compiled(size)


def _compiled(size: Size) -> Cell:
    """A step of the first model through torch.compile, which takes its time to begin."""
    work = Work(size.steps[0], size.batch, "bf16", "cuda", size.max_iter, compile=True)
    call = partial(measure_steps, work, CONTENDERS["GAIRAT"], size.seconds)
    keys = {"model": work.model, "batch": work.batch, "contender": "GAIRAT, compiled", "precision": "bf16"}
    return Cell("steps", f"{work.model}, GAIRAT, bf16, compiled", keys, call, needs=120.0)


def _gpu_tests() -> list[Path]:
    """Test files that hold tests marked gpu; others need not be imported."""
    return [p for p in sorted((ROOT / "tests").rglob("test_*.py")) if "pytest.mark.gpu" in p.read_text("utf-8")]


def run_tests(paths: list[Path], minutes: float) -> dict[str, Any]:
    """Run the tests marked gpu in a process of its own; warnings of other versions of libraries do not fail them.

    :raises ModuleNotFoundError: if pytest or hypothesis is missing.
    :raises subprocess.TimeoutExpired: after half of the minutes.
    :raises RuntimeError: if pytest ends without a result, by its last lines.
    """
    import hypothesis  # noqa: F401  # what tests/conftest.py imports
    import pytest  # noqa: F401

    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.xml"
        options = ["-m", "gpu", "-q", "-W", "default", "-p", "no:cacheprovider", "--continue-on-collection-errors"]
        command = [sys.executable, "-m", "pytest", *options, f"--junit-xml={result}", *map(str, paths)]
        process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30 * minutes)
        output = (process.stdout + process.stderr)[-8000:]
        if not result.exists():
            raise RuntimeError(f"pytest ended with status {process.returncode}\n{output}")
        cases = list(ElementTree.parse(result).iter("testcase"))
    bad = [c for c in cases if c.find("failure") is not None or c.find("error") is not None]
    skipped = sum(c.find("skipped") is not None for c in cases)
    counts = {"passed": len(cases) - len(bad) - skipped, "failed": len(bad), "skipped": skipped}
    return counts | {"names of failed": [c.get("name") for c in bad], "output": output if bad else ""}


@contextmanager
def tf32_allowed(allowed: bool) -> Iterator[None]:
    """Allow or forbid TF32 in convolutions and matrix products."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


class _Lines(logging.Handler):
    """Keeps the messages of a logger."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def compare_view(work: Work, allowed: bool) -> dict[str, Any]:
    """Whether the fast view is taken, and how far its logits and gradients are from the model's.

    Beside it the model's own noise: how far it is from itself with TF32 forbidden. Differences of logits are relative
    to the largest logit, those of gradients to the gradient's length.
    """
    classifier = work.classifier()
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(work.batch, *classifier.input_shape, generator=generator).to(classifier.device)
    classifier.model.train()
    with torch.no_grad():
        for _ in range(WARM_UP_PASSES):
            classifier.model(x)
    fast, plain, logger, kept = FastClassifier(classifier), TensorClassifier(classifier), _logger(), _Lines()
    logger.addHandler(kept)
    try:
        with tf32_allowed(allowed):
            view, model = _answer(fast, x), _answer(plain, x)
    finally:
        logger.removeHandler(kept)
    with tf32_allowed(False):
        exact = _answer(plain, x)
    return _choice(fast) | {
        "log": kept.lines,
        "logits": _distance(view[0], model[0]),
        "gradients": _turn(view[1], model[1]),
        "model's noise, logits": _distance(model[0], exact[0]),
        "model's noise, gradients": _turn(model[1], exact[1]),
    }


def _logger() -> logging.Logger:
    return logging.getLogger("art_gair")


def _choice(fast: FastClassifier) -> dict[str, Any]:
    """What the engine has chosen to run attacks on."""
    assert fast.view is not None
    stand_in, form = fast.view.stand_in, fast.view.form
    taken = isinstance(stand_in, FoldedModule)
    folds = len(stand_in.folds) if isinstance(stand_in, FoldedModule) else 0
    return {"taken": taken, "folded": folds, "form": f"{form.dtype}, {form.memory_format}".replace("torch.", "")}


def _answer(classifier: TensorClassifier, x: Tensor) -> tuple[Tensor, Tensor]:
    """Logits as an attack sees them, and the input gradient of a sum over them that tells the classes apart."""
    z = x.clone().requires_grad_(True)
    with classifier.attacked(x) as logits:
        out = logits(z)
        total = (out * torch.linspace(-1.0, 1.0, out.shape[1], device=out.device)).sum()
        return out.detach(), torch.autograd.grad(total, z)[0]


def _distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


def _turn(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())
