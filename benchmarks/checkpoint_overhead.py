"""What saving costs: the time of one save of a ResNet-18 against that of an epoch on 50,000 images.

    python benchmarks/checkpoint_overhead.py [--device cpu] [--steps 2] [--saves 5] [--batch 128] [--folder FOLDER]

SGD with momentum, EMA, GAIRAT with 10 steps of PGD on 32x32 random images: a step's time does not depend on them. Steps
and saves are timed inside one `fit`, from one `between_steps` to the next; the first step is left out. An epoch is
390.6 times the median step. A save is all that a Checkpoint does: reading the state, hashing, writing, syncing to disk.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from measure import environment, synchronize
from models import ResNet18

from art_gair import EMA, AdversarialTrainerGAIRAT
from art_gair.plugins import Plugin
from art_gair.plugins.base import Run
from art_gair.plugins.checkpoint import Checkpoint

IMAGES = 50_000


class Timer(Plugin):
    """Notes the time between two looks at a training at rest; saves `saves` times at its end, timing each."""

    affects_training = False

    def __init__(self, saving: Checkpoint, saves: int, device: str) -> None:
        self.saving, self.saves, self.device = saving, saves, device
        self.began = 0.0
        self.step_seconds: list[float] = []
        self.save_seconds: list[float] = []

    def between_steps(self, run: Run) -> None:
        """Note the time of the step; at the end of the training that of saves."""
        synchronize(self.device)
        if run.batch > 0:
            self.step_seconds.append(time.perf_counter() - self.began)
        for _ in range(self.saves if run.done else 0):
            began = time.perf_counter()
            self.saving._save(run)
            self.save_seconds.append(time.perf_counter() - began)
        self.began = time.perf_counter()


def measure(device: str, steps: int, saves: int, batch: int, folder: str) -> tuple[float, float, int]:
    """Return the seconds of a step and of a save, medians, and the bytes of a save."""
    torch.manual_seed(0)
    model = ResNet18()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    kinds = {"clip_values": (0.0, 1.0), "device_type": "gpu" if device == "cuda" else "cpu"}
    classifier = PyTorchClassifier(model, nn.CrossEntropyLoss(), (3, 32, 32), 10, optimizer, **kinds)
    saving = Checkpoint(folder)
    timer = Timer(saving, saves, device)
    trainer = AdversarialTrainerGAIRAT(classifier, burn_in=0, plugins=[saving, EMA(), timer])
    n = batch * (steps + 1)
    generator = np.random.default_rng(0)
    x, y = generator.random((n, 3, 32, 32), dtype=np.float32), generator.integers(0, 10, n)
    trainer.fit(x, y, batch_size=batch, nb_epochs=1)
    size = max(path.stat().st_size for path in Path(folder).glob("*.checkpoint"))
    return median(timer.step_seconds[1:]), median(timer.save_seconds), size


def main(argv: list[str] | None = None) -> None:
    """Measure, and print seconds, bytes and the share."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=2, help="that are timed, after one to warm up")
    parser.add_argument("--saves", type=int, default=5)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--folder", type=Path, help="on the disk to measure; a temporary one by default")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        step, save, size = measure(args.device, args.steps, args.saves, args.batch, folder)
    epoch = step * IMAGES / args.batch
    print(", ".join(f"{name} {value}" for name, value in environment(args.device).items()))
    print(f"a step of {args.batch} images {step:.3g} s, an epoch of {IMAGES:,} {epoch:,.0f} s")
    print(f"a save {save:.3g} s, {size / 2**20:.1f} MiB: {100 * save / epoch:.3g} % of the epoch")


if __name__ == "__main__":
    main()
