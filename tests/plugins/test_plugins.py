"""AWP, EMA and clipping: special cases, exactness, composition."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_gair import AT, AWP, EMA, TRADES, AdversarialTrainerGAIRAT, GeometryAwarePGD, TanhWeighting, UniformWeighting
from art_gair.engine.classifier import TensorClassifier
from art_gair.objectives import CompositeKL
from art_gair.plugins import Checkpoint, ClipGradients, CSVLogger, EarlyStopping, Plugin, TensorBoard
from tests.discovery import concrete_subclasses
from tests.models import assert_same_state, classifier_of, conv_net, digits, digits_classifier, mlp, state_of

OPTIMIZER = torch.optim.SGD([torch.zeros(1)])


def fitted(*plugins: Plugin, nb_epochs: int = 2, lr: float = 0.05, **kwargs: Any) -> Any:
    """Train the digits model from a fixed seed; return the trainer."""
    classifier = digits_classifier(lr=lr)
    attack = GeometryAwarePGD(classifier, eps=0.2, eps_step=0.1, max_iter=2)
    trainer = AdversarialTrainerGAIRAT(classifier, attack, TanhWeighting(0.0), burn_in=0, plugins=plugins)
    torch.manual_seed(3)
    trainer.fit(*digits(70), batch_size=32, nb_epochs=nb_epochs, **kwargs)
    return trainer


class Whole:
    """A batch's loss in one part."""

    def __init__(self, loss: Callable[[], Tensor]) -> None:
        self.loss = loss

    def __call__(self) -> Tensor:
        return self.loss()

    def parts(self) -> Iterator[Tensor]:
        yield self.loss()

    def gradients(self, parameters: Sequence[Tensor]) -> list[Tensor | None]:
        return [*torch.autograd.grad(self.loss(), list(parameters), allow_unused=True)]


def assert_same_model(trainer: Any, other: Any) -> None:
    assert_same_state(trainer.classifier.model, state_of(other.classifier.model))


def differ(trainer: Any, other: Any) -> bool:
    return differ_from(trainer.classifier.model, state_of(other.classifier.model))


