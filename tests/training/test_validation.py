"""Validation under attacks of its own, and the epoch that it keeps."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescentPyTorch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from art_gair import (
    AWP,
    EMA,
    AdversarialTrainerGAIRAT,
    FriendlyPGD,
    GeometryAwarePGD,
    TanhWeighting,
    UniformWeighting,
)
from art_gair.engine.classifier import TensorClassifier
from art_gair.plugins import Plugin, StopTraining
from art_gair.training.best_epoch import BestEpoch
from art_gair.training.history import Accuracies
from art_gair.training.validation import Validation
from art_gair.weighting import Weighting
from tests.models import assert_same_state, classifier_of, digits, digits_classifier, mlp, state_of, trainer_of

EPOCHS, SPOILT_FROM = 6, 4


def held_out() -> tuple[NDArray[Any], NDArray[Any]]:
    x, y = digits(200)
    return x[100:], y[100:]


def pgd(classifier: Any, **settings: Any) -> GeometryAwarePGD:
    return GeometryAwarePGD(classifier, **{"eps": 0.1, "eps_step": 0.05, "max_iter": 3, **settings})


class Spoils(Plugin):
    """Makes the last epochs worse than those before, by steps that are far too long."""

    def start(self, classifier: TensorClassifier, optimizer: torch.optim.Optimizer) -> None:
        self.group = optimizer.param_groups[0]

    def begin_epoch(self, epoch: int) -> None:
        if epoch >= SPOILT_FROM:
            self.group["lr"] = 5.0


def fitted(nb_epochs: int = EPOCHS, *, plugins: Sequence[Plugin] = (), generator: bool = False, **kwargs: Any) -> Any:
    """Train from a fixed seed; return the trainer."""
    classifier = digits_classifier()
    plugins = [Spoils(), *plugins]
    trainer = AdversarialTrainerGAIRAT(classifier, pgd(classifier), burn_in=0, plugins=plugins)
    x, y = digits(100)
    torch.manual_seed(1)
    np.random.seed(1)
    if generator:
        data = TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
        trainer.fit_generator(DataLoader(data, batch_size=32, shuffle=True), nb_epochs=nb_epochs, **kwargs)
    else:
        trainer.fit(x, y, batch_size=32, nb_epochs=nb_epochs, **kwargs)
    return trainer


def best_of(history: Any) -> int:
    """Return the first epoch of the highest robust accuracy, of equals that of the highest clean accuracy."""
    return max(range(len(history)), key=lambda e: (history[e]["robust_accuracy"], history[e]["clean_accuracy"], -e))


# The measure


def test_robust_accuracy_is_the_worst_case_of_each_sample() -> None:
    """By hand, from what each attack returns; the worst case is below each attack's own accuracy."""
    classifier = classifier_of(mlp((1, 8, 8), 10), (1, 8, 8))
    trainer = trainer_of(classifier, num_random_init=0)
    attacks = [
        pgd(classifier, num_random_init=0, batch_size=17),
        FriendlyPGD(classifier, norm=2, eps=0.6, eps_step=0.3, max_iter=4, num_random_init=0, loss="margin"),
        FastGradientMethod(classifier, eps=0.08),
    ]
    x, y = held_out()
    trainer.fit(*digits(100), batch_size=32, nb_epochs=20, validation_data=(x, y), validation_attack=attacks)
    right = [classifier.predict(z).argmax(axis=1) == y for z in (x, *(a.generate(x, y) for a in attacks))]
    worst = np.logical_and.reduce(right).mean()
    assert 0 < worst < min(r.mean() for r in right)
    assert trainer.history[-1]["robust_accuracy"] == pytest.approx(worst)
    assert trainer.history[-1]["clean_accuracy"] == pytest.approx(right[0].mean())


class Heals(FastGradientMethod):
    """Returns an image of the class that is asked for; notes how many samples it was given at once."""

    def __init__(self, classifier: Any) -> None:
        super().__init__(classifier)
        self.seen: list[int] = []

    def generate(self, x: Any, y: Any = None, **kwargs: Any) -> Any:
        self.seen.append(len(x))
        return y.astype(np.float32)


