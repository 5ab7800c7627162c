"""What is timed: ART's trainers and attack, ours, and the floor below which no trainer of the kind can go.

Each contender has a classifier of its own, made alike, and does the same work when called: an epoch of `steps` batches.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from art.attacks.evasion import ProjectedGradientDescentPyTorch
from art.defences.trainer import AdversarialTrainer, AdversarialTrainerTRADESPyTorch
from art.estimators.classification import PyTorchClassifier
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode
from vit import VisionTransformer

from art_gair import TRADES, AdversarialTrainerGAIRAT, BoundaryPGD, GeometryAwarePGD, UniformWeighting
from art_gair.engine import FoldedModule
from art_gair.engine.classifier import TensorClassifier
from art_gair.engine.form import Form
from art_gair.engine.precision import compute_dtype

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from models import ResNet18, SmallCNN, wide_resnet

EPS, EPS_STEP, BETA = 8 / 255, 2 / 255, 6.0
FEATURES = 64


def tabular_mlp() -> nn.Module:
    """A small network for tables of 64 features: two hidden layers of 128, BatchNorm behind each."""
    layers = [nn.Linear(FEATURES, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 128), nn.BatchNorm1d(128)]
    return nn.Sequential(*layers, nn.ReLU(), nn.Linear(128, 10))


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "mlp": (tabular_mlp, (FEATURES,), 20),
    "small_cnn": (SmallCNN, (3, 32, 32), 4),
    "resnet18": (ResNet18, (3, 32, 32), 1),
    "wrn16_4": (lambda: wide_resnet(blocks=2, widen=4), (3, 32, 32), 1),
    "wrn28_10": (lambda: wide_resnet(blocks=4, widen=10), (3, 32, 32), 1),
    "wrn32_10": (wide_resnet, (3, 32, 32), 1),
    "vit": (VisionTransformer, (3, 32, 32), 1),
}
"""The model, the shape of its inputs, and how many batches are timed as one."""


@dataclass(frozen=True)
class Work:
    """One cell of the table."""

    model: str
    batch: int
    precision: str
    device: str
    max_iter: int = 10
    compile: bool = False
    fit_of: int | None = None

    @cached_property
    def steps(self) -> int:
        """Batches in one timed call: `fit_of`, or a few; fewer small ones would time the start of `fit`."""
        if self.fit_of is not None:
            return self.fit_of
        return MODELS[self.model][2] * (2 if self.batch < 64 else 1)

    def data(self) -> tuple[Any, Any]:
        """Return uniform noise: a pass costs the same whatever it sees."""
        rng = np.random.default_rng(0)
        n = self.steps * self.batch
        return rng.random((n, *MODELS[self.model][1]), dtype=np.float32), rng.integers(10, size=n)

    def classifier(self) -> PyTorchClassifier:
        """Return an untrained classifier, the same each time."""
        torch.manual_seed(0)
        build, shape, _ = MODELS[self.model]
        model = build()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=2e-4)
        device_type = "gpu" if self.device == "cuda" else "cpu"
        return PyTorchClassifier(
            model, nn.CrossEntropyLoss(), shape, 10, optimizer, clip_values=(0.0, 1.0), device_type=device_type
        )

    def step_flops(self) -> float:
        """Floating-point operations of an AT step: K forwards and input gradients, one update; 2K + 3 forwards."""
        build, shape, _ = MODELS[self.model]
        with FlopCounterMode(display=False) as counter, torch.no_grad(), torch.device("meta"):
            build().eval()(torch.rand(self.batch, *shape))
        return (2 * self.max_iter + 3) * float(counter.get_total_flops())


Timed = Callable[[], None]


def _art_attack(work: Work, classifier: PyTorchClassifier) -> ProjectedGradientDescentPyTorch:
    return ProjectedGradientDescentPyTorch(
        classifier,
        **{"eps": EPS, "eps_step": EPS_STEP, "max_iter": work.max_iter, "num_random_init": 1},
        **{"batch_size": work.batch, "verbose": False},
    )


def _our_attack(
    work: Work, classifier: PyTorchClassifier, kind: type[GeometryAwarePGD] = GeometryAwarePGD, **settings: Any
) -> GeometryAwarePGD:
    settings = {"eps": EPS, "eps_step": EPS_STEP, "max_iter": work.max_iter, "batch_size": work.batch, **settings}
    return kind(classifier, **settings)


def art_at(work: Work) -> Timed:
    """ART's AdversarialTrainer with its PyTorch PGD, every example adversarial."""
    classifier, (x, y) = work.classifier(), work.data()
    trainer = AdversarialTrainer(classifier, _art_attack(work, classifier), ratio=1.0)
    return lambda: trainer.fit(x, y, batch_size=work.batch, nb_epochs=1)


