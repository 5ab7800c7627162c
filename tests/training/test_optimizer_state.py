"""The guard looks at the optimizer's state too, and undoes a diverged step in it, on the host and on the device."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from art_gair.engine.classifier import TensorClassifier
from art_gair.training.finite import all_finite, are_finite
from art_gair.training.guard import FiniteGuard
from art_gair.training.snapshot import keep_if
from tests.models import assert_same_state, classifier_of, conv_net, digits, mlp, state_of, trainer_of


class Counting(torch.optim.SGD):
    """Keeps its own count in plain numbers, for each parameter and for the group."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            group["k"] = group.get("k", 0) + 1
            for p in group["params"]:
                self.state[p]["count"] = self.state[p].get("count", 0) + 1
        return super().step(closure)


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda ps: torch.optim.SGD(ps, lr=0.01),
    "momentum": lambda ps: torch.optim.SGD(ps, lr=0.01, momentum=0.9),
    "Adam": lambda ps: torch.optim.Adam(ps, lr=0.01),
    "AMSGrad": lambda ps: torch.optim.Adam(ps, lr=0.01, amsgrad=True, weight_decay=0.1),
    "NAdam": lambda ps: torch.optim.NAdam(ps, lr=0.01),
    "Adagrad": lambda ps: torch.optim.Adagrad(ps, lr=0.01),
    "Rprop": lambda ps: torch.optim.Rprop(ps, lr=0.01),
    "plain numbers": lambda ps: Counting(ps, lr=0.01, momentum=0.9),
}


class Steps:
    """A guarded training by hand, on a CPU or as on a GPU; the gradient of chosen steps is scaled."""

    def __init__(self, make: Callable[[Any], torch.optim.Optimizer], *, on_gpu: bool, model: nn.Module) -> None:
        self.classifier = TensorClassifier(classifier_of(model, (4,), 3))
        self.model = self.classifier.module
        self.optimizer = make(self.model.parameters())
        self.guard = FiniteGuard(self.classifier, self.optimizer)
        self.guard.interval = self.guard.READ_EVERY if on_gpu else 1
        generator = torch.Generator().manual_seed(0)
        self.x, self.y = torch.rand(8, 4, generator=generator), torch.arange(8) % 3

    def take(self, scale: float = 1.0) -> None:
        with self.guard.keeping():
            self.optimizer.zero_grad()
            loss = nn.functional.cross_entropy(self.model(self.x), self.y)
            loss.backward()
            for p in self.model.parameters():
                assert p.grad is not None
                p.grad.mul_(scale)
            self.guard.step(loss, torch.ones(8), seen=[loss.detach()])

    def everything(self) -> Any:
        return copy.deepcopy((state_of(self.model), self.optimizer.state_dict()))