def healed(y: Sequence[int], **kwargs: Any) -> tuple[Any, Heals]:
    """Train nothing: the model returns its input, ten samples of class 0, as its logits."""
    model = nn.Linear(3, 3, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.eye(3))
    classifier = classifier_of(model, (3,), 3, lr=0.0)
    x = np.tile(np.array([1, 0, 0], dtype=np.float32), (10, 1))
    attack = Heals(classifier)
    trainer = AdversarialTrainerGAIRAT(classifier, attack, UniformWeighting())
    given = {"validation_attack": attack} if kwargs.pop("given") else {}
    trainer.fit_generator([(x, np.zeros(10))], nb_epochs=1, validation_data=(x, np.asarray(y)), **given)
    return trainer.history[0], attack


@pytest.mark.parametrize(("given", "robust", "attacked"), [(True, 0.7, 7), (False, 1.0, 10)])
def test_what_is_misclassified_clean_is_not_robust_to_a_validation_attack(
    given: bool, robust: float, attacked: int
) -> None:
    """Nor is it attacked. The training attack counts what it leaves right, as it always has."""
    record, attack = healed([0] * 7 + [1] * 3, given=given)
    assert (record["clean_accuracy"], record["robust_accuracy"]) == pytest.approx((0.7, robust))
    assert attack.seen[-1] == attacked


def test_nothing_is_attacked_where_nothing_stands() -> None:
    record, attack = healed([1] * 10, given=True)
    assert (record["clean_accuracy"], record["robust_accuracy"]) == (0.0, 0.0)
    assert attack.seen == [10]


def test_validation_attacks_do_not_change_the_training() -> None:
    """Though they draw random starts, ours from torch and ART's from numpy."""
    ended = []
    for validated in (True, False):
        classifier = digits_classifier()
        attacks = [
            pgd(classifier, num_random_init=2, loss="margin"),
            ProjectedGradientDescentPyTorch(classifier, eps=0.1, eps_step=0.05, max_iter=2, num_random_init=1),
        ]
        given = {"validation_data": held_out(), "validation_attack": attacks} if validated else {}
        torch.manual_seed(1)
        np.random.seed(1)
        trainer_of(classifier).fit(*digits(100), batch_size=32, nb_epochs=3, **given)
        ended.append((classifier.model, torch.rand(1), np.random.rand()))
    assert_same_state(ended[0][0], state_of(ended[1][0]))
    assert ended[0][1:] == ended[1][1:]


# Keeping the best


@pytest.mark.parametrize("generator", [False, True], ids=["fit", "fit_generator"])
@pytest.mark.parametrize(
    ("plugins", "seen"),
    [
        ([], []),
        ([AWP(0.01)], [AWP(0.01)]),
        ([EMA(0.8)], [EMA(0.8)]),
        ([EMA(0.8, validate="raw", final="ema")], []),
        ([EMA(0.8, validate="ema", final="raw")], [EMA(0.8)]),
    ],
    ids=["plain", "AWP", "EMA", "EMA, validated raw", "EMA, final raw"],
)
def test_the_best_epochs_model_is_kept_as_validation_saw_it(
    generator: bool, plugins: list[Plugin], seen: list[Plugin]
) -> None:
    """Bit for bit that of a training that stopped after it."""
    trainer = fitted(plugins=plugins, generator=generator, validation_data=held_out(), keep_best=True)
    assert [r["epoch"] for r in trainer.history] == list(range(EPOCHS))
    assert trainer.best_epoch == best_of(trainer.history) < SPOILT_FROM
    stopped = fitted(trainer.best_epoch + 1, plugins=seen, generator=generator)
    assert_same_state(trainer.classifier.model, state_of(stopped.classifier.model))


def test_the_validation_attack_selects() -> None:
    """One that spares the second epoch and blanks the images in all others, of which the last is the best clean."""

    class Spares(FastGradientMethod):
        calls = 0

        def generate(self, x: Any, y: Any = None, **kwargs: Any) -> Any:
            self.calls += 1
            return x if self.calls == 2 else np.zeros_like(x)

    classifier = digits_classifier()
    trainer = trainer_of(classifier, eps=0.05)
    attacks = [pgd(classifier, eps=1e-6, eps_step=1e-6), Spares(classifier)]
    given: dict[str, Any] = {"validation_data": held_out(), "validation_attack": attacks, "keep_best": True}
    trainer.fit(*digits(100), batch_size=32, nb_epochs=5, **given)
    assert max(range(5), key=lambda e: trainer.history[e]["clean_accuracy"]) != 1
    assert trainer.best_epoch == best_of(trainer.history) == 1


