"""A loss that turns non-finite stops the training and leaves finite weights behind."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from art_gair import AWP, EMA, MarginWeighting, TanhWeighting
from art_gair.engine.classifier import TensorClassifier
from art_gair.plugins import Plugin
from art_gair.training.guard import FiniteGuard
from art_gair.weighting import KLDROWeighting, WMMRWeighting
from tests.models import (
    assert_same_state,
    classifier_of,
    conv_net,
    digits,
    digits_classifier,
    mlp,
    state_of,
    trainer_of,
)


def test_a_learning_rate_that_is_too_high_stops_with_its_cause() -> None:
    trainer = trainer_of(digits_classifier(lr=1e30))
    with pytest.raises(
        FloatingPointError, match=r"epoch 0, batch \d+ .* learning rate that is too high \(it was 1e\+30\)"
    ):
        trainer.fit(*digits(128), batch_size=16, nb_epochs=3)
    assert all(torch.isfinite(v).all() for v in trainer.classifier.model.state_dict().values())
    assert not any(m.training for m in trainer.classifier.model.modules())


def test_an_update_that_overflows_is_undone() -> None:
    """Loss and gradients are finite, the weights after the step are not."""
    model = mlp((1, 8, 8), 10)
    classifier = classifier_of(model, (1, 8, 8), lr=3e38, loss=nn.CrossEntropyLoss(reduction="sum"))
    before = state_of(model)
    with pytest.raises(FloatingPointError, match="became non-finite in epoch 0, batch 0 "):
        trainer_of(classifier, num_random_init=0).fit(*digits(16), batch_size=16, nb_epochs=1)
    assert_same_state(model, before)


class Brittle(nn.Module):
    """Gives a non-finite loss, or only a non-finite gradient, from a given training batch on."""

    def __init__(self, inner: nn.Module, at: int, what: str) -> None:
        super().__init__()
        self.inner, self.at, self.what, self.seen = inner, at, what, 0
        self.states: list[dict[str, Tensor]] = []

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x)
        if self.training:
            self.states.append(state_of(self.inner))
            self.seen += 1
            if self.seen > self.at and self.what == "loss":
                return out * torch.inf
            if self.seen > self.at:
                return out + torch.sqrt(out.sum() * 0)  # adds 0 with the gradient inf * 0
        return out


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_the_model_keeps_its_state_from_before_the_batch(what: str) -> None:
    x, y = digits(64)
    torch.manual_seed(0)
    model = Brittle(conv_net(), at=5, what=what)
    trainer = trainer_of(classifier_of(model, (1, 8, 8)))
    healthy = trainer_of(classifier_of(conv_net(), (1, 8, 8)))
    healthy.classifier.model.load_state_dict(state_of(model.inner))
    batches = [(x[i : i + 16], y[i : i + 16]) for i in range(0, 64, 16)]

    torch.manual_seed(1)
    with pytest.raises(FloatingPointError, match="epoch 1, batch 1 "):
        trainer.fit_generator(batches, nb_epochs=3)
    torch.manual_seed(1)
    healthy.fit_generator(batches, nb_epochs=1)
    healthy.fit_generator(batches[:1], nb_epochs=1)

    assert_same_state(model.inner, state_of(healthy.classifier.model))
    momenta = [s["momentum_buffer"] for s in trainer.classifier.optimizer.state.values()]
    assert momenta
    assert all(torch.isfinite(m).all() for m in momenta)


def test_a_device_that_runs_ahead_is_asked_only_now_and_then() -> None:
    """As on a GPU: steps after the first bad one leave no trace, however late the flag is read."""
    classifier = TensorClassifier(classifier_of(mlp((4,), 3), (4,), 3))
    model = classifier.module
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    guard = FiniteGuard(classifier, optimizer)
    guard.interval = guard.READ_EVERY
    x, y = torch.rand(8, 4), torch.arange(8) % 3
    for i in range(63):
        with guard.keeping():
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y) * (torch.nan if i == 20 else 1.0)
            loss.backward()
            guard.step(loss, torch.ones(8), seen=[loss.detach()])
        guard.require_finite(0, 0.1)
        if i == 19:
            before = state_of(model)
    assert_same_state(model, before)
    with pytest.raises(FloatingPointError, match="epoch 0, batch 20 "):
        guard.require_finite(0, 0.1, now=True)


def test_a_healthy_step_is_the_optimizers_own() -> None:
    x, y = torch.from_numpy(np.random.rand(8, 4).astype(np.float32)), torch.arange(8) % 3
    results: list[Any] = []
    for guarded in (True, False):
        torch.manual_seed(0)
        classifier = TensorClassifier(classifier_of(mlp((4,), 3), (4,), 3))
        model = classifier.module
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1, weight_decay=0.1)
        guard = FiniteGuard(classifier, optimizer)
        for _ in range(3):
            with guard.keeping():
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(x), y)
                loss.backward()
                if guarded:
                    guard.step(loss, torch.ones(8), seen=[loss.detach()])
                else:
                    optimizer.step()
        results.append(model)
    assert_same_state(results[0], state_of(results[1]))


@pytest.mark.parametrize("weighting", [MarginWeighting(), WMMRWeighting(), KLDROWeighting(), TanhWeighting()], ids=repr)
def test_weights_made_from_a_diverged_model_are_not_to_blame(weighting: Any) -> None:
    with pytest.raises(FloatingPointError, match="learning rate that is too high"):
        trainer_of(digits_classifier(lr=1e30), weighting).fit(*digits(128), batch_size=16, nb_epochs=3)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_exception_in_the_middle_of_a_step_leaves_no_trace(error: type[BaseException]) -> None:
    """BatchNorm's buffers included, which the forward has moved by then."""

    def interrupted(**batch: Any) -> Tensor:
        raise error

    classifier = digits_classifier()
    before = state_of(classifier.model)
    with pytest.raises(error):
        trainer_of(classifier, interrupted).fit(*digits(16), nb_epochs=1)
    assert_same_state(classifier.model, before)


