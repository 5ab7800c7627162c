"""The benchmarks run, the GPU's included, on a CPU and at sizes where their figures mean nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import zipfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import gpu
import pytest
import torch
from gpu_cells import run_tests
from gpu_run import Cell, run_cells
from gpu_steps import WatchedWork, counted_syncs, measure_steps
from gpu_table import headline
from vit import VisionTransformer

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no NVIDIA GPU here")


def arguments(out: Path, minutes: float = 10.0) -> Namespace:
    return gpu.parse(["--device", "cpu", "--small", "--minutes", str(minutes), "--out", str(out)])


def read(out: Path) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads((out / "gpu.json").read_text())["cells"]
    return cells


@pytest.mark.slow
def test_the_gpu_run_measures_views_and_steps(tmp_path: Path) -> None:
    command = ["--device", "cpu", "--small", "--repeats", "1", "--parts", "views", "steps", "--out", str(tmp_path)]
    subprocess.run([sys.executable, str(BENCHMARKS / "gpu.py"), *command], check=True, capture_output=True)
    cells = read(tmp_path)
    assert {cell["status"] for cell in cells} == {"measured"}
    views = [cell["result"] for cell in cells if cell["part"] == "views"]
    assert all(view["taken"] for view in views)
    assert max(view["logits"] for view in views) < 1e-4
    steps = {(c["keys"]["contender"], c["keys"]["precision"]): c["result"] for c in cells if c["part"] == "steps"}
    assert set(steps) == {("ART AT", "fp32")} | {(n, p) for n in ("AT", "GAIRAT", "floor") for p in ("fp32", "bf16")}
    assert all(step["seconds a step"] > 0 and step["timed steps"] >= 4 for step in steps.values())
    assert steps["floor", "fp32"]["host syncs a step"] == 0 < steps["ART AT", "fp32"]["host syncs a step"]
    page = (tmp_path / "gpu.md").read_text()
    assert "no figure here is one of a GPU" in page
    assert "| mlp | 8 | GAIRAT | bf16 |" in page


def test_a_cell_that_fails_is_recorded_and_the_rest_goes_on(tmp_path: Path) -> None:
    seen: list[str] = []

    def break_down() -> dict[str, Any]:
        raise RuntimeError("out of memory")

    def look_at_the_disk() -> dict[str, Any]:
        seen.extend(cell["error"] for cell in read(tmp_path))
        return {"passed": 1, "failed": 0, "skipped": 0, "names of failed": []}

    cells = [Cell("steps", "breaks", {}, break_down), Cell("tests", "works", {}, look_at_the_disk)]
    assert run_cells(cells, arguments(tmp_path)) == 1
    assert seen == ["RuntimeError: out of memory"]
    first, second = read(tmp_path)
    assert "break_down" in first["traceback"]
    assert second["status"] == "measured"
    assert "| steps | breaks | failed: RuntimeError: out of memory |" in (tmp_path / "gpu.md").read_text()
    assert not list(tmp_path.glob("*.part"))


def test_a_cell_begins_only_if_it_can_end_in_time(tmp_path: Path) -> None:
    def take_a_while() -> dict[str, Any]:
        time.sleep(0.2)
        return {"convolution": 1.0}

    cells = [Cell("rates", "same", {}, take_a_while)] * 2 + [Cell("rates", "other", {}, take_a_while, needs=60.0)]
    assert run_cells(cells, arguments(tmp_path, minutes=0.3 / 60)) == 0
    assert [cell["status"] for cell in read(tmp_path)] == ["measured", "skipped", "skipped"]
    gaps = (tmp_path / "gpu.md").read_text().partition("Failed or skipped")[2]
    assert "| rates | other | skipped: too little time left" in gaps
    assert "same" not in gaps  # it has been measured once


def test_the_tests_of_a_run_are_counted_and_failures_named(tmp_path: Path) -> None:
    mark = "import pytest\npytestmark = pytest.mark." + "gpu\n"
    bodies = {"passes": "pass", "fails": "assert False", "skips": "pytest.skip()"}
    path = tmp_path / "test_planted.py"
    path.write_text(mark + "\n".join(f"def test_{name}():\n    {body}\n" for name, body in bodies.items()))
    counts = run_tests([path], minutes=1.0)
    assert (counts["passed"], counts["failed"], counts["skipped"]) == (1, 1, 1)
    assert counts["names of failed"] == ["test_fails"]
    assert "assert False" in counts["output"]
    record = {"part": "tests", "status": "measured", "result": counts}
    assert headline(record) == "1 passed, 1 failed (test_fails), 1 skipped"


def test_steps_that_are_not_taken_are_no_measurement() -> None:
    work = WatchedWork("mlp", 8, "fp32", "cpu", 2)
    with pytest.raises(RuntimeError, match="took 0 steps in 6 batches"):
        measure_steps(work, lambda work: lambda: None, 0.1)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, needs_gpu])])
def test_a_host_sync_is_counted_by_its_line(device: str) -> None:
    x = torch.ones((), device=device)
    with counted_syncs(device) as syncs:
        for _ in range(3):
            float(x)
        y = x + 1
    float(y)
    assert list(syncs.values()) == [3]
    assert next(iter(syncs)).rpartition(":")[0].endswith("tests/test_benchmarks.py")


def test_wheels_of_pure_python_are_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "thing-1.0-py3-none-any.whl", "w") as file:
        file.writestr("thing/__init__.py", "VALUE = 3\n")
    gpu.unpack_wheels(tmp_path, tmp_path / "unpacked")
    assert (tmp_path / "unpacked/thing/__init__.py").read_text() == "VALUE = 3\n"


def test_wheels_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no wheel"):
        gpu.unpack_wheels(tmp_path, tmp_path / "unpacked")
    (tmp_path / "numpy-2.2.6-cp311-cp311-manylinux_2_17_x86_64.whl").touch()
    with pytest.raises(ValueError, match="expected wheels of pure Python"):
        gpu.unpack_wheels(tmp_path, tmp_path / "unpacked")


def test_figures_of_a_cpu_do_not_go_where_those_of_a_gpu_do() -> None:
    assert gpu.parse(["--device", "cpu"]).out == BENCHMARKS.parent / "runs/gpu"
    assert gpu.parse([]).out == BENCHMARKS / "results"


def test_without_a_gpu_the_run_says_so(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--out", str(tmp_path)]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 1
    assert process.stderr == "torch finds no GPU here. --device cpu --small proves the script without one.\n"
    assert not list(tmp_path.iterdir())


def test_the_transformer_is_the_size_it_says() -> None:
    model = VisionTransformer()
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(5.4e6, rel=0.01)
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 10)


def test_the_side_by_side_table_names_what_was_not_measured() -> None:
    import write  # needs matplotlib, which tests on a GPU go without

    work = {"model": "small_cnn", "batch": 64, "precision": "fp32", "compile": False}
    cell = {"work": work, "seconds": {"ART AT": [3.0, 2.0, 4.0], "AT": [1.0]}, "memory": {}, "flops": 1e9, "peak": {}}
    row = dict(zip(write.HEAD, write.row(cell), strict=True))
    assert row["ART's AT, s a step"] == "3"
    assert row["AT, times faster"] == "3.00 x"
    assert {row["GAIRAT, s a step"], row["of the convolution's peak"]} == {write.NOT_MEASURED}
