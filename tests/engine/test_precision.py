"""What the words for a precision mean on a device."""

from __future__ import annotations

import pytest
import torch

from art_gair.engine import precision
from art_gair.engine.precision import compute_dtype, computes_bf16

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
