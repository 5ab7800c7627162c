"""Trainings of every kind that save themselves: what `kill.py` and the tests run in processes of their own, and kill.

    python benchmarks/kill_case.py CASE RESULT [--folder FOLDER] [--epochs 8] [--die replace:3]
    python benchmarks/kill_case.py --serve                # forks a process for each line of such arguments in JSON

It prints "training", the epoch, the step in it and whether it was resumed when it begins to train, and at the end it
writes a fingerprint of all that the training left to RESULT. Without a FOLDER it trains in one go, and saves nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import random
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, Dataset

from art_gair import (
    AWP,
    EMA,
    TRADES,
    AdversarialTrainerGAIRAT,
    FriendlyPGD,
    GeometryAwarePGD,
    MarginWeighting,
    TanhWeighting,
    UniformWeighting,
)
from art_gair import generators as random_generators
from art_gair.engine.classifier import TensorClassifier
from art_gair.engine.model_state import live_state
from art_gair.plugins import Plugin
from art_gair.plugins.base import Run
from art_gair.plugins.checkpoint import Checkpoint
from art_gair.schedules import Piecewise

SEED, SAMPLES, BATCH, EPOCHS, SAVE_EVERY = 5, 640, 32, 8, 3
ATTACK: dict[str, Any] = {"eps": 0.2, "eps_step": 0.05, "max_iter": 5}
SGD = partial(torch.optim.SGD, lr=0.05, momentum=0.9)


@dataclass
class Training:
    """A training that is ready to begin.

    :param fit: takes nb_epochs, seed, resume and verbose.
    :param extra: each returns what, beside model, optimizer and history, is held against an uninterrupted training.
    """

    trainer: AdversarialTrainerGAIRAT
    fit: Callable[..., None]
    extra: dict[str, Callable[[], Any]] = field(default_factory=dict)


class Watch(Plugin):
    """Says when the training begins, and keeps a fingerprint of what can be seen at its end alone."""

    affects_training = False

    def start(self, classifier: TensorClassifier, optimizer: torch.optim.Optimizer) -> None:
        """Forget an earlier training."""
        self.module, self.begun = classifier.module, False
        self.end: dict[str, str] = {}

    def between_steps(self, run: Run) -> None:
        """Say where it begins."""
        if not self.begun:
            os.write(1, f"training {run.epoch} {run.batch} {run.resumed}\n".encode())
            self.begun = True

    def finish(self) -> None:
        """Note the model as it was trained, before EMA or keep_best give it another, and the random generators."""
        generators = random_generators.read(torch.device("cpu"))
        self.end = fingerprint({"trained": live_state(self.module), "generators": generators})


class Digits(Dataset[tuple[Tensor, int]]):
    """Images and their labels."""

    def __init__(self, x: Any, y: Any) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return torch.from_numpy(self.x[i]), int(self.y[i])


class VariedDigits(Digits):
    """Images that Python's, NumPy's and torch's generators vary each time they are asked for."""

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        shifted = np.roll(self.x[i], random.randint(-1, 1), axis=2)
        darker = torch.from_numpy(shifted * np.float32(np.random.uniform(0.8, 1.0)))
        return (darker + 0.05 * torch.rand(darker.shape)).clamp(0, 1), int(self.y[i])


def digits(start: int, end: int) -> tuple[Any, Any]:
    """Return some of scikit-learn's digits: (n, 1, 8, 8) in [0, 1], and their labels."""
    images, labels = load_digits(return_X_y=True)
    x = (images[start:end] / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    return x, labels[start:end].astype(np.int64)


def flipped(x: Tensor) -> Tensor:
    """Return the batch, about half of its images mirrored, as torch's generator has it."""
    return torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(3), x)


