"""One training by the protocol, and what the report says of it: written once, as JSON, and then remembered."""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from candidates import AWP_GAMMA, CANDIDATES, EMA_DECAY, Candidate, K
from matplotlib.figure import Figure
from regimes import BATCH, REGIMES, Part, Regime, Split

from art_gair import Checkpoint, GeometryAwarePGD, UniformWeighting, evaluate_robustness
from art_gair.plugins import Plugin
from art_gair.storage.lock import LockedError

VALIDATIONS = 12
"""About so many times a training is validated."""

PROTOCOL = f"{VALIDATIONS} validations after the burn-in, K {K}, EMA {EMA_DECAY}, AWP {AWP_GAMMA}"
"""What all trainings have in common."""

KEPT = (
    *("epoch", "loss", "train_robust_accuracy", "clean_accuracy", "robust_accuracy", "validated_model"),
    *("kappa_histogram", "attack_passes", "effective_sample_size"),
)
"""What is kept of an epoch's record."""

SEEDS = [0, 1, 2]
"""Of the methods' table and of robust overfitting."""

RESULTS = Path(__file__).parent / "results"
"""The results that RESULTS.md tells of."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One training.

    :param last: whether the model of the last epoch is reported on as well, beside the one that validation chose.
    :param test: whether the test images are reported on, with AutoAttack, or validation images by the quick preset.
    """

    regime: str
    candidate: str
    seed: int = 0
    last: bool = False
    test: bool = False

    def named(self) -> Json:
        """Return what the training depends on."""
        settings = {"settings": repr(CANDIDATES[self.candidate]), "regime_settings": REGIMES[self.regime].settings()}
        return {"regime": self.regime, "candidate": self.candidate, "seed": self.seed, **settings, "protocol": PROTOCOL}

    def model(self, runs: Path) -> Path:
        """Return where the trained model stands, until its report is written and after."""
        return runs / self.regime / f"{self.candidate}-{self.seed}.pt"

    def file(self, results: Path) -> Path:
        """Return where the result stands."""
        kind = "test" if self.test else "last" if self.last else "search"
        return results / kind / self.regime / f"{self.candidate}-{self.seed}.json"


class LastModel(Plugin):
    """Keeps the trained model of the last epoch, where `keep_best` ends with another."""

    affects_training = False

    def start(self, classifier: Any, optimizer: Any) -> None:
        """Begin with the model as it is."""
        self.module = classifier.module
        self.state: Json = {}

    def state_dict(self) -> Json:
        """Return the model of the last epoch."""
        return {"state": self.state}

    def load_state_dict(self, state: Json) -> None:
        """Take it over."""
        self.state = state["state"]

    def end_epoch(self, record: Mapping[str, Any]) -> None:
        """Copy the weights and buffers."""
        self.state = {name: value.detach().clone() for name, value in self.module.state_dict().items()}


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Return the arguments that all scripts take."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--share", default="1/1", help="which part of the work, such as 1/2: for two processes at once")
    made.add_argument("--results", type=Path, default=RESULTS, help="JSON files and figures; of digits RUNS/results")
    made.add_argument("--runs", type=Path, default=Path("runs/paper"), help="checkpoints and models")
    return made


def results_of(args: argparse.Namespace) -> Path:
    """Return where results go: those of the digits, a look at the scripts, never beside those of RESULTS.md."""
    results: Path = args.results
    regimes = {getattr(args, "form", None), *getattr(args, "regimes", ())} - {None}
    if "digits" not in regimes or results != RESULTS:
        return results
    if len(regimes) > 1:
        raise SystemExit("--regimes has digits, a look at the scripts, beside others; run it alone, or give --results.")
    return Path(args.runs / "results")


def save_figure(figure: Figure, file: Path) -> None:
    """Save a figure, and say where."""
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=130)
    print(f"\nresults in {file.parent}, drawn in {file.name}")