def art_trades(work: Work) -> Timed:
    """ART's TRADES trainer."""
    classifier, (x, y) = work.classifier(), work.data()
    trainer = AdversarialTrainerTRADESPyTorch(classifier, _art_attack(work, classifier), BETA)
    return lambda: trainer.fit(x, y, batch_size=work.batch, nb_epochs=1)


def art_pgd(work: Work) -> Timed:
    """ART's PGD on its own."""
    attack, (x, y) = _art_attack(work, work.classifier()), work.data()
    return lambda: attack.generate(x, y)


def _ours(work: Work, weighting: Any, objective: Any = None, **attack_settings: Any) -> Timed:
    classifier, (x, y) = work.classifier(), work.data()
    attack = _our_attack(work, classifier, **attack_settings)
    parts: dict[str, Any] = {"weighting": weighting, "objective": objective, "burn_in": 0}
    parts |= {"precision": work.precision, "compile": work.compile}
    trainer = AdversarialTrainerGAIRAT(classifier, attack, **parts)
    return lambda: trainer.fit(x, y, batch_size=work.batch, nb_epochs=1)


def our_at(work: Work) -> Timed:
    """Plain adversarial training by our trainer."""
    return _ours(work, UniformWeighting())


def our_boundary(work: Work) -> Timed:
    """AT by our trainer with BoundaryPGD: half of the attack's passes."""
    return _ours(work, UniformWeighting(), kind=BoundaryPGD, budget=0.5)


def our_gairat(work: Work) -> Timed:
    """GAIRAT by our trainer."""
    return _ours(work, None)


def our_trades(work: Work) -> Timed:
    """TRADES by our trainer, with the attack that ART's takes: on the cross entropy."""
    return _ours(work, UniformWeighting(), TRADES(BETA))


def our_pgd(work: Work) -> Timed:
    """GeometryAwarePGD on its own, kappa included; always in float32."""
    attack, (x, y) = _our_attack(work, work.classifier()), work.data()
    return lambda: (attack.generate_with_kappa(x, y), None)[1]


def floor(work: Work) -> Timed:
    """K bare forward and input-gradient passes of the folded model, then one bare update; nothing else."""
    classifier, (images, classes) = work.classifier(), work.data()
    tensor_classifier, optimizer = TensorClassifier(classifier), classifier.optimizer
    device = tensor_classifier.device
    form = Form(torch.channels_last, compute_dtype(work.precision, device))
    batches = [
        (x.to(device), y.to(device))
        for x, y in zip(
            torch.from_numpy(images).split(work.batch), torch.from_numpy(classes).split(work.batch), strict=True
        )
    ]
    tensor_classifier.module.eval()
    folded = FoldedModule(tensor_classifier.module, batches[0][0])
    folded.run_as(form)

    def step(x: torch.Tensor, y: torch.Tensor) -> None:
        for _ in range(work.max_iter):
            z = x.detach().requires_grad_(True)
            torch.autograd.grad(cross_entropy(form(folded.module, z), y, reduction="sum"), z)
        tensor_classifier.module.train()
        optimizer.zero_grad()
        cross_entropy(form(tensor_classifier.module, x), y).backward()
        optimizer.step()

    def call() -> None:
        for x, y in batches:
            step(x, y)

    return call


CONTENDERS: dict[str, Callable[[Work], Timed]] = {
    "ART AT": art_at,
    "AT": our_at,
    "BoundaryPGD": our_boundary,
    "GAIRAT": our_gairat,
    "floor": floor,
    "ART TRADES": art_trades,
    "TRADES": our_trades,
    "ART PGD": art_pgd,
    "GA-PGD": our_pgd,
}