def test_of_equal_epochs_the_first_is_kept() -> None:
    """A learning rate of 0: all are equal."""
    trainer = trainer_of(classifier_of(mlp((1, 8, 8), 10), (1, 8, 8), lr=0.0), num_random_init=0)
    trainer.fit(*digits(32), nb_epochs=3, validation_data=held_out(), keep_best=True)
    assert trainer.best_epoch == 0


def test_of_equally_robust_epochs_the_one_with_the_higher_clean_accuracy_is_kept() -> None:
    """The one copy that is kept follows the best, each epoch's weights being its number."""
    model = nn.BatchNorm1d(3)
    best = BestEpoch(TensorClassifier(classifier_of(model, (3,), 3)))
    states = []
    for epoch, (clean, robust) in enumerate([(0.5, 0.3), (0.6, 0.3), (0.6, 0.3), (0.9, 0.2), (0.5, 0.3)]):
        with torch.no_grad():
            for t in (*model.parameters(), *model.buffers()):
                t.fill_(epoch)
        states.append(state_of(model))
        best.look(epoch, Accuracies(clean, robust))
    best.restore()
    assert best.epoch == 1
    assert_same_state(model, states[1])


class Fails(Plugin):
    """Ends the training in its last epoch, after the first batch or before it."""

    def __init__(self, error: BaseException, hook: str) -> None:
        self.error, self.hook, self.active = error, hook, False

    def begin_epoch(self, epoch: int) -> None:
        self.active = epoch == EPOCHS - 1
        self.fail("begin_epoch")

    def after_backward(self) -> None:
        self.fail("after_backward")

    def after_step(self) -> None:
        self.fail("after_step")

    def finish(self) -> None:
        self.fail("finish")

    def fail(self, hook: str) -> None:
        if self.active and hook == self.hook:
            raise self.error


