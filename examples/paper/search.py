"""The search of PROTOCOL.md: one training a regime, candidate and seed; each writes a JSON file, and none is run twice.

    python examples/paper/search.py fashion cifar10 [--candidates at trades] [--seeds 0] [--share 1/2] [--test]
                                    [--results examples/paper/results] [--runs runs/paper]

It goes on where it was stopped: trainings are resumed from checkpoints in the folder of runs. `--share 1/2` takes every
second training, so that two processes can work side by side. `--test` reports with AutoAttack on the test images: for
finalists alone. Fashion-MNIST is looked for where Debian's package dataset-fashion-mnist puts it, or in $FASHION_MNIST,
the CIFAR-10 subset in $ART_GAIR_DATA.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from candidates import CANDIDATES, Candidate, K
from regimes import BATCH, REGIMES, Part, Regime, Split

from art_gair import Checkpoint, GeometryAwarePGD, evaluate_robustness

VALIDATIONS = 12
"""About so many times a training is validated."""

KEPT = (
    *("epoch", "loss", "train_robust_accuracy", "clean_accuracy", "robust_accuracy", "validated_model"),
    *("attack_passes", "effective_sample_size"),
)
"""What is kept of an epoch's record."""


def main(argv: list[str] | None = None) -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("regimes", nargs="+", choices=REGIMES)
    parser.add_argument("--candidates", nargs="+", choices=CANDIDATES, default=list(CANDIDATES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--share", default="1/1", help="which part of the trainings, such as 1/2")
    parser.add_argument("--test", action="store_true", help="report on the test images as well, with AutoAttack")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--runs", type=Path, default=Path("runs/paper"))
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    part, parts = map(int, args.share.split("/"))
    jobs = [(regime, name, seed) for regime in args.regimes for seed in args.seeds for name in args.candidates]
    for regime, name, seed in jobs[part - 1 :: parts]:
        run_once(regime, name, seed, args.results, args.runs, test=args.test)


def run_once(regime: str, name: str, seed: int, results: Path, runs: Path, *, test: bool = False) -> None:
    """Train and report, if the result is not there yet."""
    file = results / "search" / regime / f"{name}-{seed}.json"
    model = runs / regime / f"{name}-{seed}.pt"
    candidate, shared = CANDIDATES[name], REGIMES[regime]
    if not file.exists():
        began = time.perf_counter()
        classifier, found = train(candidate, shared, split_of(regime), seed, runs / regime / f"{name}-{seed}")
        torch.save(classifier.model.state_dict(), model)
        found = {"regime": regime, "candidate": name, "seed": seed, "settings": repr(candidate), **found}
        found["validation"] = report(classifier, split_of(regime).validation, shared, "quick")
        write(file, found)
        note(results, file, time.perf_counter() - began)
        print(f"{regime} {name} {seed}: validation {found['validation']['accuracy']}", flush=True)
    test_file = results / "test" / regime / f"{name}-{seed}.json"
    if test and not test_file.exists():
        began = time.perf_counter()
        classifier = shared.classifier(seed)
        classifier.model.load_state_dict(torch.load(model, weights_only=True))
        measured = report(classifier, split_of(regime).test, shared, "full")
        write(test_file, {"regime": regime, "candidate": name, "seed": seed, "test": measured})
        note(results, test_file, time.perf_counter() - began)
        print(f"{regime} {name} {seed}: test {measured['accuracy']}", flush=True)


@functools.cache
def split_of(regime: str) -> Split:
    """Return a regime's data, read once."""
    return REGIMES[regime].split()


def train(candidate: Candidate, regime: Regime, data: Split, seed: int, folder: Path) -> tuple[Any, dict[str, Any]]:
    """Train by the protocol, or go on with it; return the classifier and what the training says of itself."""
    classifier = regime.classifier(seed, candidate.smoothing)
    trainer = candidate.trainer(classifier, regime, [Checkpoint(folder, every=2, keep=1)])
    attack = GeometryAwarePGD(classifier, eps=regime.eps, eps_step=regime.eps / 4, max_iter=K)
    epochs = candidate.epochs(regime.passes)
    milestones = [epochs // 2, epochs * 3 // 4]
    trainer.fit(
        *data.train,
        validation_data=data.validation,
        validation_attack=[attack, attack.with_loss("margin")],
        validate_every=max(1, round(epochs / VALIDATIONS)),
        keep_best=True,
        batch_size=BATCH,
        nb_epochs=epochs,
        scheduler=torch.optim.lr_scheduler.MultiStepLR(classifier.optimizer, milestones),
        augment=augmentation(candidate, regime),
        seed=seed,
        resume=folder.exists(),
        verbose=False,
    )
    shutil.rmtree(folder)
    history = [{key: rounded(record[key]) for key in KEPT} for record in trainer.history]
    return classifier, {
        "epochs": epochs,
        "passes": rounded(epochs * candidate.cost),
        "best_epoch": trainer.best_epoch,
        "history": history,
    }


def augmentation(candidate: Candidate, regime: Regime) -> Any:
    """Return the augmentation of the training images, or None."""
    if candidate.idbh:
        from art_gair.augmentations import idbh_weak

        return idbh_weak(flip=regime.flips)
    return None if regime.augment is None else regime.augment()


def report(classifier: Any, part: Part, regime: Regime, preset: str) -> dict[str, Any]:
    """Return what the robustness report says of a model: accuracies in percent, and the flags."""
    found = evaluate_robustness(classifier, *part, regime.eps, preset=preset, verbose=False)
    right = found.clean.correct
    accuracy = {attack.name: float((right & ~attack.broken).mean()) for attack in found.attacks}
    accuracy = {"clean": found.clean_accuracy, **accuracy, "worst": found.worst_case}
    percent = {name: rounded(100 * value) for name, value in accuracy.items()}
    return {"n": len(part.y), "preset": preset, "accuracy": percent, "flags": [flag.name for flag in found.flags]}


def rounded(value: Any) -> Any:
    """Return a number to six digits after the point, anything else as it is."""
    return round(value, 6) if isinstance(value, float) else value


def write(file: Path, content: dict[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(content, indent=1) + "\n")
    part.replace(file)


def note(results: Path, file: Path, seconds: float) -> None:
    """Append a line on how long a result took, and on what machine."""
    machine = f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores"
    line = f"{file.relative_to(results)}\t{seconds:.0f} s\t{machine}, torch {torch.__version__}\n"
    with (results / "times.tsv").open("a") as times:
        times.write(line)


if __name__ == "__main__":
    main()