def test_gradients_of_parameters_that_nobody_trains_do_not_pile_up() -> None:
    """The optimizer drives the head alone, at a learning rate of 0: five steps leave the gradient that one leaves."""
    grads = []
    for nb_epochs in (1, 5):
        torch.manual_seed(0)
        model = mlp((1, 8, 8), 10)
        head = torch.optim.SGD(list(model.parameters())[2:], lr=0.0)
        classifier = classifier_of(model, (1, 8, 8), optimizer=head)
        x, _ = digits(16)
        y = classifier.predict(x).argmax(axis=1)
        trainer_of(classifier, num_random_init=0).fit(x, y, batch_size=16, nb_epochs=nb_epochs)
        body = next(model.parameters()).grad
        assert body is not None
        grads.append(body.norm().item())
    assert grads[0] > 0
    assert grads[1] == pytest.approx(grads[0], rel=1e-3)


class Counts(nn.Module):
    """Puts a new tensor in its buffer's place at each forward in train mode."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = mlp((1, 8, 8), 10)
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.count = self.get_buffer("count") + 1
        out: Tensor = self.inner(x)
        return out


@pytest.mark.parametrize(
    ("plugins", "expected"),
    [([], 3.0), ([AWP(0.01)], 3.0), ([EMA(0.5, warmup=False)], 2.125)],
    ids=["none", "AWP", "EMA"],
)
def test_a_buffer_that_is_replaced_is_followed(plugins: list[Plugin], expected: float) -> None:
    model = Counts()
    trainer = trainer_of(classifier_of(model, (1, 8, 8)))
    trainer.plugins = plugins
    trainer.fit(*digits(48), batch_size=16, nb_epochs=1)
    assert model.count == expected


def test_a_buffer_that_is_replaced_is_put_back() -> None:
    model = Counts()
    classifier = classifier_of(model, (1, 8, 8), lr=3e38, loss=nn.CrossEntropyLoss(reduction="sum"))
    with pytest.raises(FloatingPointError):
        trainer_of(classifier).fit(*digits(16), batch_size=16, nb_epochs=1)
    assert model.count == 0


def test_a_buffer_that_is_infinite_by_design_is_no_divergence() -> None:
    model = conv_net()
    model.register_buffer("mask", torch.full((3, 3), -torch.inf).triu(1))
    trainer = trainer_of(classifier_of(model, (1, 8, 8)))
    trainer.plugins = [EMA(0.9), AWP(0.01)]
    trainer.fit(*digits(16), nb_epochs=2)
    assert torch.equal(model.get_buffer("mask"), torch.full((3, 3), -torch.inf).triu(1))


# The attack's gradient, and steps that are skipped


class Kink(nn.Module):
    """Adds 0, whose gradient to the inputs is NaN where the first pixel is 0, and leaves the parameters' alone."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x) + 0 * torch.sqrt(x.flatten(1)[:, :1] - x.flatten(1)[:, :1])
        return out


def test_an_input_gradient_that_is_not_finite_stops_and_is_named() -> None:
    """The loss is finite, and a sample that cannot be attacked would be trained on as if it had been."""
    model = Kink(mlp((1, 8, 8), 10))
    before = state_of(model)
    x, y = digits(40)
    with pytest.raises(FloatingPointError) as raised:
        trainer_of(classifier_of(model, (1, 8, 8)), num_random_init=0).fit(x, y, batch_size=8, nb_epochs=1)
    message = str(raised.value)
    assert message.startswith("the attack's gradient to the inputs became non-finite in epoch 0, batch 0 ")
    assert "an operation of the model without a derivative at some input" in message
    assert_same_state(model, before)


