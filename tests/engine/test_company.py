"""Models whose logits for a sample depend on the samples beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_gair import BoundaryPGD, FriendlyPGD
from art_gair.engine.classifier import TensorClassifier
from art_gair.engine.company import mixes_samples
from tests.models import assert_same_state, classifier_of, state_of


class AlwaysTraining(nn.BatchNorm1d):
    def train(self, mode: bool = True) -> AlwaysTraining:
        return super().train(True)


class ByHand(nn.Module):
    def forward(self, h: Tensor) -> Tensor:
        return (h - h.mean(0)) / (h.var(0, unbiased=False) + 1e-5).sqrt()


class ByMaximum(nn.Module):
    def forward(self, h: Tensor) -> Tensor:
        return h / h.abs().max()


class ByPairs(nn.Module):
    def forward(self, h: Tensor) -> Tensor:
        return h - h.view(-1, 2, h.shape[1]).mean(1).repeat_interleave(2, dim=0)


class Embeds(nn.Module):
    """Takes whole numbers alone."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(4, 16)

    def forward(self, x: Tensor) -> Tensor:
        if not torch.equal(x, x.round()):
            raise ValueError("expected whole numbers")
        return self.table(x[:, 0].long())  # type: ignore[no-any-return]


NORMS: dict[str, tuple[Callable[[], nn.Module], bool]] = {
    "train mode": (lambda: AlwaysTraining(16), True),
    "by hand": (ByHand, True),
    "by maximum": (ByMaximum, True),
    "by pairs": (ByPairs, True),
    "no running statistics": (lambda: nn.BatchNorm1d(16, track_running_stats=False), True),
    "BatchNorm": (lambda: nn.BatchNorm1d(16), False),
    "LayerNorm": (lambda: nn.LayerNorm(16), False),
    "Dropout": (lambda: nn.Dropout(0.5), False),
}


def classifier(first: nn.Module, norm: nn.Module, clip_values: Any = (0.0, 16.0)) -> Any:
    return classifier_of(nn.Sequential(first, norm, nn.ReLU(), nn.Linear(16, 3)), (6,), 3, clip_values=clip_values)


@pytest.mark.parametrize("name", NORMS)
def test_what_mixes_samples_is_found_out_and_left_as_it_was(name: str) -> None:
    make, expected = NORMS[name]
    torch.manual_seed(0)
    given = classifier(nn.Linear(6, 16), make())
    before, generator = state_of(given.model), torch.get_rng_state()
    assert mixes_samples(TensorClassifier(given)) is expected
    assert_same_state(given.model, before)
    assert torch.equal(torch.get_rng_state(), generator)


class Scaled(nn.Linear):
    """Takes inputs of its range as others take those of 0..1."""

    def __init__(self, clip_values: Any) -> None:
        super().__init__(6, 16)
        low, high = (0.0, 1.0) if clip_values is None or clip_values[1] > 1e9 else clip_values
        self.low, self.span = low, high - low

    def forward(self, x: Tensor) -> Tensor:
        return super().forward((x - self.low) / self.span)


@pytest.mark.parametrize("clip_values", [None, (-1e30, 1e30), (0.0, 255.0), (0.0, 65535.0), (1e5, 2e5)], ids=str)
def test_clip_values_of_any_size(clip_values: Any) -> None:
    torch.manual_seed(0)
    for make, expected in (NORMS["by hand"], NORMS["BatchNorm"]):
        assert mixes_samples(TensorClassifier(classifier(Scaled(clip_values), make(), clip_values))) is expected


def test_a_model_that_takes_no_random_inputs_counts_as_one_that_does() -> None:
    assert mixes_samples(TensorClassifier(classifier(Embeds(), nn.LayerNorm(16))))


@pytest.mark.parametrize("kind", [BoundaryPGD, FriendlyPGD])
def test_no_sample_leaves_a_batch_of_such_a_model(kind: Any) -> None:
    torch.manual_seed(0)
    given = classifier(nn.Linear(6, 16), ByHand())
    sizes: list[int] = []
    given.model[0].register_forward_hook(lambda module, args, out: sizes.append(len(out)))
    attack = kind(given, eps=4.0, eps_step=2.0, max_iter=6, num_random_init=0)
    attack.generate(16 * torch.rand(32, 6).numpy(), torch.arange(32).remainder(3).numpy())
    assert set(sizes[4:]) == {32}  # the first four are the trial
