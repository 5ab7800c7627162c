"""What Kornia's crop and flip cost on a batch of CIFAR-10's size, beside one PGD step of SmallCNN.

    python benchmarks/augmentation.py [--batch 128] [--threads 1] [--rounds 9] [--device cpu] [--out FOLDER]

One process, alternating; medians. "Slice" is Kornia's default way to crop, "resample" that of the examples.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import median

import torch
from art.estimators.classification import PyTorchClassifier
from kornia.augmentation import RandomCrop, RandomHorizontalFlip
from measure import environment, seconds
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from models import SmallCNN

from art_gair import GeometryAwarePGD
from art_gair.attacks.art_attack import as_inner_attack
from art_gair.attacks.base import Perturb
from art_gair.augmentations import crop_and_flip
from art_gair.engine.fast import FastClassifier

STEPS = 10


def attack_of(device: str) -> Perturb:
    """Return PGD as a training runs it: a fresh SmallCNN, 10 steps."""
    model = SmallCNN()
    kind = "gpu" if device == "cuda" else "cpu"
    classifier = PyTorchClassifier(
        model, nn.CrossEntropyLoss(), (3, 32, 32), 10, clip_values=(0.0, 1.0), device_type=kind
    )
    attack = GeometryAwarePGD(classifier, eps=8 / 255, eps_step=2 / 255, max_iter=STEPS)
    perturb: Perturb = as_inner_attack(attack).on_batches(FastClassifier(classifier), 0)
    return perturb


def milliseconds(x: Tensor, labels: Tensor, rounds: int) -> dict[str, float]:
    """Time all in turn, after two rounds to warm up."""
    device = x.device.type
    perturb = attack_of(device)
    slices = nn.Sequential(RandomCrop((32, 32), padding=4), RandomHorizontalFlip())
    resample = crop_and_flip()
    calls = {
        "Kornia's crop and flip, slice": (lambda: slices(x), 1),
        "Kornia's crop and flip, resample": (lambda: resample(x), 1),
        "one PGD step of SmallCNN": (lambda: perturb(x, labels), STEPS),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for i in range(rounds + 2):
        for name, (call, parts) in calls.items():
            taken = seconds(call, device) / parts
            if i > 1:
                times[name].append(1e3 * taken)
    return {name: median(of_one) for name, of_one in times.items()}


def main(argv: list[str] | None = None) -> None:
    """Time, and write augmentation.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    x = torch.rand(args.batch, 3, 32, 32, device=args.device)
    labels = torch.randint(10, (args.batch,), device=args.device)
    found = milliseconds(x, labels, args.rounds)
    step = found["one PGD step of SmallCNN"]
    facts = environment(args.device)
    lines = [
        "# Crop and flip by Kornia\n",
        f"Batch {args.batch}, images (3, 32, 32), float32, medians of {args.rounds}; {facts['device']} "
        f"({facts['capability']}), torch {facts['torch']}.\n",
        "| what | ms | PGD steps |",
        "|---|--:|--:|",
        *(f"| {name} | {ms:.2f} | {ms / step:.3f} |" for name, ms in found.items()),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "augmentation.md").write_text(text)


if __name__ == "__main__":
    main()