def share_of(work: Sequence[Any], share: str) -> Sequence[Any]:
    """Return every n-th of the work, from the i-th on, for a share i/n."""
    match = re.fullmatch(r"(\d+)/(\d+)", share)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise SystemExit(f"--share is {share}; expected i/n with i from 1 to n.")
    return work[int(match[1]) - 1 :: int(match[2])]


def run_all(jobs: Sequence[Job], args: argparse.Namespace) -> None:
    """Run what is missing of this process's share, and say how long it may take."""
    torch.set_num_threads(1)
    there = read_all(jobs, args.results)
    missing = [job for job in share_of(jobs, args.share) if job not in there]
    passes = sum(len(split_of(job.regime).train.y) * REGIMES[job.regime].passes for job in missing)
    if missing:
        print(f"{len(missing)} trainings of {passes:,.0f} passes in all; after the first it says how long they take")
    began = time.perf_counter()
    for done, job in enumerate(missing):
        name = f"{job.regime} {job.candidate} {job.seed}"
        try:
            found = run_once(job, args.results, args.runs)
        except LockedError:
            print(f"{name}: another process trains it now; it is left to that one", flush=True)
            continue
        minutes = (time.perf_counter() - began) / (done + 1) * (len(missing) - done - 1) / 60
        figures = ", ".join(f"{measure} {value:.1f}" for measure, value in found["accuracy"].items())
        print(f"{name}: {figures} %; about {minutes:.0f} min left", flush=True)


def run_once(job: Job, results: Path, runs: Path) -> Json:
    """Train and report, if the result is not there yet; return the report on the model that validation chose."""

    def compute() -> Json:
        regime, split = REGIMES[job.regime], split_of(job.regime)
        classifier = regime.classifier(job.seed, CANDIDATES[job.candidate].smoothing)
        saved = trained(classifier, job, runs)
        part, preset = ("test", "full") if job.test else ("validation", "quick")
        found = {**saved["training"], part: report(classifier, getattr(split, part), regime, preset)}
        if job.last:
            classifier.model.load_state_dict(saved["last"])
            found["last"] = report(classifier, getattr(split, part), regime, preset)
        return found

    chosen: Json = remembered(job.file(results), results, job.named(), compute)["test" if job.test else "validation"]
    return chosen


def trained(classifier: Any, job: Job, runs: Path) -> Json:
    """Put the trained model into the classifier; return it, that of the last epoch, and what the training says.

    A model that a stopped report left, or another report on the same training, is not trained again.
    """
    file = job.model(runs)
    saved: Json = torch.load(file, weights_only=True) if file.exists() else {}
    if differing(saved.get("training", {}), job.named()):
        saved = train(classifier, job, runs)
        part = file.with_suffix(".part")
        torch.save(saved, part)
        part.replace(file)
    shutil.rmtree(checkpoints_of(job, runs), ignore_errors=True)
    classifier.model.load_state_dict(saved["model"])
    return saved


def differing(found: Json, named: Json) -> list[str]:
    """Return what a result depends on otherwise than it would now."""
    return [name for name, value in named.items() if found.get(name) != value]


def all_seeds(args: argparse.Namespace) -> list[int]:
    """Return the seeds that a table and a figure are made of as far as they are there: those of other calls as well."""
    return sorted({*SEEDS, *args.seeds})


def read_all(jobs: Sequence[Job], results: Path) -> dict[Job, Json]:
    """Return the results that are there already, each with its kind of processor; those of another end the script."""
    there = [(job, job.file(results)) for job in jobs if job.file(results).exists()]
    kinds = {file: machine.split(", ")[1] for file, _, machine in read_times(results)}
    return {
        job: {**read(file, job.named()), "processor": kinds.get(str(file.relative_to(results)), "?")}
        for job, file in there
    }


def read_times(results: Path) -> list[tuple[str, float, str]]:
    """Return file, seconds and machine of each result that was written, in that order."""
    times = results / "times.tsv"
    lines = [line.split("\t") for line in times.read_text().splitlines()] if times.exists() else []
    return [(file, float(seconds.removesuffix(" s")), machine) for file, seconds, machine in lines]