def test_generate_warns_of_an_input_gradient_that_is_not_finite(caplog: pytest.LogCaptureFixture) -> None:
    attack = trainer_of(classifier_of(Kink(mlp((1, 8, 8), 10)), (1, 8, 8))).attack
    attack.generate(*digits(8))
    assert "the model's gradient is NaN or infinite at some inputs" in caplog.text


def test_the_error_names_the_samples_the_rate_and_the_last_losses() -> None:
    """Rows of the arrays that the caller gave: those that make the loss infinite are among them."""
    x, y = digits(64)
    bad = 37
    x[bad, 0, 0, 0] = 0.987

    class Infinite(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = mlp((1, 8, 8), 10)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.inner(x)
            bad = (x[:, :, 0, 0] - 0.987).abs() < 1e-4
            return out * torch.where(bad, torch.inf, 1.0) if self.training else out

    trainer = trainer_of(classifier_of(Infinite(), (1, 8, 8), lr=0.0625), num_random_init=0, eps=1e-6, eps_step=1e-6)
    with pytest.raises(FloatingPointError) as raised:
        trainer.fit(x, y, batch_size=16, nb_epochs=2, seed=5, verbose=False)
    message = str(raised.value)
    rows = [int(row) for row in re.findall(r"samples were ([\d, ]+)\.", message)[0].split(", ")]
    assert bad in rows
    assert len(rows) == 16
    batch = int(re.findall(r"batch (\d+)", message)[0])
    losses = re.findall(r"last losses were ([^ ].*?)\. The", message)[0].split(", ")
    assert len(losses) == min(5, batch + 1)
    assert losses[-1] == "nan"
    assert all(np.isfinite(float(loss)) for loss in losses[:-1])
    assert "it was 0.0625" in message


class Spikes(Plugin):
    """Puts NaN into the gradient of some steps."""

    def __init__(self, *at: int) -> None:
        self.at = at

    def start(self, classifier: TensorClassifier, optimizer: torch.optim.Optimizer) -> None:
        self.module, self.steps = classifier.module, 0
        self.states: list[dict[str, Tensor]] = []

    def after_backward(self) -> None:
        self.states.append(state_of(self.module))
        if self.steps in self.at:
            next(self.module.parameters()).grad.fill_(torch.nan)  # type: ignore[union-attr]
        self.steps += 1


def spiked(*at: int, **settings: Any) -> Any:
    trainer = trainer_of(digits_classifier())
    trainer.plugins = [Spikes(*at)]
    trainer.fit(*digits(64), batch_size=16, nb_epochs=2, seed=0, verbose=False, **settings)
    return trainer


def test_a_step_that_is_not_finite_is_skipped_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    trainer = spiked(1, 2, 6, non_finite="skip")
    states = trainer.plugins[0].states
    for before, after in ((1, 2), (2, 3), (6, 7)):
        parameters = {name for name, _ in trainer.classifier.model.named_parameters()}
        assert all(torch.equal(states[before][name], states[after][name]) for name in parameters)
    assert [r["skipped_batches"] for r in trainer.history] == [2, 1]
    assert [sum(r["kappa_histogram"]) for r in trainer.history] == [32, 48]
    assert caplog.text.count("its step is undone and skipped") == 3


def test_skipping_has_a_bound_an_epoch() -> None:
    message = r"epoch 0, batch 3 .*It was the 3\. of this epoch; max_skipped is 2"
    with pytest.raises(FloatingPointError, match=message):
        spiked(0, 1, 3, non_finite="skip", max_skipped=2)
    spiked(0, 1, 4, 5, non_finite="skip", max_skipped=2)


def test_an_epoch_of_skipped_steps_alone_stops() -> None:
    with pytest.raises(FloatingPointError, match="none of the 4 steps of epoch 0 was finite; all were skipped"):
        spiked(0, 1, 2, 3, non_finite="skip")


def test_skipping_nothing_changes_nothing() -> None:
    skipping = spiked(non_finite="skip")
    assert_same_state(skipping.classifier.model, state_of(spiked().classifier.model))
    assert [r["skipped_batches"] for r in skipping.history] == [0, 0]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"non_finite": "ignore"}, ValueError, "non_finite is 'ignore'; expected 'stop' or 'skip'"),
        ({"non_finite": None}, ValueError, "non_finite is None; expected 'stop' or 'skip'"),
        ({"max_skipped": 0}, ValueError, "max_skipped is 0; expected an int of at least 1"),
        ({"max_skipped": True}, TypeError, "max_skipped is True; expected an int"),
    ],
)
def test_a_policy_that_is_none_is_refused(settings: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        spiked(**settings)
