"""CPU and GPU hold together; skipped where there is no GPU."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from art.estimators.classification import PyTorchClassifier
from models import ResNet18, SmallCNN
from torch import Tensor, nn

from art_gair import AdversarialTrainerGAIRAT, BoundaryPGD, GeometryAwarePGD, TanhWeighting
from art_gair.engine import FastClassifier, FoldedModule
from art_gair.engine.classifier import TensorClassifier
from art_gair.engine.form import Form
from art_gair.objectives import AT
from art_gair.training.data import Batch
from tests.engine.zoo import CLASSES, SHAPE, Recurrent
from tests.models import conv_net, digits
from tests.training.test_step import make_step

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no NVIDIA GPU here"),
    # Notices that torch gives once a process: of the sync debug mode, and torch 2.9 of the switches of TF32.
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature"),
    pytest.mark.filterwarnings("ignore:Please use the new API settings to control TF32"),
]

EPS = 0.15

MOVED = {False: 0.02, True: 0.08}
"""Share of samples or pixels that may end elsewhere than on the CPU, with TF32 off and on. Emulated on a CPU, TF32
moves 0.8 % of the kappas and pixels of these tests, and 2.7 % of the kappas of a training."""


@pytest.fixture(autouse=True, params=[False, True], ids=["TF32 off", "TF32 on"])
def tf32(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Forbid TF32 in convolutions and matrix products, or allow it in both."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = request.param
    yield request.param
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def classifier_on(device_type: str) -> PyTorchClassifier:
    """Return the same untrained classifier on either device; without Dropout, whose draws differ."""
    torch.manual_seed(0)
    model = nn.Sequential(*(layer for layer in conv_net().children() if not isinstance(layer, nn.Dropout)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return PyTorchClassifier(
        model, nn.CrossEntropyLoss(), (1, 8, 8), 10, optimizer, clip_values=(0.0, 1.0), device_type=device_type
    )


def trained_on(device_type: str, precision: str = "fp32", nb_epochs: int = 2) -> tuple[Any, PyTorchClassifier]:
    """Train by GAIRAT on batches in a fixed order, from x itself: no random draw differs."""
    classifier, (x, y) = classifier_on(device_type), digits(512)
    attack = GeometryAwarePGD(classifier, eps=EPS, eps_step=EPS / 4, max_iter=5, num_random_init=0)
    trainer = AdversarialTrainerGAIRAT(classifier, attack, burn_in=1, precision=precision)
    trainer.fit_generator([(x[i : i + 64], y[i : i + 64]) for i in range(0, 512, 64)], nb_epochs=nb_epochs)
    return trainer, classifier


def test_an_attack_is_the_same_on_both(tf32: bool) -> None:
    x, y = digits(256)
    weights = trained_on("cpu")[1].model.state_dict()
    results = []
    for device_type in ("cpu", "gpu"):
        classifier = classifier_on(device_type)
        classifier.model.load_state_dict(weights)
        attack = GeometryAwarePGD(classifier, eps=EPS, eps_step=EPS / 4, num_random_init=0)
        results.append(attack.generate_with_kappa(x, y))
    (cpu, cpu_kappa), (gpu, gpu_kappa) = results
    assert (np.abs(gpu - x) <= EPS + 1e-6).all()
    assert len(np.unique(cpu_kappa)) > 2
    assert np.mean(cpu_kappa != gpu_kappa) <= MOVED[tf32]
    assert np.mean(np.abs(cpu - gpu) > 1e-4) <= MOVED[tf32]


def test_a_training_is_the_same_on_both(tf32: bool) -> None:
    cpu, gpu = (trained_on(device_type)[0].history for device_type in ("cpu", "gpu"))
    for here, there in zip(cpu, gpu, strict=True):
        assert there["loss"] == pytest.approx(here["loss"], rel=1e-2)
        moved = np.abs(np.array(here["kappa_histogram"]) - there["kappa_histogram"]).sum() / 2
        assert moved <= MOVED[tf32] * 512


def test_samples_come_in_the_same_order_on_both() -> None:
    orders = []
    for device_type in ("cpu", "gpu"):
        labels_seen: list[Tensor] = []

        def equal_weights(labels: Tensor, labels_seen: list[Tensor] = labels_seen, **_: Any) -> Tensor:
            labels_seen.append(labels.cpu())
            return torch.ones(len(labels), device=labels.device)

        classifier = classifier_on(device_type)
        attack = GeometryAwarePGD(classifier, eps=EPS, eps_step=EPS / 4, max_iter=1)
        torch.manual_seed(3)
        AdversarialTrainerGAIRAT(classifier, attack, equal_weights, burn_in=0).fit(*digits(256), nb_epochs=2)
        orders.append(torch.cat(labels_seen))
    assert not torch.equal(orders[0][:256], orders[0][256:])
    assert torch.equal(*orders)


def test_bf16_trains_as_well() -> None:
    x, y = digits(512)
    robust = []
    for precision in ("fp32", "bf16"):
        torch.manual_seed(0)
        _, classifier = trained_on("gpu", precision, nb_epochs=8)
        x_adv = GeometryAwarePGD(classifier, eps=EPS, eps_step=EPS / 4).generate(x, y)
        robust.append(np.mean(classifier.predict(x_adv).argmax(axis=1) == y))
    assert robust[1] >= robust[0] - 0.1 > 0.2


def test_the_view_is_the_model(tf32: bool) -> None:
    _, classifier = trained_on("gpu")
    fast, plain = FastClassifier(classifier), TensorClassifier(classifier)
    x = torch.from_numpy(digits(64)[0]).to(classifier.device)
    with torch.no_grad(), fast.attacked(x) as view, plain.attacked(x) as model:
        logits = model(x)
        off = 2e-3 if tf32 else 1e-5
        torch.testing.assert_close(view(x), logits, rtol=off, atol=off * float(logits.abs().max()))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("build", [SmallCNN, ResNet18])
def test_the_fast_view_is_taken(build: type[nn.Module], precision: str, caplog: pytest.LogCaptureFixture) -> None:
    model = lived_in_by_forwards(build())
    classifier = PyTorchClassifier(model, nn.CrossEntropyLoss(), (3, 32, 32), 10, clip_values=(0.0, 1.0))
    fast = FastClassifier(classifier, precision=precision)
    x = torch.rand(16, 3, 32, 32).to(classifier.device)
    with fast.attacked(x) as view:
        assert view(x).shape == (16, 10)
    assert not caplog.records
    assert fast.view is not None
    assert isinstance(fast.view.stand_in, FoldedModule)
    assert fast.view.form == Form(torch.channels_last, torch.bfloat16 if precision == "bf16" else torch.float32)


def lived_in_by_forwards(model: nn.Module) -> nn.Module:
    """Give BatchNorm statistics that are worth folding."""
    with torch.no_grad():
        for _ in range(5):
            model.train()(torch.rand(16, 3, 32, 32))
    return model


def test_a_recurrent_model_can_be_attacked() -> None:
    classifier = PyTorchClassifier(Recurrent(), nn.CrossEntropyLoss(), SHAPE, CLASSES, clip_values=(0.0, 1.0))
    x = np.random.default_rng(0).random((8, *SHAPE), dtype=np.float32)
    x_adv = GeometryAwarePGD(classifier, eps=EPS, max_iter=2).generate(x, np.arange(8) % CLASSES)
    assert (x_adv != x).any()


@pytest.mark.parametrize(
    "attack", [GeometryAwarePGD, partial(BoundaryPGD, first_steps=1, budget=0.7)], ids=["PGD", "budget"]
)
def test_a_step_never_waits_for_the_device(attack: Any) -> None:
    """A whole step: attack, weights, loss, update, plugins, guard, meter."""
    step, meter = make_step(TanhWeighting(0.0), AT(), attack, classifier=classifier_on("gpu"), view_of=FastClassifier)
    x, y = (torch.from_numpy(a).to(step.classifier.device) for a in digits(64))
    step([Batch(x, y)], meter)  # the view and the update's form are chosen, which waits
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step([Batch(x, y)], meter)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    step.guard.require_finite(0, 0.1, now=True)
