"""An evaluation never copies its data as a whole."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from art_gair import evaluate_robustness
from tests.models import classifier_of

ROOT = Path(__file__).parents[2]
STATUS = Path("/proc/self/status")
SIDE = 1024
N = 128
"""Images of 4 MiB each, 512 MiB in all."""


def anonymous_memory() -> int:
    """Return the bytes of memory that are no file's pages."""
    match = re.search(r"RssAnon:\s*(\d+) kB", STATUS.read_text())
    assert match is not None
    return int(match[1]) * 1024


class Corner(nn.Module):
    """Looks at a few pixels, and notes the most memory that there ever was."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)
        self.peak = [0]

    def forward(self, x: Tensor) -> Tensor:
        self.peak[0] = max(self.peak[0], anonymous_memory())
        out: Tensor = self.linear(x[:, 0, :2, :2].flatten(1))
        return out


def measure_growth(folder: Path) -> tuple[int, int]:
    """Evaluate a memory map; return how much memory that took at most, and the size of the map, in bytes."""
    shape = (N, 1, SIDE, SIDE)
    np.memmap(folder / "x.dat", np.float32, "w+", shape=shape).flush()
    x = np.memmap(folder / "x.dat", np.float32, "r", shape=shape)
    torch.manual_seed(0)
    model = Corner()
    classifier = classifier_of(model, (1, SIDE, SIDE), 2, optimizer=None)
    predicted = int(classifier.predict(np.array(x[:1])).argmax())
    y = np.full(N, 1 - predicted)
    y[:2] = predicted  # two samples are attacked, all are classified
    before = anonymous_memory()
    model.peak[0] = 0
    report = evaluate_robustness(classifier, x, y, 0.1, batch_size=1, verbose=False)
    assert report.clean.correct.sum() == 2
    return model.peak[0] - before, x.nbytes


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.exists(), reason="needs /proc/self/status")
def test_a_memory_map_is_evaluated_in_a_fraction_of_its_size(tmp_path: Path) -> None:
    """In a process of its own: what other tests have freed and the allocator has kept would count too."""
    measure = f"print(*measure_growth(Path({str(tmp_path)!r})))"
    script = f"from pathlib import Path; from tests.evaluation.test_memory import measure_growth; {measure}"
    process = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    growth, size = map(int, process.stdout.split())
    assert growth < size / 2
