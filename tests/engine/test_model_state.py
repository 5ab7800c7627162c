"""Parameters and buffers by name, put back in whatever form the model has left them."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from art_gair.engine.model_state import copied, live_state, put_back

FORMS: dict[str, Any] = {
    "none": lambda: None,
    "short": lambda: torch.arange(3.0),
    "long": lambda: torch.arange(5.0),
    "whole": lambda: torch.arange(3),
    "mask": lambda: torch.full((3,), -torch.inf),
    "nan": lambda: torch.full((3,), torch.nan),
}

form = st.sampled_from(["absent", *FORMS])


def module_with(forms: dict[str, str]) -> nn.Module:
    module = nn.Sequential(nn.Linear(2, 2), nn.Module())
    set_buffers(module, forms)
    return module


def set_buffers(module: nn.Module, forms: dict[str, str]) -> None:
    inner = module.get_submodule("1")
    for name, kind in forms.items():
        inner._buffers.pop(name, None)
        if kind != "absent":
            inner.register_buffer(name, FORMS[kind]())


@given(st.tuples(form, form), st.tuples(form, form))
def test_whatever_becomes_of_the_buffers_they_are_put_back(before: Any, after: Any) -> None:
    module = module_with(dict(zip("ab", before, strict=True)))
    expected = live_state(module)
    kept = copied(expected)
    set_buffers(module, dict(zip("ab", after, strict=True)))
    with torch.no_grad():
        module.get_parameter("0.weight").zero_()
    put_back(module, kept)
    now = live_state(module)
    assert now.keys() == kept.keys()
    for name, value in kept.items():
        if value is None:
            assert now[name] is None
        else:
            torch.testing.assert_close(now[name], value, rtol=0, atol=0, equal_nan=True)


def test_copies_share_no_memory_with_the_model_once_put_back() -> None:
    module = module_with({"a": "short", "b": "none"})
    kept = copied(live_state(module))
    set_buffers(module, {"a": "long"})
    put_back(module, kept)
    module.get_submodule("1").get_buffer("a").fill_(9.0)
    assert torch.equal(kept["1.a"], torch.arange(3.0))  # type: ignore[arg-type]


def test_a_buffer_whose_elements_share_memory_is_left_alone() -> None:
    module = nn.Module()
    module.register_buffer("rows", torch.arange(3.0).expand(2, 3))
    put_back(module, copied(live_state(module)))
    assert torch.equal(module.get_buffer("rows"), torch.arange(3.0).expand(2, 3))