@pytest.mark.parametrize("hook", ["begin_epoch", "after_backward", "after_step", "finish"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("disk full")], ids=repr)
def test_a_training_that_stops_by_an_exception_leaves_the_best_epochs_model(
    error: BaseException, hook: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Bit for bit that of a training that stopped after it; log, error and `best_epoch` say so."""
    given: dict[str, Any] = {"batch_size": 32, "nb_epochs": EPOCHS, "validation_data": held_out(), "keep_best": True}
    classifier = digits_classifier()
    plugins = [Spoils(), EMA(0.8), Fails(type(error)(*error.args), hook)]
    trainer = AdversarialTrainerGAIRAT(classifier, pgd(classifier), burn_in=0, plugins=plugins)
    torch.manual_seed(1)
    np.random.seed(1)
    with caplog.at_level(logging.INFO, logger="art_gair"), pytest.raises(type(error)) as raised:
        trainer.fit(*digits(100), **given)
    best = best_of(trainer.history)
    assert len(trainer.history) == EPOCHS - (hook != "finish")
    assert trainer.best_epoch == best < len(trainer.history) - 1
    expected = f"The classifier holds the weights of epoch {best}, counted from 0, the best on validation_data"
    assert expected in caplog.text
    assert expected in raised.value.__notes__[0]  # type: ignore[attr-defined]
    stopped = fitted(best + 1, plugins=[EMA(0.8)])
    assert_same_state(classifier.model, state_of(stopped.classifier.model))
    assert not any(m.training for m in classifier.model.modules())


def test_a_divergence_leaves_the_best_epochs_model() -> None:
    class Diverges(Spoils):
        def begin_epoch(self, epoch: int) -> None:
            if epoch == 2:
                self.group["lr"] = 1e30

    classifier = digits_classifier()
    trainer = AdversarialTrainerGAIRAT(classifier, pgd(classifier), plugins=[Diverges()])
    with pytest.raises(FloatingPointError, match=r"epoch 2, batch \d+ .*it was 1e\+30"):
        trainer.fit(*digits(100), batch_size=32, nb_epochs=4, validation_data=held_out(), keep_best=True)
    assert trainer.best_epoch == best_of(trainer.history)


def test_a_training_that_fails_before_any_validation_keeps_its_last_weights() -> None:
    class FailsAtOnce(Plugin):
        def begin_epoch(self, epoch: int) -> None:
            raise KeyboardInterrupt

    classifier = digits_classifier()
    before = state_of(classifier.model)
    trainer = AdversarialTrainerGAIRAT(classifier, pgd(classifier), plugins=[FailsAtOnce()])
    with pytest.raises(KeyboardInterrupt) as raised:
        trainer.fit(*digits(32), nb_epochs=1, validation_data=held_out(), keep_best=True)
    assert trainer.best_epoch is None
    assert getattr(raised.value, "__notes__", []) == []
    assert_same_state(classifier.model, before)


def test_best_epoch_is_that_of_the_last_training() -> None:
    trainer = trainer_of(digits_classifier())
    assert trainer.best_epoch is None
    trainer.fit(*digits(32), nb_epochs=1, validation_data=held_out(), keep_best=True)
    assert trainer.best_epoch == 0
    trainer.fit(*digits(32), nb_epochs=1, validation_data=held_out())
    assert trainer.best_epoch is None


# Bad input


@pytest.mark.parametrize("generator", [False, True], ids=["fit", "fit_generator"])
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda c: "pgd", TypeError, "validation_attack is 'pgd'; expected an ART EvasionAttack, or a list of them"),
        (lambda c: [pgd(c), "pgd"], TypeError, "validation_attack holds 'pgd'; expected ART EvasionAttacks"),
        (lambda c: [], ValueError, "validation_attack is an empty list; expected at least one attack"),
        (
            lambda c: pgd(digits_classifier()),
            ValueError,
            "validation_attack GeometryAwarePGD is on another estimator; expected an attack on the classifier",
        ),
        (
            lambda c: [pgd(c), FastGradientMethod(digits_classifier())],
            ValueError,
            "validation_attack FastGradientMethod is on another estimator",
        ),
        (
            lambda c: FastGradientMethod(c, targeted=True),
            ValueError,
            "validation_attack FastGradientMethod is unusable: .* is targeted; expected an untargeted attack",
        ),
        (
            lambda c: pgd(c, eps=np.full((100, 1, 1, 1), 0.1)),
            ValueError,
            r"validation_attack GeometryAwarePGD's eps has shape \(100, 1, 1, 1\), which does not broadcast to \(1, 1",
        ),
        (
            lambda c: FastGradientMethod(c, eps=np.full((100, 1, 1, 1), 0.1), eps_step=np.full((100, 1, 1, 1), 0.1)),
            ValueError,
            r"validation_attack FastGradientMethod's eps has shape \(100, 1, 1, 1\), which does not broadcast",
        ),
        (
            lambda c: pgd(c, norm=2, eps=np.linspace(0.1, 0.2, 64).reshape(1, 8, 8)),
            ValueError,
            "validation_attack GeometryAwarePGD is unusable: eps differs between the features of a sample",
        ),
        (
            lambda c: pgd(c, eps=lambda epoch: 0.1),
            ValueError,
            "validation_attack GeometryAwarePGD has a schedule as its eps; expected a number, the same in each epoch",
        ),
        (
            lambda c: FriendlyPGD(c, tau=lambda epoch: epoch),
            ValueError,
            "validation_attack FriendlyPGD has a schedule as its tau; expected a number",
        ),
    ],
)
def test_bad_validation_attacks_are_named_before_any_training(
    generator: bool, make: Any, error: type[Exception], message: str
) -> None:
    classifier = digits_classifier()
    given = {"validation_data": held_out(), "validation_attack": make(classifier)}
    assert_refused(trainer_of(classifier), generator, given, error, message)


@pytest.mark.parametrize("generator", [False, True], ids=["fit", "fit_generator"])
@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"keep_best": True}, ValueError, r"keep_best is given, but no validation_data; expected a pair \(x, y\)"),
        ({"keep_best": 1, "validation_data": held_out()}, TypeError, "keep_best is 1; expected True or False"),
        ({"keep_best": None}, TypeError, "keep_best is None; expected True or False"),
    ],
)
def test_bad_keep_best_is_named_before_any_training(
    generator: bool, given: dict[str, Any], error: type[Exception], message: str
) -> None:
    assert_refused(trainer_of(digits_classifier()), generator, given, error, message)


def test_a_validation_attack_needs_validation_data() -> None:
    trainer = trainer_of(digits_classifier())
    message = "validation_attack is given, but no validation_data; expected a pair"
    assert_refused(trainer, False, {"validation_attack": trainer.attack}, ValueError, message)


def test_a_training_attack_of_changing_strength_cannot_select() -> None:
    """It is no help to say that the first epoch, under the weakest attack, was the best; another attack can tell."""
    classifier = digits_classifier()
    trainer = trainer_of(classifier, eps=lambda epoch: 0.05 * (epoch + 1))
    given: dict[str, Any] = {"validation_data": held_out(), "keep_best": True}
    message = "keep_best needs a validation_attack: the training attack has a schedule as its eps; expected a number"
    assert_refused(trainer, False, given, ValueError, message)
    trainer.fit(*digits(32), nb_epochs=1, validation_data=held_out())
    trainer.fit(*digits(32), nb_epochs=1, validation_attack=pgd(classifier), **given)
    assert trainer.best_epoch == 0


def assert_refused(trainer: Any, generator: bool, given: dict[str, Any], error: type[Exception], message: str) -> None:
    before = state_of(trainer.classifier.model)
    fit, data = (trainer.fit_generator, [[digits(32)]]) if generator else (trainer.fit, digits(32))
    with pytest.raises(error, match=message):
        fit(*data, nb_epochs=1, **given)
    assert_same_state(trainer.classifier.model, before)
    assert trainer.history == []


# How often, and on which samples


def validated(nb_epochs: int = 5, **settings: Any) -> Any:
    trainer = trainer_of(digits_classifier(), num_random_init=0)
    x, y = digits(120)
    data = (x[60:], y[60:])
    trainer.fit(x[:60], y[:60], batch_size=30, nb_epochs=nb_epochs, validation_data=data, verbose=False, **settings)
    return trainer


@pytest.mark.parametrize(("every", "expected"), [(1, [0, 1, 2, 3, 4]), (2, [1, 3, 4]), (3, [2, 4]), (9, [4])])
def test_every_so_many_epochs_and_the_last_one_are_validated(every: int, expected: list[int]) -> None:
    history = validated(validate_every=every).history
    assert [r["epoch"] for r in history if r["robust_accuracy"] is not None] == expected
    assert [r["epoch"] for r in history if r["clean_accuracy"] is not None] == expected
    assert [r["epoch"] for r in history if r["validated_model"] == "raw"] == expected


@pytest.mark.parametrize(("first", "every", "expected"), [(2, 1, [2, 3, 4]), (2, 2, [3, 4]), (4, 1, [4])])
def test_epochs_before_validate_from_are_not_validated(first: int, every: int, expected: list[int]) -> None:
    history = validated(validate_from=first, validate_every=every).history
    assert [r["epoch"] for r in history if r["robust_accuracy"] is not None] == expected


class SpoilsTheLast(Plugin):
    """Makes epoch 3 the worst, or stops there."""

    def __init__(self, stop: bool) -> None:
        self.stop = stop

    def start(self, classifier: TensorClassifier, optimizer: torch.optim.Optimizer) -> None:
        self.module = classifier.module

    def begin_epoch(self, epoch: int) -> None:
        if epoch == 3 and self.stop:
            raise RuntimeError("stopped")
        if epoch == 3:
            for parameter in self.module.parameters():
                parameter.data.zero_()


def with_burn_in(
    weighting: Weighting, *, burn_in: Any = 3, stop: bool = False, **settings: Any
) -> AdversarialTrainerGAIRAT:
    classifier = digits_classifier()
    plugins = [SpoilsTheLast(stop)]
    trainer = AdversarialTrainerGAIRAT(classifier, pgd(classifier), weighting, burn_in=burn_in, plugins=plugins)
    given: dict[str, Any] = {"nb_epochs": 4, "batch_size": 32, "verbose": False, **settings}
    trainer.fit(*digits(100), validation_data=held_out(), keep_best=True, **given)
    return trainer


BURN_IN = "lies in the burn-in, .* never used weights on the model that is kept. In a new one, validate_from=3"


def test_a_best_epoch_in_the_burn_in_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """GAIRAT's weights lower robust accuracy, so the best epoch is often one of plain adversarial training."""
    trainer = with_burn_in(TanhWeighting(-1.0))
    assert trainer.best_epoch is not None
    assert trainer.best_epoch < 3
    assert re.search(BURN_IN, caplog.text)


def test_a_training_that_stops_says_that_its_best_epoch_lies_in_the_burn_in() -> None:
    with pytest.raises(RuntimeError) as raised:
        with_burn_in(TanhWeighting(-1.0), stop=True)
    assert re.search(BURN_IN, raised.value.__notes__[1])  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("weighting", "settings", "best"),
    [
        (TanhWeighting(-1.0), {"validate_from": 3}, [3]),
        (TanhWeighting(-1.0), {"burn_in": lambda epoch: epoch >= 1}, [0, 1, 2]),
        (UniformWeighting(), {}, [0, 1, 2]),
    ],
    ids=["validated after it", "weights at first", "no weights"],
)
def test_there_is_nothing_to_warn_of(
    weighting: Weighting, settings: Any, best: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    assert with_burn_in(weighting, **settings).best_epoch in best
    assert "burn-in" not in caplog.text


def test_epochs_that_are_not_validated_are_trained_alike() -> None:
    assert_same_state(validated(validate_every=3).classifier.model, state_of(validated().classifier.model))


def test_the_best_of_the_validated_epochs_is_kept() -> None:
    trainer = validated(validate_every=2, keep_best=True, validation_attack=None)
    assert trainer.best_epoch in (1, 3, 4)


@pytest.mark.parametrize(("on", "n"), [(17, 17), (0.25, 15), (1.0, 60), (1, 1), (60, 60)])
def test_a_subset_is_the_same_in_each_epoch_and_training(on: Any, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    subsets: list[tuple[Tensor, Tensor]] = []
    measure = Validation._measure

    def watched(self: Validation, *args: Any) -> Any:
        subsets.append((self.x, self.labels))
        return measure(self, *args)

    monkeypatch.setattr(Validation, "_measure", watched)
    validated(2, validate_on=on)
    torch.manual_seed(77)
    validated(1, validate_on=on)
    x, y = digits(120)
    rows = {row.tobytes(): label for row, label in zip(x[60:], y[60:], strict=True)}
    for inputs, labels in subsets:
        assert len(inputs) == len(labels) == n
        assert torch.equal(inputs, subsets[0][0])
        assert [rows[row.numpy().tobytes()] for row in inputs] == labels.tolist()


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"validate_every": 0}, ValueError, "validate_every is 0; expected an int of at least 1"),
        ({"validate_every": 2.0}, TypeError, "validate_every is 2.0; expected an int"),
        ({"validate_from": -1}, ValueError, "validate_from is -1; expected an int of at least 0"),
        ({"validate_from": 5}, ValueError, "validate_from is 5; expected an epoch, counted from 0, of 5"),
        ({"validate_from": None}, TypeError, "validate_from is None; expected an int"),
        ({"validate_on": 0}, ValueError, "validate_on is 0; expected an int of at least 1"),
        ({"validate_on": 61}, ValueError, "validate_on is 61; validation_data has 60 samples"),
        ({"validate_on": 0.0}, ValueError, "validate_on is 0.0; expected a finite number, > 0 and <= 1"),
        ({"validate_on": 1.5}, ValueError, "validate_on is 1.5; expected a finite number, > 0 and <= 1"),
        ({"validate_on": "all"}, TypeError, "validate_on is 'all'; expected an int"),
        ({"validate_on": True}, TypeError, "validate_on is True; expected an int"),
    ],
)
def test_a_useless_choice_is_refused(settings: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        validated(**settings)


@pytest.mark.parametrize("settings", [{"validate_every": 2}, {"validate_from": 1}, {"validate_on": 5}], ids=repr)
def test_a_choice_without_data_is_refused(settings: Any) -> None:
    (name,) = settings
    with pytest.raises(ValueError, match=f"{name} is given, but no validation_data"):
        trainer_of(digits_classifier()).fit(*digits(16), **settings)


class Stops(Plugin):
    """Ends the training after its first epoch."""

    affects_training = False

    def end_epoch(self, record: Any) -> None:
        raise StopTraining("enough")


def test_a_training_that_ends_before_an_epoch_is_kept_says_so(caplog: pytest.LogCaptureFixture) -> None:
    trainer = fitted(plugins=[Stops()], validation_data=held_out(), keep_best=True, validate_from=3)
    assert trainer.best_epoch is None
    assert "keep_best has kept no epoch" in caplog.text


def test_validation_moves_a_rounding_error_into_the_box_as_training_does() -> None:
    """A model that tells 1.0078, the next bfloat16 above 1, from 1."""

    class Tells(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            past = self.scale * (x.flatten(1).amax(dim=1) - 1.001)
            return torch.stack([-past, past], dim=1)

    classifier = classifier_of(Tells(), (4,), 2)
    x, y = torch.full((8, 4), 1.0078, dtype=torch.bfloat16), torch.ones(8, dtype=torch.int64)
    trainer = trainer_of(classifier)
    trainer.fit(x, y, (x, y), nb_epochs=1, verbose=False)
    assert trainer.history[0]["clean_accuracy"] == 0.0