def differ_from(model: nn.Module, before: dict[str, Tensor]) -> bool:
    return any(not torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_every_plugin_of_the_package_is_tested() -> None:
    assert concrete_subclasses(Plugin) <= {AWP, EMA, Checkpoint, ClipGradients, CSVLogger, EarlyStopping, TensorBoard}


@pytest.mark.parametrize(
    "plugin",
    [Plugin(), AWP(gamma=0.0), AWP(gamma=0.01, start_epoch=2), EMA(0.0), EMA(0.9, final="raw"), ClipGradients(1e9)],
    ids=lambda plugin: type(plugin).__name__ if type(plugin) is Plugin else repr(plugin),
)
def test_a_plugin_that_does_nothing_changes_nothing(plugin: Plugin) -> None:
    assert_same_model(fitted(plugin, validation_data=digits(20)), fitted())


@pytest.mark.parametrize("plugin", [AWP(0.01), EMA(0.9), ClipGradients(0.1)], ids=repr)
def test_a_plugin_that_does_something_changes_the_model(plugin: Plugin) -> None:
    trainer = fitted(plugin)
    assert differ(trainer, fitted())
    assert all(torch.isfinite(v).all() for v in trainer.classifier.model.state_dict().values())


def test_awp_takes_the_gradient_at_the_perturbed_weights_and_puts_them_back() -> None:
    """One step by hand: g at w, then the gradient at w + gamma ||w|| g / ||g||, applied at w."""
    x, y = (torch.from_numpy(a) for a in digits(16))
    classifier = TensorClassifier(classifier_of(mlp((1, 8, 8), 10), (1, 8, 8)))
    model, awp = classifier.module, AWP(gamma=0.1)
    before = state_of(model)

    def loss() -> Tensor:
        return nn.functional.cross_entropy(model(x), y)

    awp.start(classifier, OPTIMIZER)
    awp.begin_epoch(0)
    with awp.around_loss(Whole(loss)):
        perturbed = state_of(model)
        loss().backward()
    assert_same_state(model, before)

    named = dict(model.named_parameters())
    grads = torch.autograd.grad(loss(), list(named.values()))
    for (name, w), g in zip(named.items(), grads, strict=True):
        moved = w + 0.1 * w.norm() * g / g.norm() if w.ndim > 1 else w
        torch.testing.assert_close(perturbed[name], moved.detach())
    assert nn.functional.cross_entropy(torch.func.functional_call(model, perturbed, (x,)), y) > loss()
    there = {name: value.requires_grad_(True) for name, value in perturbed.items()}
    moved_loss = nn.functional.cross_entropy(torch.func.functional_call(model, there, (x,)), y)
    expected = torch.autograd.grad(moved_loss, list(there.values()))
    for w, g in zip(named.values(), expected, strict=True):
        torch.testing.assert_close(w.grad, g)


def test_awp_leaves_layers_without_a_gradient_alone() -> None:
    """A dead ReLU: the first layer's gradient is zero, the loss stays finite and the training goes on."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 200), nn.ReLU(), nn.Linear(200, 10))
    with torch.no_grad():
        model[1].bias.fill_(-1e3)  # type: ignore[operator]
        model[1].weight.mul_(10)  # type: ignore[operator]
    classifier = classifier_of(model, (1, 8, 8))
    AdversarialTrainerGAIRAT(classifier, GeometryAwarePGD(classifier), plugins=[AWP(0.01)]).fit(
        *digits(16), nb_epochs=1
    )
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_awp_leaves_frozen_layers_alone() -> None:
    classifier = TensorClassifier(digits_classifier())
    frozen = classifier.module[0].weight  # type: ignore[index]
    frozen.requires_grad_(False)
    awp, before = AWP(0.5), frozen.clone()
    awp.start(classifier, OPTIMIZER)
    awp.begin_epoch(0)
    x = torch.from_numpy(digits(4)[0])
    with awp.around_loss(Whole(lambda: classifier.module(x).square().sum())):
        assert torch.equal(frozen, before)


def test_awp_is_given_the_weighted_loss_that_is_minimised() -> None:
    seen: list[float] = []

    class Note(Plugin):
        @contextmanager
        def around_loss(self, loss: Callable[[], Tensor]) -> Iterator[None]:
            seen.append(loss().item())
            yield

    for objective in (AT(), TRADES(3.0), CompositeKL()):
        classifier = classifier_of(mlp((1, 8, 8), 10), (1, 8, 8))
        trainer = AdversarialTrainerGAIRAT(classifier, objective=objective, burn_in=0, plugins=[Note()])
        trainer.fit(*digits(16), batch_size=16, nb_epochs=1)
        assert seen[-1] == pytest.approx(trainer.history[0]["loss"], rel=1e-5)


def test_around_hooks_nest_with_the_first_plugin_outermost() -> None:
    calls: list[str] = []

    class Noted(Plugin):
        def __init__(self, name: str) -> None:
            self.name = name

        @contextmanager
        def around_loss(self, loss: Callable[[], Tensor]) -> Iterator[None]:
            calls.append(f"{self.name} in")
            yield
            calls.append(f"{self.name} out")

    classifier = digits_classifier()
    AdversarialTrainerGAIRAT(classifier, plugins=[Noted("a"), Noted("b")]).fit(*digits(8), nb_epochs=1)
    assert calls == ["a in", "b in", "b out", "a out"]


def test_ema_starts_anew_with_each_training() -> None:
    """With a learning rate of 0 the second average is the model that the second training found."""
    trainer = fitted(EMA(0.9, final="raw"))
    average = [p.detach().clone() for p in trainer.classifier.model.parameters()]
    trainer.classifier.optimizer.param_groups[0]["lr"] = 0.0
    trainer.plugins[0].final = "ema"
    trainer.fit(*digits(16), batch_size=16, nb_epochs=1)
    for p, expected in zip(trainer.classifier.model.parameters(), average, strict=True):
        torch.testing.assert_close(p.detach(), expected)


def test_clipping_looks_at_what_the_optimizer_drives() -> None:
    model = conv_net()
    head = list(model[-1].parameters())  # type: ignore[index]
    clip = ClipGradients(1.0)
    optimizer = torch.optim.SGD(head, lr=0.1)
    clip.start(TensorClassifier(classifier_of(model, (1, 8, 8))), optimizer)
    for p in model.parameters():
        p.grad = torch.full_like(p, 1e-3)
    next(model.parameters()).grad = torch.full_like(next(model.parameters()), 1e3)
    clip.after_backward()
    assert all((p.grad == 1e-3).all() for p in head)


def test_awp_leaves_batchnorm_one_forward_a_batch() -> None:
    trainer = fitted(AWP(0.01))
    assert trainer.classifier.model[1].num_batches_tracked == 6


def test_awp_puts_the_weights_back_after_an_error() -> None:
    classifier = TensorClassifier(digits_classifier())
    awp, before = AWP(0.5), state_of(classifier.module)
    awp.start(classifier, OPTIMIZER)
    awp.begin_epoch(0)
    x = torch.from_numpy(digits(4)[0])

    def interrupted() -> None:
        with awp.around_loss(Whole(lambda: classifier.module(x).sum())):
            assert differ_from(classifier.module, before)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert_same_state(classifier.module, before)


@pytest.mark.parametrize("decay", [0.3, 0.8])
@pytest.mark.parametrize("warmup", [True, False])
def test_ema_is_the_average_of_the_steps(decay: float, warmup: bool) -> None:
    """Against an average kept by hand, BatchNorm's buffers included; six steps, so that a decay of 0.3 is reached."""
    by_hand: dict[str, Tensor] = {}
    steps = iter(range(100))

    class Keep(Plugin):
        def start(self, classifier: TensorClassifier, optimizer: torch.optim.Optimizer) -> None:
            self.model = classifier.module
            by_hand.update(state_of(self.model))

        def after_step(self) -> None:
            t = next(steps)
            d = min(decay, (1 + t) / (10 + t)) if warmup else decay
            for name, value in self.model.state_dict().items():
                floating = value.is_floating_point()
                by_hand[name] = d * by_hand[name] + (1 - d) * value if floating else value.clone()

    trainer = fitted(EMA(decay, warmup=warmup), Keep())
    for name, value in trainer.classifier.model.state_dict().items():
        torch.testing.assert_close(value, by_hand[name])


@pytest.mark.parametrize("validate", ["ema", "raw"])
@pytest.mark.parametrize("final", ["ema", "raw"])
def test_validation_and_the_final_model_choose_for_themselves(validate: str, final: str) -> None:
    x, y = digits(70)
    raw, ema = fitted(), fitted(EMA(0.95))
    trainer = fitted(EMA(0.95, validate=validate, final=final), validation_data=(x, y))
    assert_same_model(trainer, {"ema": ema, "raw": raw}[final])
    looked_at = {"ema": ema, "raw": raw}[validate]
    accuracy = (looked_at.predict(x).argmax(axis=1) == y).mean()
    assert trainer.history[-1]["clean_accuracy"] == pytest.approx(accuracy)


def test_both_models_are_validated_and_the_better_one_judges_the_epoch_and_is_kept() -> None:
    """Each candidate as a training that validates it alone, from the same random starts."""
    x, y = digits(130)
    kept: dict[str, Any] = {"validation_data": digits(40), "keep_best": True}
    records: dict[str, Any] = {}
    for choice in ("raw", "ema", "both"):
        classifier = digits_classifier()
        pgd = GeometryAwarePGD(classifier, eps=0.2, eps_step=0.1, max_iter=2)
        plugin = EMA(0.9, warmup=False, validate=choice, final="raw")
        trainer = AdversarialTrainerGAIRAT(classifier, pgd, burn_in=0, plugins=[plugin])
        trainer.fit(x, y, batch_size=32, nb_epochs=4, seed=3, validation_attack=pgd, **kept)
        records[choice] = trainer
    pairs = zip(*(records[choice].history for choice in ("raw", "ema", "both")), strict=True)
    for raw, ema, both in pairs:
        better = max((raw, ema), key=lambda r: (r["robust_accuracy"], r["clean_accuracy"]))
        for key in ("robust_accuracy", "clean_accuracy", "validated_model"):
            assert both[key] == better[key]
    assert {r["validated_model"] for r in records["both"].history} == {"raw", "ema"}
    best = max(
        ("raw", "ema"), key=lambda c: max((r["robust_accuracy"], r["clean_accuracy"]) for r in records[c].history)
    )
    assert records["both"].best_epoch == records[best].best_epoch
    assert_same_model(records["both"], records[best])


def test_a_training_that_fails_leaves_the_raw_model() -> None:
    classifier = digits_classifier(lr=1e30)
    attack = GeometryAwarePGD(classifier, max_iter=1)
    trainer = AdversarialTrainerGAIRAT(classifier, attack, UniformWeighting(), plugins=[EMA(0.9), AWP(0.01)])
    with pytest.raises(FloatingPointError):
        trainer.fit(*digits(64), batch_size=8, nb_epochs=2)
    assert all(torch.isfinite(v).all() for v in classifier.model.state_dict().values())


def test_a_gradient_whose_norm_overflows_is_divergence_and_no_step_of_zero() -> None:
    """Entries of 1e20 are finite, their norm is not; max_norm / inf would make the whole gradient zero."""

    class Blows(Plugin):
        def start(self, classifier: TensorClassifier, optimizer: torch.optim.Optimizer) -> None:
            self.module = classifier.module

        def after_backward(self) -> None:
            for p in self.module.parameters():
                p.grad = torch.full_like(p, 1e20)

    with pytest.raises(FloatingPointError, match="epoch 0, batch 0 "):
        fitted(Blows(), ClipGradients(1.0))


def test_clipping_bounds_the_step() -> None:
    x, y = digits(32)
    classifier = classifier_of(mlp((1, 8, 8), 10), (1, 8, 8), optimizer=None)
    classifier._optimizer = torch.optim.SGD(classifier.model.parameters(), lr=1.0)
    before = [p.detach().clone() for p in classifier.model.parameters()]
    attack = GeometryAwarePGD(classifier, max_iter=1)
    AdversarialTrainerGAIRAT(classifier, attack, plugins=[ClipGradients(0.01)]).fit(x, y, nb_epochs=1)
    steps = [(p.detach() - b).norm() for p, b in zip(classifier.model.parameters(), before, strict=True)]
    assert torch.stack(steps).norm().item() == pytest.approx(0.01, rel=1e-3)


def test_hooks_are_called_in_the_order_of_the_plugins() -> None:
    calls: list[str] = []

    class Noted(Plugin):
        def __init__(self, name: str) -> None:
            self.name = name

        def start(self, classifier: TensorClassifier, optimizer: torch.optim.Optimizer) -> None:
            calls.append(f"{self.name} start")

        def after_backward(self) -> None:
            calls.append(f"{self.name} backward")

        def after_step(self) -> None:
            calls.append(f"{self.name} step")

        def finish(self) -> None:
            calls.append(f"{self.name} finish")

    classifier = digits_classifier()
    attack = GeometryAwarePGD(classifier, max_iter=1)
    AdversarialTrainerGAIRAT(classifier, attack, plugins=[Noted("a"), Noted("b")]).fit(*digits(8), nb_epochs=1)
    assert calls == [f"{name} {hook}" for hook in ("start", "backward", "step", "finish") for name in "ab"]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: AWP(-0.1), ValueError, "gamma is -0.1; expected a finite number, >= 0"),
        (lambda: AWP(math.inf), ValueError, "gamma is inf; expected a finite number"),
        (lambda: AWP(0.01, start_epoch=-1), ValueError, "start_epoch is -1; expected an int of at least 0"),
        (lambda: EMA(1.0), ValueError, "decay is 1.0; expected a finite number, >= 0 and < 1"),
        (lambda: EMA("0.9"), TypeError, "decay is '0.9'; expected a number"),  # type: ignore[arg-type]
        (lambda: EMA(0.9, warmup=1), TypeError, "warmup is 1; expected True or False"),  # type: ignore[arg-type]
        (lambda: EMA(0.9, validate="none"), ValueError, "validate is 'none'; expected one of 'ema', 'raw', 'both'"),
        (lambda: EMA(0.9, final="both"), ValueError, "final is 'both'; expected one of 'ema', 'raw'"),
        (lambda: ClipGradients(0.0), ValueError, "max_norm is 0.0; expected a finite number, > 0"),
        (lambda: fitted("AWP"), TypeError, "plugins holds 'AWP'; expected Plugin objects"),  # type: ignore[arg-type]
        (lambda: fitted(AWP), TypeError, "plugins holds <class .*AWP'>; expected Plugin objects"),  # type: ignore[arg-type]
    ],
)
def test_bad_arguments_are_named(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_an_average_in_a_short_type_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    classifier = TensorClassifier(classifier_of(mlp((1, 8, 8), 10).bfloat16(), (1, 8, 8)))
    EMA(0.9).start(classifier, torch.optim.SGD(classifier.module.parameters(), lr=0.1))
    assert "EMA averages in torch.bfloat16" in caplog.text
