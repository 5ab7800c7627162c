"""Models whose buffers come, go and change their shape: a training follows them by name, as ART's does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_gair import AWP, EMA, UniformWeighting
from art_gair.plugins import Plugin
from tests.models import assert_same_state, classifier_of, digits, mlp, state_of, trainer_of


class Base(nn.Module):
    """A network beside which a subclass keeps buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = mlp((1, 8, 8), 10)

    def forward(self, x: Tensor) -> Tensor:
        self.note(x)
        out: Tensor = self.inner(x)
        return out

    def note(self, x: Tensor) -> None:
        raise NotImplementedError


class RegistersAtFirstForward(Base):
    """A lazy cache."""

    def note(self, x: Tensor) -> None:
        if "cache" not in self._buffers:
            self.register_buffer("cache", torch.ones(3))


class RegistersAMaskAtFirstForward(Base):
    """A lazy cache of -inf."""

    def note(self, x: Tensor) -> None:
        if "cache" not in self._buffers:
            self.register_buffer("cache", torch.full((3, 3), -torch.inf).triu(1))


class FillsNone(Base):
    """A buffer registered as None and filled by the first forward in train mode."""

    cache: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("cache", None)

    def note(self, x: Tensor) -> None:
        if self.cache is None and self.training:
            self.cache = torch.ones(3)


class KeepsLastInput(Base):
    """Last activations: their shape follows the batch, 32, 32 and 6 in training, another one in validation."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("last", torch.zeros(0))

    def note(self, x: Tensor) -> None:
        self.last = x.detach().mean(dim=(1, 2, 3))


class Expands(Base):
    """A buffer that nothing can write to, since its elements share memory."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("positions", torch.arange(4.0).expand(3, 4))

    def note(self, x: Tensor) -> None:
        pass


MODELS = [RegistersAtFirstForward, RegistersAMaskAtFirstForward, FillsNone, KeepsLastInput, Expands]
PLUGINS: list[list[Plugin]] = [[], [EMA(0.5)], [AWP(0.01), EMA(0.5, validate="raw", final="raw")]]


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("plugins", PLUGINS, ids=repr)
def test_buffers_that_change_their_form_do_not_stop_a_training(make: Any, plugins: list[Plugin]) -> None:
    """Nor change it: what is learnt is bit for bit that of the network without them."""
    inners = []
    for model in (make(), mlp((1, 8, 8), 10)):
        inner = getattr(model, "inner", model)
        torch.manual_seed(0)
        inner.load_state_dict(state_of(mlp((1, 8, 8), 10)))
        model.register_forward_hook(lambda module, inputs, output: None)  # no fast view of either
        trainer = trainer_of(classifier_of(model, (1, 8, 8)), UniformWeighting())
        trainer.plugins = plugins
        torch.manual_seed(1)
        x, y = digits(90)
        trainer.fit(x[:70], y[:70], batch_size=32, nb_epochs=2, validation_data=(x[70:], y[70:]), keep_best=True)
        assert trainer.best_epoch is not None
        inners.append(inner)
    assert_same_state(inners[0], state_of(inners[1]))


@pytest.mark.parametrize("make", MODELS)
def test_the_fast_view_copes_with_them_too(make: Any) -> None:
    trainer = trainer_of(classifier_of(make(), (1, 8, 8)))
    trainer.fit(*digits(70), batch_size=32, nb_epochs=2)
    assert len(trainer.history) == 2


def test_buffers_of_another_form_are_put_back_after_a_divergence() -> None:
    model = FillsNone()
    loss = nn.CrossEntropyLoss(reduction="sum")
    trainer = trainer_of(classifier_of(model, (1, 8, 8), lr=3e38, loss=loss), UniformWeighting())
    with pytest.raises(FloatingPointError, match="epoch 0, batch 0 "):
        trainer.fit(*digits(16), batch_size=16, nb_epochs=1)
    assert model.cache is None


def test_lazy_modules_are_refused_before_any_work() -> None:
    model = nn.Sequential(nn.Flatten(), nn.LazyLinear(10))
    with pytest.raises(ValueError, match=r"model has parameters without a shape: 1.weight, 1.bias; .* run one forward"):
        trainer_of(classifier_of(model, (1, 8, 8)))
