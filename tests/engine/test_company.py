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
from art_gair.engine.fast import FastClassifier
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


EXTREMES: dict[str, Callable[[Tensor], Tensor]] = {
    "scaled by the largest": lambda x: x / x.abs().max(),
    "shifted by the smallest": lambda x: x - x.min(),
    "rounded by the largest": lambda x: (x / x.abs().max() * 127).round() / 127,
    "each for itself": lambda x: x / x.abs().amax(dim=(1, 2, 3), keepdim=True),
}


class Extreme(nn.Module):
    """Inputs of many features, so that each sample comes near both ends of its range."""

    def __init__(self, scale: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.scale = scale
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(3072, 16), nn.Tanh(), nn.Linear(16, 3))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(self.scale(x))
        return out


@pytest.mark.parametrize("clip_values", [None, (0.0, 1.0), (-1.0, 1.0), (-128.0, 127.0)], ids=str)
@pytest.mark.parametrize("name", EXTREMES)
def test_extremes_of_the_batch_are_found_whatever_the_clip_values(name: str, clip_values: Any) -> None:
    torch.manual_seed(0)
    given = classifier_of(Extreme(EXTREMES[name]), (3, 32, 32), 3, clip_values=clip_values)
    assert mixes_samples(TensorClassifier(given)) is (name != "each for itself")


class Gathers(nn.Sequential):
    """Moves a buffer, a plain tensor, a list and a dictionary in each forward, in eval mode too."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(6, 3))
        self.largest: Tensor
        self.register_buffer("largest", torch.zeros(()))
        self.total, self.seen, self.means = torch.zeros(()), [0], {"first": 0.0}

    def forward(self, x: Tensor) -> Tensor:
        self.largest.fill_(x.abs().max().item())
        self.total.add_(x.detach().sum())
        self.seen[0] += len(x)
        self.seen.append(len(x))
        self.means["last"] = float(x.mean())
        for layer in self:
            x = layer(x)
        return x


def test_trials_leave_what_a_model_gathers_as_it_was() -> None:
    model = Gathers()
    model(torch.rand(5, 6))
    before = model.largest.item(), model.total.item(), list(model.seen), dict(model.means)
    given = classifier_of(model, (6,), 3, clip_values=(0.0, 255.0))
    mixes_samples(TensorClassifier(given))
    model.register_parameter("scale", nn.Parameter(torch.ones((), dtype=torch.float64)))
    FastClassifier(given)
    assert (model.largest.item(), model.total.item(), model.seen, model.means) == before


class Frozen(dict):  # type: ignore[type-arg]
    """Refuses to be written to, as some libraries' outputs do."""

    def update(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError("frozen")

    clear = update


class Awkward(nn.Module):
    """Holds what cannot be written to, and moves what can."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 3)
        self.count = torch.zeros(1)
        self.wide, self.cache = self.count.expand(4), torch.empty(0)
        self.frozen = Frozen(a=1)
        self.heads, self.seen = {"a": 1, "b": 2}, [0]

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        self.cache.resize_(x.shape).copy_(x.detach())
        dict.__setitem__(self.frozen, "a", 2)
        self.seen[0] += 1
        out: Tensor = self.inner(x)
        return out


def test_what_cannot_be_put_back_stops_nothing() -> None:
    model = Awkward()
    given = classifier_of(model, (6,), 3)
    for _ in model.heads:  # what has not changed is not written to either
        assert not mixes_samples(TensorClassifier(given))
    assert model.count.item() == 0
    assert model.cache.shape == (0,)
    assert model.seen == [0]
    FriendlyPGD(given, eps=0.1, eps_step=0.05, max_iter=2).generate(torch.rand(5, 6).numpy())


class Lazy(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = layer(x)
        return x


def test_a_trial_may_be_the_run_that_makes_a_lazy_model() -> None:
    model = Lazy(nn.LazyLinear(16), nn.LazyBatchNorm1d(), nn.Linear(16, 3))
    given = classifier_of(model, (6,), 3, optimizer=None)
    attack = FriendlyPGD(given, eps=0.1, eps_step=0.05, max_iter=2)
    assert attack.generate(torch.rand(5, 6).numpy()).shape == (5, 6)


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
    assert set(sizes[8:]) == {32}  # the first eight are the trial