def make_trainer(
    watching: Sequence[Plugin],
    attack: type[GeometryAwarePGD] = GeometryAwarePGD,
    weighting: Any = None,
    plugins: Sequence[Plugin] = (),
    settings: dict[str, Any] | None = None,
    optimizer: Callable[..., torch.optim.Optimizer] = SGD,
    **others: Any,
) -> AdversarialTrainerGAIRAT:
    """Return a trainer of an untrained network with BatchNorm and dropout.

    :param settings: of the attack, beside ATTACK.
    """
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Flatten(), nn.Dropout(0.2), nn.Linear(512, 10)),
    )
    loss, kinds = nn.CrossEntropyLoss(), {"clip_values": (0.0, 1.0), "device_type": "cpu"}
    classifier = PyTorchClassifier(model, loss, (1, 8, 8), 10, optimizer(model.parameters()), **kinds)
    inner = attack(classifier, **ATTACK, **(settings or {}))
    weighting = TanhWeighting(-1.0) if weighting is None else weighting
    return AdversarialTrainerGAIRAT(classifier, inner, weighting, burn_in=2, plugins=[*watching, *plugins], **others)


def on_arrays(trainer: AdversarialTrainerGAIRAT, **settings: Any) -> Training:
    """Train on the first digits."""
    return Training(trainer, partial(trainer.fit, *digits(0, SAMPLES), batch_size=BATCH, **settings))


def on_loader(trainer: AdversarialTrainerGAIRAT, dataset: type[Digits], **settings: Any) -> Training:
    """Train on the first digits, shuffled by a DataLoader."""
    loader = DataLoader(dataset(*digits(0, SAMPLES)), BATCH, shuffle=True, **settings)
    own = loader.generator
    extra: dict[str, Callable[[], Any]] = {} if own is None else {"loader's generator": own.get_state}
    return Training(trainer, partial(trainer.fit_generator, loader), extra)


def gairat(watching: Sequence[Plugin]) -> Training:
    """The paper's method on arrays."""
    return on_arrays(make_trainer(watching))


def averaged(watching: Sequence[Plugin]) -> Training:
    """TRADES with AWP and EMA; raw model and average are validated, and the best of all epochs is kept."""
    ema = EMA(0.98, validate="both")
    settings: dict[str, Any] = {"objective": TRADES(6.0), "settings": TRADES.attack}
    trainer = make_trainer(watching, plugins=[AWP(0.01, start_epoch=1), ema], **settings)
    margin = GeometryAwarePGD(trainer.classifier, **ATTACK, loss="margin")
    training = on_arrays(trainer, validation_data=digits(640, 800), validation_attack=[margin], keep_best=True)
    training.extra = {"ema": ema.state_dict, "best epoch": lambda: trainer.best_epoch}
    return training


def friendly(watching: Sequence[Plugin]) -> Training:
    """FAT, whose samples may go on for more steps in later epochs."""
    tau = Piecewise(values=(0, 1, 2), starts=(2, 4))
    return on_arrays(make_trainer(watching, FriendlyPGD, UniformWeighting(), settings={"tau": tau}))


def in_bf16(watching: Sequence[Plugin]) -> Training:
    """GAIRAT whose passes are in bfloat16."""
    return on_arrays(make_trainer(watching, precision="bf16"))


def accumulated(watching: Sequence[Plugin]) -> Training:
    """Three batches a step, weighted by their margins, which takes the logits of all three beforehand."""
    return on_arrays(make_trainer(watching, weighting=MarginWeighting()), accumulate=3)


def one_cycle(watching: Sequence[Plugin]) -> Training:
    """A scheduler that is stepped after each batch, and moves AdamW's betas too."""
    trainer = make_trainer(watching, optimizer=partial(torch.optim.AdamW, lr=0.001))
    steps = EPOCHS * SAMPLES // BATCH
    scheduler = OneCycleLR(trainer.classifier.optimizer, max_lr=0.01, total_steps=steps)
    training = on_arrays(trainer, scheduler=scheduler)
    training.extra = {"scheduler": scheduler.state_dict}
    return training


def augmented(watching: Sequence[Plugin]) -> Training:
    """Images mirrored at random on their way to the attack."""
    return on_arrays(make_trainer(watching), augment=flipped)


def loader(watching: Sequence[Plugin]) -> Training:
    """A DataLoader that shuffles by torch's generator."""
    return on_loader(make_trainer(watching), Digits)


def seeded_loader(watching: Sequence[Plugin]) -> Training:
    """A DataLoader that shuffles by a generator of its own."""
    return on_loader(make_trainer(watching), Digits, generator=torch.Generator().manual_seed(1))