def assert_same(a: Any, b: Any) -> None:
    if isinstance(a, Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            assert_same(one, other)
    else:
        assert a == b


@pytest.mark.parametrize("on_gpu", [False, True], ids=["on the CPU", "as on a GPU"])
@pytest.mark.parametrize("first_bad", [0, 3])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_diverged_step_and_all_later_ones_leave_no_trace(name: str, first_bad: int, on_gpu: bool) -> None:
    steps = Steps(OPTIMIZERS[name], on_gpu=on_gpu, model=mlp((4,), 3))
    for _ in range(first_bad):
        steps.take()
        steps.guard.require_finite(0, 0.01)
    before = steps.everything()
    for scale in [torch.nan, 1.0, torch.inf, 1.0][: 4 if on_gpu else 1]:
        steps.take(scale)
    with pytest.raises(FloatingPointError, match=f"epoch 0, batch {first_bad} "):
        steps.guard.require_finite(0, 0.01, now=True)
    assert_same(steps.everything(), before)


@pytest.mark.parametrize("on_gpu", [False, True], ids=["on the CPU", "as on a GPU"])
@pytest.mark.parametrize("first_bad", [0, 3])
def test_a_finite_gradient_that_overflows_the_second_moment_is_divergence(first_bad: int, on_gpu: bool) -> None:
    """1e25 squared is infinite in float32; Adam would never move these weights again, and say nothing."""
    steps = Steps(OPTIMIZERS["Adam"], on_gpu=on_gpu, model=mlp((4,), 3))
    for _ in range(first_bad):
        steps.take()
    before = steps.everything()
    steps.take(1e25)
    with pytest.raises(FloatingPointError, match=f"optimizer became non-finite in epoch 0, batch {first_bad}"):
        steps.guard.require_finite(0, 0.01, now=True)
    assert_same(steps.everything(), before)


@pytest.mark.parametrize("on_gpu", [False, True], ids=["on the CPU", "as on a GPU"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_healthy_steps_are_the_optimizers_own_bit_for_bit(name: str, on_gpu: bool) -> None:
    guarded, bare = (Steps(OPTIMIZERS[name], on_gpu=on_gpu, model=mlp((4,), 3)) for _ in range(2))
    bare.model.load_state_dict(state_of(guarded.model))
    for _ in range(5):
        guarded.take()
        bare.optimizer.zero_grad()
        nn.functional.cross_entropy(bare.model(bare.x), bare.y).backward()
        bare.optimizer.step()
    assert_same(guarded.everything(), bare.everything())


def test_an_optimizer_that_raises_leaves_no_trace() -> None:
    class Raises(torch.optim.Adam):
        def step(self, closure: Any = None) -> Any:
            super().step(closure)
            if next(iter(self.state.values()))["step"] == 3:
                raise KeyboardInterrupt

    steps = Steps(lambda ps: Raises(ps, lr=0.01), on_gpu=False, model=mlp((4,), 3))
    for _ in range(2):
        steps.take()
    before = steps.everything()
    with pytest.raises(KeyboardInterrupt):
        steps.take()
    assert_same(steps.everything(), before)


def test_frozen_weights_in_half_precision_are_no_divergence() -> None:
    """70,000 numbers of 1.0 sum to infinity in float16."""

    class HalfFrozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = mlp((1, 8, 8), 10)
            self.table = nn.Parameter(torch.ones(700, 100, dtype=torch.float16), requires_grad=False)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.inner(x)
            return out + self.table[0, 0]

    trainer = trainer_of(classifier_of(HalfFrozen(), (1, 8, 8)))
    trainer.fit(*digits(32), batch_size=16, nb_epochs=1)
    assert len(trainer.history) == 1


VALUES = st.floats(width=32, allow_nan=True, allow_infinity=True)


@given(st.lists(st.lists(VALUES, max_size=4), min_size=1, max_size=4), st.sampled_from([torch.float32, torch.float16]))
def test_finite_means_that_every_entry_is(rows: Any, dtype: torch.dtype) -> None:
    tensors = [torch.zeros(1), torch.zeros(2, dtype=torch.int64), *(torch.tensor(row).to(dtype) for row in rows)]
    expected = all(bool(torch.isfinite(t).all()) for t in tensors)
    assert bool(all_finite(tensors)) == are_finite(tensors) == expected


DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool, torch.complex64]


@given(st.sampled_from(DTYPES), st.booleans(), st.integers(0, 5))
def test_the_choice_on_the_device_keeps_every_bit(dtype: torch.dtype, flag: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    now, before = (torch.randn(3, 2, generator=generator).mul(9).to(dtype) for _ in range(2))
    if dtype.is_floating_point:
        now[0, 0], now[0, 1], before[1, 0] = torch.nan, -torch.inf, -0.0
    chosen, expected = now.clone(), (now if flag else before).clone()
    keep_if(torch.tensor(flag), [(chosen, before.clone()), (now.t(), before.t())])
    torch.testing.assert_close(chosen, expected, rtol=0, atol=0, equal_nan=True)
    assert dtype.is_complex or torch.equal(chosen.view(torch.uint8), expected.view(torch.uint8))


class Kernels(TorchDispatchMode):
    """Counts operations that compute something; making room and looking at memory in another way is none."""

    FREE = ("empty_like", "view", "detach", "alias", "unbind", "t", "empty", "_unsafe_view")

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.overloadpacket.__name__ not in self.FREE
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("depth", [1, 20])
def test_a_guarded_step_takes_a_number_of_kernels_that_does_not_grow_with_the_model(depth: int) -> None:
    """As on a GPU, with an optimizer that is one multi-tensor operation itself or near it."""
    counts = []
    layers = [m for _ in range(depth) for m in (nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(4, 3))
    steps = Steps(lambda ps: torch.optim.SGD(ps, lr=0.01, momentum=0.9, foreach=True), on_gpu=True, model=model)
    for _ in range(2):
        steps.take()
    loss = nn.functional.cross_entropy(model(steps.x), steps.y)
    loss.backward()
    for guarded in (True, False):
        with Kernels() as kernels:
            if guarded:
                with steps.guard.keeping():
                    steps.guard.step(loss, torch.ones(8), seen=[loss.detach()])
            else:
                steps.optimizer.step()
        counts.append(kernels.count)
    assert counts[0] - counts[1] <= 45, counts


def test_a_model_with_batchnorm_is_put_back_whole() -> None:
    classifier = classifier_of(conv_net(), (1, 8, 8), lr=3e38, loss=nn.CrossEntropyLoss(reduction="sum"))
    before = state_of(classifier.model)
    with pytest.raises(FloatingPointError):
        trainer_of(classifier).fit(*digits(32), batch_size=16, nb_epochs=1)
    assert_same_state(classifier.model, before)
    assert classifier.optimizer.state_dict()["state"] == {}
