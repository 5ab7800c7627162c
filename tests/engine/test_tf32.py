"""TF32, emulated: the fast path is taken where a GPU computes convolutions in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from models import MODELS
from torch import Tensor, nn
from torch.backends import cudnn

from art_gair.engine import FastClassifier, FoldedModule
from art_gair.engine.compare import LOGITS_TOLERANCE, Comparison, distance
from art_gair.engine.precision import exact_float32
from tests.engine.zoo import lived_in
from tests.models import classifier_of

MANTISSA = -1 << 13
"""Bits of a float32 that TF32 keeps: its 10 bits of mantissa and all before them."""


def round_to_tf32(x: Tensor) -> Tensor:
    """Round to 10 bits of mantissa; the gradient passes as through the identity."""
    bits = x.detach().contiguous().view(torch.int32)
    rounded = ((bits + (1 << 12)) & MANTISSA).view(torch.float32)
    return x + (rounded.view_as(x) - x).detach()


@pytest.fixture
def tf32(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let convolutions round what they multiply, unless TF32 is switched off, as cuDNN's do from Ampere on."""
    convolve = nn.Conv2d._conv_forward

    def rounded(self: nn.Conv2d, x: Tensor, weight: Tensor, bias: Any) -> Tensor:
        if cudnn.allow_tf32:
            x, weight = round_to_tf32(x), round_to_tf32(weight)
        out: Tensor = convolve(self, x, weight, bias)
        return out

    monkeypatch.setattr(nn.Conv2d, "_conv_forward", rounded)
    assert cudnn.allow_tf32
    yield
    assert cudnn.allow_tf32


def test_a_folded_resnet_is_taken_although_tf32_moves_its_logits(tf32: None) -> None:
    torch.manual_seed(0)
    model = lived_in(MODELS["resnet18"]()).eval()
    classifier = FastClassifier(classifier_of(model, (3, 32, 32)))
    x = torch.rand(4, 3, 32, 32)
    with classifier.attacked(x) as view, torch.no_grad():
        under_tf32 = distance(view(x), classifier.logits(x))
        with exact_float32():
            exact = distance(view(x), classifier.logits(x))
    assert classifier.view is not None
    assert isinstance(classifier.view.stand_in, FoldedModule)
    assert exact <= LOGITS_TOLERANCE < under_tf32


def test_comparing_leaves_the_settings_as_they_were(tf32: None) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 10))
    classifier = FastClassifier(classifier_of(model, (3, 8, 8)))
    with Comparison(classifier).traceless():
        assert not cudnn.allow_tf32
        assert torch.get_float32_matmul_precision() == "highest"