def varying_loader(watching: Sequence[Plugin]) -> Training:
    """A DataLoader whose images are varied by all global generators, in the trainer's own process."""
    return on_loader(make_trainer(watching), VariedDigits)


def loader_with_workers(watching: Sequence[Plugin]) -> Training:
    """A DataLoader whose two workers vary the images."""
    return on_loader(make_trainer(watching), VariedDigits, num_workers=2)


CASES: dict[str, Callable[[Sequence[Plugin]], Training]] = {
    "GAIRAT": gairat,
    "TRADES, AWP, EMA, keep_best": averaged,
    "FAT, tau schedule": friendly,
    "bf16": in_bf16,
    "accumulate=3, margins, dropout": accumulated,
    "OneCycleLR": one_cycle,
    "augment=": augmented,
    "DataLoader": loader,
    "DataLoader, own generator": seeded_loader,
    "DataLoader, random images": varying_loader,
    "DataLoader, random images, 2 workers": loader_with_workers,
}


def fingerprint(value: Any, place: str = "") -> dict[str, str]:
    """Return each value of nested containers by its place: tensors and arrays by type, shape and a hash of all bits."""
    if isinstance(value, dict):
        parts = {f"{place}.{key}" if place else str(key): entry for key, entry in value.items()}
    elif isinstance(value, (list, tuple)):
        parts = {f"{place}[{i}]": entry for i, entry in enumerate(value)}
    elif isinstance(value, (Tensor, np.ndarray)):
        tensor = torch.as_tensor(value).detach().contiguous()
        bits = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
        return {place: f"{tensor.dtype} {tuple(tensor.shape)} {hashlib.sha256(bits).hexdigest()}"}
    else:
        return {place: repr(sorted(value, key=repr) if isinstance(value, set) else value)}
    return {name: text for key, part in parts.items() for name, text in fingerprint(part, key).items()}


def train(case: str, folder: str | None, epochs: int) -> dict[str, str]:
    """Train, from the newest save in the folder if there is one, and return the fingerprint of what is left."""
    torch.set_num_threads(1)
    watch = Watch()
    saving = [] if folder is None else [Checkpoint(folder, every_batches=SAVE_EVERY)]
    training = CASES[case]([watch, *saving])
    training.fit(nb_epochs=epochs, seed=SEED, resume=folder is not None, verbose=False)
    trainer = training.trainer
    left = {
        "model": live_state(trainer.classifier.model),
        "optimizer": trainer.classifier.optimizer.state_dict(),
        "history": [{k: v for k, v in record.items() if k != "seconds"} for record in trainer.history],
        **{name: read() for name, read in training.extra.items()},
    }
    return watch.end | fingerprint(left)


def die_at(place: str) -> None:
    """Make this process kill itself while it saves: at its n-th call of fsync or replace, such as replace:3.

    With tear:3 half of what was to be synced is lost.
    """
    kind, _, last = place.partition(":")
    owner, name = (Path, "replace") if kind == "replace" else (os, "fsync")
    function, calls = getattr(owner, name), count(1)

    def call(*args: Any) -> Any:
        if next(calls) == int(last):
            if kind == "tear":
                os.ftruncate(args[0], os.fstat(args[0]).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args)

    setattr(owner, name, call)


def main(argv: Sequence[str] | None = None) -> None:
    """Train one case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("result", type=Path)
    parser.add_argument("--folder")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--die", help="fsync:N, replace:N or tear:N, at which call the process kills itself")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    if args.die is not None:
        die_at(args.die)
    args.result.write_text(json.dumps(train(args.case, args.folder, args.epochs)))


def serve() -> None:
    """Fork a process for each line; print its id before and its exit code, or its signal below 0, after it.

    torch and all that a trainer asks for are imported once, but nothing has been trained, so that no thread is lost in
    the fork. A line holds the arguments and the file for what the process writes to stderr.
    """
    torch.set_num_threads(1)
    gairat([])
    for line in sys.stdin:
        argv, log = json.loads(line)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), 2)
            os._exit(exit_code(argv))
        os.write(1, f"pid {pid}\n".encode())
        os.write(1, f"ended {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n".encode())


def exit_code(argv: Sequence[str]) -> int:
    """Return 1 for an exception, which it prints."""
    try:
        main(argv)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["--serve"] else main()