def read(file: Path, named: Json) -> Json:
    """Return the result in a file; one of another training ends the script.

    :param named: what the result depends on, which is in it.
    """
    found: Json = json.loads(file.read_text())
    for name in differing(found, named):
        raise SystemExit(
            f"{file} is of another training. Its {name}: {found.get(name)}; now: {named[name]}. Move it away, or give "
            "another folder as --results."
        )
    return found


def remembered(file: Path, results: Path, named: Json, compute: Callable[[], Json]) -> Json:
    """Return what a file holds; if it is not there, compute and write it, and note the time in times.tsv.

    :param named: see `read`.
    """
    if not file.exists():
        began = time.perf_counter()
        content = {**named, **compute()}
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        part.write_text(json.dumps(content) + "\n")
        part.replace(file)
        machine = f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores"
        with (results / "times.tsv").open("a") as times:
            seconds = time.perf_counter() - began
            times.write(f"{file.relative_to(results)}\t{seconds:.0f} s\t{machine}, torch {torch.__version__}\n")
    return read(file, named)


@functools.cache
def split_of(regime: str) -> Split:
    """Return a regime's data, read once."""
    REGIMES[regime].require_device()
    return REGIMES[regime].split()


def first_validated(candidate: Candidate, epochs: int) -> int:
    """Return the epoch from which models are compared: with weights, the first after the burn-in, or the last."""
    if isinstance(candidate.weighting, UniformWeighting):
        return 0
    return min(round(candidate.burn_in * epochs), epochs - 1)


def checkpoints_of(job: Job, runs: Path) -> Path:
    """Return the folder of a training's checkpoints."""
    return job.model(runs).with_suffix("")


def train(classifier: Any, job: Job, runs: Path) -> Json:
    """Train by the protocol, or go on with it; return the models and what the training says of itself."""
    regime, candidate = REGIMES[job.regime], CANDIDATES[job.candidate]
    data, folder, last = split_of(job.regime), checkpoints_of(job, runs), LastModel()
    trainer = candidate.trainer(classifier, regime, [Checkpoint(folder, keep=1), last])
    judge = GeometryAwarePGD(classifier, eps=regime.eps, eps_step=regime.eps / 4, max_iter=K)
    epochs = candidate.epochs(regime.passes)
    trainer.fit(
        *data.train,
        validation_data=data.validation,
        validation_attack=[judge, judge.with_loss("margin")],
        validate_every=max(1, round(epochs / VALIDATIONS)),
        validate_from=first_validated(candidate, epochs),
        keep_best=True,
        batch_size=BATCH,
        nb_epochs=epochs,
        scheduler=scheduler_of(classifier, regime, epochs),
        augment=augmentation(candidate, regime),
        seed=job.seed,
        resume=folder.exists(),
        verbose=False,
    )
    training = {
        **job.named(),  # also with the model, which may be taken without its result
        "epochs": epochs,
        "passes": rounded(epochs * candidate.cost),
        "best_epoch": trainer.best_epoch,
        "history": [{key: rounded(record[key]) for key in KEPT} for record in trainer.history],
    }
    return {"training": training, "model": classifier.model.state_dict(), "last": last.state}


def scheduler_of(classifier: Any, regime: Regime, epochs: int) -> Any:
    """Return the regime's schedule of the learning rate."""
    milestones = [int(share * epochs) for share in regime.milestones]
    return torch.optim.lr_scheduler.MultiStepLR(classifier.optimizer, milestones)


def augmentation(candidate: Candidate, regime: Regime) -> Any:
    """Return the augmentation of the training images, or None."""
    if candidate.idbh:
        from art_gair.augmentations import idbh_weak

        return idbh_weak(flip=regime.flips)
    return None if regime.augment is None else regime.augment()


def report(classifier: Any, part: Part, regime: Regime, preset: str) -> Json:
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
