"""What the words for a precision mean on a device."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from art.attacks.evasion import FastGradientMethod
from torch import Tensor, nn

from art_gair import AdversarialTrainerGAIRAT, GeometryAwarePGD, UniformWeighting, evaluate_robustness
from art_gair.engine import precision
from art_gair.engine.precision import compute_dtype, computes_bf16, exact_float32, find_inexact
from tests.models import classifier_of, conv_net, digits, digits_classifier

CPU = torch.device("cpu")


@pytest.mark.parametrize("has_it", [True, False])
def test_auto_is_bf16_where_the_device_has_instructions_for_it(has_it: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "computes_bf16", lambda device: has_it)
    assert compute_dtype("auto", CPU) == (torch.bfloat16 if has_it else torch.float32)
    assert compute_dtype("bf16", CPU) == torch.bfloat16
    assert compute_dtype("fp32", CPU) == torch.float32


@pytest.mark.parametrize(
    ("capabilities", "has_it"),
    [({}, False), ({"avx512_f": True}, False), ({"avx512_bf16": True}, True), ({"amx_bf16": True}, True)],
)
def test_a_cpu_is_asked_for_its_capabilities(
    capabilities: dict[str, bool], has_it: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert computes_bf16(CPU) == has_it
    assert not computes_bf16(torch.device("meta"))


def test_switches_that_shorten_float32_are_found() -> None:
    with exact_float32():
        assert find_inexact(CPU) == {}
        torch.set_float32_matmul_precision("medium")
        found = find_inexact(CPU)
    assert len(found) == 1
    assert next(iter(found)).startswith("float32 mat")
    assert find_inexact(CPU) == {}


def test_an_autocast_of_the_callers_changes_no_number() -> None:
    classifier = digits_classifier()
    x, y = digits(40)
    attack = GeometryAwarePGD(classifier, eps=0.2, eps_step=0.05, max_iter=4, num_random_init=0)
    trainer = AdversarialTrainerGAIRAT(classifier, attack)
    outside = *attack.generate_with_kappa(x, y), trainer.predict(x)
    report = evaluate_robustness(classifier, x, y, eps=0.1, verbose=False)
    with torch.autocast("cpu", torch.bfloat16):
        inside = *attack.generate_with_kappa(x, y), trainer.predict(x)
        report_inside = evaluate_robustness(classifier, x, y, eps=0.1, verbose=False)
    for a, b in zip(outside, inside, strict=True):
        assert (a == b).all()
    assert (report.robust == report_inside.robust).all()
    for there, here in zip(report.attacks, report_inside.attacks, strict=True):
        assert np.array_equal(there.margins, here.margins, equal_nan=True)


class OwnAutocast(nn.Module):
    """Opens one in its forward."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = conv_net()

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            out: Tensor = self.inner(x)
        return out.float()


@contextmanager
def stacked(*contexts: Any) -> Iterator[None]:
    with ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context)
        yield


AROUND: dict[str, Callable[[], Any]] = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "a disabled one": lambda: torch.autocast("cpu", enabled=False),
    "one of another device": lambda: torch.autocast("cuda", torch.bfloat16, enabled=False),
    "one in another": lambda: stacked(torch.autocast("cpu", torch.bfloat16), torch.autocast("cpu", enabled=False)),
}


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("case", ["fp32", "bf16", "own autocast"])
def test_a_training_sees_its_weights_whatever_autocast_surrounds_it(
    case: str, around: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Inside one, torch keeps weights as they were first cast until the outermost is left."""
    trained = []
    for context in (nullcontext, AROUND[around]):
        torch.manual_seed(0)
        classifier = classifier_of(OwnAutocast() if case == "own autocast" else conv_net(), (1, 8, 8))
        attack = GeometryAwarePGD(classifier, eps=0.2, eps_step=0.1, max_iter=2)
        trainer = AdversarialTrainerGAIRAT(classifier, attack, precision="bf16" if case == "bf16" else "fp32")
        classifier.model.eval()
        with context():
            classifier.model(torch.zeros(2, 1, 8, 8))
            trainer.fit(*digits(64), batch_size=16, nb_epochs=2, seed=0, verbose=False)
            logits = classifier.model(torch.zeros(2, 1, 8, 8)).detach().float()
        trained.append([*(p.detach() for p in classifier.model.parameters()), logits])
    for a, b in zip(trained[0][:-1], trained[1][:-1], strict=True):
        assert torch.equal(a, b)
    assert torch.allclose(trained[0][-1], trained[1][-1], atol=0.1)
    assert any("inside torch.autocast" in message for message in caplog.messages) == (around == "autocast")


def test_a_generator_that_stands_in_an_autocast_does_not_lend_it() -> None:
    x, y = digits(64)

    class InAutocast:
        def __iter__(self) -> Iterator[Any]:
            with torch.autocast("cpu", torch.bfloat16):
                yield from ((x[:32], y[:32]), (x[32:], y[32:]))

    trained = []
    for batches in ([(x[:32], y[:32]), (x[32:], y[32:])], InAutocast()):
        classifier = digits_classifier()
        attack = GeometryAwarePGD(classifier, eps=0.2, eps_step=0.1, max_iter=2)
        trainer = AdversarialTrainerGAIRAT(classifier, attack, UniformWeighting())
        trainer.fit_generator(batches, nb_epochs=2, seed=0, verbose=False)
        trained.append([p.detach() for p in classifier.model.parameters()])
    for a, b in zip(*trained, strict=True):
        assert torch.equal(a, b)


def test_an_autocast_inside_a_report_works_as_anywhere() -> None:
    """An attack that trains a surrogate in bfloat16 sees what it has learnt."""
    classifier = digits_classifier()
    losses: list[float] = []

    class Surrogate(FastGradientMethod):
        def generate(self, x: Any, y: Any = None, **kwargs: Any) -> Any:
            torch.manual_seed(0)
            model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
            optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
            for _ in range(5):
                with torch.enable_grad(), torch.autocast("cpu", torch.bfloat16):
                    out = model(torch.as_tensor(x))
                loss = nn.functional.cross_entropy(out.float(), torch.as_tensor(y).argmax(dim=1))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            return super().generate(x, y, **kwargs)

    with torch.autocast("cpu", torch.bfloat16):
        evaluate_robustness(classifier, *digits(40), eps=0.1, attacks=[Surrogate(classifier, eps=0.1)], verbose=False)
    assert losses[:5] == sorted(losses[:5], reverse=True)
    assert losses[4] < losses[0]


@pytest.mark.parametrize(("offset", "told"), [(0.0, False), (1000.0, True)])
def test_a_model_that_bfloat16_rounds_away_is_told(offset: float, told: bool, caplog: pytest.LogCaptureFixture) -> None:
    """What all logits share says nothing, and beside it bfloat16 has no digits for what does."""
    classifier = digits_classifier()
    with torch.no_grad():
        list(classifier.model.parameters())[-1].add_(offset)
    attack = GeometryAwarePGD(classifier, eps=0.2, eps_step=0.1, max_iter=2)
    trainer = AdversarialTrainerGAIRAT(classifier, attack, precision="bf16")
    with caplog.at_level(logging.WARNING):
        trainer.fit(*digits(64), batch_size=32, nb_epochs=2, verbose=False)
    assert sum("bfloat16 rounds too much" in message for message in caplog.messages) == told
