"""CPU and GPU hold together; skipped where there is no GPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from art.estimators.classification import PyTorchClassifier
from torch import nn

from art_gair import AdversarialTrainerGAIRAT, GeometryAwarePGD, TanhWeighting
from art_gair.engine.fast import FastClassifier
from art_gair.objectives import AT
from tests.models import conv_net, digits
from tests.training.test_step import make_step

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no NVIDIA GPU here"),
]

EPS = 0.15


@pytest.fixture(autouse=True)
def _exact_float32() -> Iterator[None]:
    """TF32 off in convolutions; in matrix products it is off by default."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


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


def test_an_attack_is_the_same_on_both() -> None:
    x, y = digits(256)
    found = []
    for device_type in ("cpu", "gpu"):
        classifier = classifier_on(device_type)
        classifier.model.load_state_dict(trained_on("cpu")[1].model.state_dict())
        attack = GeometryAwarePGD(classifier, eps=EPS, eps_step=EPS / 4, num_random_init=0)
        found.append(attack.generate_with_kappa(x, y))
    (cpu, cpu_kappa), (gpu, gpu_kappa) = found
    assert (np.abs(gpu - x) <= EPS + 1e-6).all()
    assert len(np.unique(cpu_kappa)) > 2
    assert np.mean(cpu_kappa != gpu_kappa) <= 0.02
    assert np.mean(np.abs(cpu - gpu) > 1e-4) <= 0.02


def test_a_training_is_the_same_on_both() -> None:
    cpu, gpu = (trained_on(device_type)[0].history for device_type in ("cpu", "gpu"))
    for here, there in zip(cpu, gpu, strict=True):
        assert there["loss"] == pytest.approx(here["loss"], rel=1e-2)
        moved = np.abs(np.array(here["kappa_histogram"]) - there["kappa_histogram"]).sum() / 2
        assert moved <= 0.02 * 512


def test_bf16_trains_as_well() -> None:
    x, y = digits(512)
    robust = []
    for precision in ("fp32", "bf16"):
        torch.manual_seed(0)
        _, classifier = trained_on("gpu", precision, nb_epochs=8)
        x_adv = GeometryAwarePGD(classifier, eps=EPS, eps_step=EPS / 4).generate(x, y)
        robust.append(np.mean(classifier.predict(x_adv).argmax(axis=1) == y))
    assert robust[1] >= robust[0] - 0.1 > 0.2


def test_the_view_is_the_model() -> None:
    _, classifier = trained_on("gpu")
    view = FastClassifier(classifier)
    x = torch.from_numpy(digits(64)[0]).cuda()
    with view.attacked(x) as logits_of, torch.no_grad():
        fast = logits_of(x)
        torch.testing.assert_close(fast, view.logits(x), rtol=1e-5, atol=1e-5 * float(fast.abs().max()))


def test_a_step_never_waits_for_the_device() -> None:
    """A whole step: attack, weights, loss, update, plugins, guard, meter."""
    step, meter = make_step(TanhWeighting(0.0), AT(), classifier=classifier_on("gpu"), view_of=FastClassifier)
    x, y = (torch.from_numpy(a).cuda() for a in digits(64))
    step(x, y, meter)  # the view and the update's form are chosen, which waits
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(x, y, meter)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    step.guard.require_finite(0, 0.1, now=True)
