"""The folded copy against the model itself."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from art_gair.engine import FoldedModule
from art_gair.engine.form import Form
from tests.engine.zoo import CLASSES, SHAPE, ZOO, lived_in

FORMATS = [torch.contiguous_format, torch.channels_last]


def images(n: int = 6, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=dtype)


def answer(module: nn.Module, x: Tensor, form: Form) -> tuple[Tensor, Tensor]:
    x = x.detach().clone().requires_grad_(True)
    logits = form(module, x)
    (gradient,) = torch.autograd.grad((logits * torch.arange(1.0, CLASSES + 1)).sum(), x)
    return logits.detach(), gradient


def assert_same(model: nn.Module, folded: FoldedModule, form: Form, x: Tensor, tolerance: float) -> None:
    plain = Form(dtype=torch.float32)
    for ours, theirs in zip(answer(folded.module, x, form), answer(model, x, plain), strict=True):
        assert float((ours - theirs).norm() / theirs.norm()) < tolerance


@st.composite
def networks(draw: st.DrawFn) -> nn.Module:
    """Convolutions of any width, stride and group, BatchNorm behind some, a block called twice, linear layers."""
    layers: list[nn.Module] = []
    channels, side = 3, 8
    for _ in range(draw(st.integers(1, 4))):
        groups = draw(st.sampled_from([g for g in (1, 2, 3) if channels % g == 0]))
        width = groups * draw(st.integers(1, 4))
        stride = draw(st.sampled_from([1, 2])) if side > 2 else 1
        layers.append(nn.Conv2d(channels, width, 3, stride, padding=1, groups=groups, bias=draw(st.booleans())))
        channels, side = width, -(-side // stride)
        if draw(st.booleans()):
            layers.append(nn.BatchNorm2d(channels, affine=draw(st.booleans())))
        layers.append(draw(st.sampled_from([nn.Softplus(), nn.Tanh(), nn.Dropout(0.5), nn.GELU()])))
        if draw(st.booleans()):
            shared = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels), nn.Tanh())
            layers += [shared, shared]
    layers += [nn.Flatten(), nn.Linear(channels * side**2, 7, bias=draw(st.booleans()))]
    if draw(st.booleans()):
        layers.append(nn.BatchNorm1d(7))
    return lived_in(nn.Sequential(*layers, nn.Tanh(), nn.Linear(7, CLASSES)), draw(st.integers(0, 1000))).eval()


@settings(max_examples=120, deadline=None)
@given(model=networks(), memory_format=st.sampled_from(FORMATS))
def test_equals_the_model_over_random_networks(model: nn.Module, memory_format: torch.memory_format) -> None:
    """To 1e-5 in float32 and 1e-12 in float64; smooth networks, since a kink within rounding may turn a gradient."""
    form = Form(memory_format)
    folded = FoldedModule(model, images())
    folded.run_as(form)
    assert_same(model, folded, form, images(), 1e-5)
    double, x = copy.deepcopy(model).double(), images(dtype=torch.float64)
    assert_same(double, FoldedModule(double, x), Form(), x, 1e-12)


@settings(max_examples=40, deadline=None)
@given(model=networks(), memory_format=st.sampled_from(FORMATS), seed=st.integers(0, 1000))
def test_a_refresh_gives_what_a_fresh_fold_would(
    model: nn.Module, memory_format: torch.memory_format, seed: int
) -> None:
    form = Form(memory_format)
    folded = FoldedModule(model, images())
    folded.run_as(form)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model.train()
    nn.functional.cross_entropy(model(images()), torch.arange(6) % CLASSES).backward()
    optimizer.step()
    lived_in(model.eval(), seed)
    folded.release()
    folded.refresh()
    fresh = FoldedModule(model, images())
    fresh.run_as(form)
    state, fresh_state = folded.module.state_dict(), fresh.module.state_dict()
    assert state.keys() == fresh_state.keys()
    assert all(torch.equal(state[name], fresh_state[name]) for name in state)


@pytest.mark.parametrize("name", [n for n, (_, folds) in ZOO.items() if folds is not None])
@pytest.mark.parametrize("memory_format", FORMATS)
def test_folds_what_can_be_folded_and_nothing_else(name: str, memory_format: torch.memory_format) -> None:
    build, folds = ZOO[name]
    torch.manual_seed(0)
    model = lived_in(build()).eval()
    folded = FoldedModule(model, images())
    assert len(folded.folds) == folds
    if name == "views" and memory_format == torch.channels_last:
        return
    form = Form(memory_format)
    folded.run_as(form)
    assert_same(model, folded, form, images(), 1e-5)


def test_leaves_the_model_alone() -> None:
    torch.manual_seed(0)
    model = lived_in(ZOO["pre-activation"][0]())
    before, flags = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    folded = FoldedModule(model.eval(), images())
    folded.run_as(Form(torch.channels_last, torch.bfloat16))
    folded.refresh()
    folded.release()
    model.train()
    assert [m.training for m in model.modules()] == flags
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None and p.is_contiguous() for p in model.parameters())


def test_weights_take_no_memory_between_release_and_refresh() -> None:
    model = lived_in(ZOO["grouped"][0]()).eval()
    folded = FoldedModule(model, images())
    expected = folded.module(images())
    folded.release()
    assert all(p.untyped_storage().nbytes() == 0 for p in folded.module.parameters())
    folded.refresh()
    assert torch.equal(folded.module(images()), expected)


def test_keeps_the_weights_of_convolutions_and_linear_layers_in_bf16() -> None:
    model = lived_in(ZOO["without BatchNorm"][0]()).eval()
    folded = FoldedModule(model, images())
    form = Form(torch.channels_last, torch.bfloat16)
    folded.run_as(form)
    types = {type(m): p.dtype for m in folded.module.modules() for p in m.parameters(recurse=False)}
    assert types == {nn.Conv2d: torch.bfloat16, nn.Linear: torch.bfloat16, nn.GroupNorm: torch.float32}
    assert form(folded.module, images()).dtype == torch.float32
    assert_same(model, folded, form, images(), 0.05)
    folded.run_as(Form())
    assert_same(model, folded, Form(), images(), 1e-6)
