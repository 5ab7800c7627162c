"""One attack x one weighting x one objective x plugins: whatever the package holds, trains."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from art.attacks.evasion import (
    AutoProjectedGradientDescent,
    DeepFool,
    FastGradientMethod,
    ProjectedGradientDescent,
    ProjectedGradientDescentPyTorch,
    SaliencyMapMethod,
)
from torch import Tensor

from art_gair import (
    AT,
    AWP,
    EMA,
    MART,
    TRADES,
    AdversarialTrainerGAIRAT,
    BoundaryPGD,
    FriendlyPGD,
    GeometryAwarePGD,
    MarginWeighting,
    TanhWeighting,
    UniformWeighting,
)
from art_gair.attacks.art_attack import ArtAttack
from art_gair.attacks.losses import LOSSES
from art_gair.attacks.norms import NORMS
from art_gair.engine.classifier import TensorClassifier
from art_gair.logits import kl_divergence
from art_gair.objectives import CompositeKL
from art_gair.plugins import ClipGradients
from art_gair.weighting import SigmoidWeighting
from tests.discovery import concrete_subclasses
from tests.models import (
    as_it_is,
    assert_same_state,
    classifier_of,
    digits,
    digits_classifier,
    mlp,
    state_of,
    trainer_of,
)
from tests.objectives.test_objectives import OBJECTIVES
from tests.weighting.test_on_logits import SCHEMES

ATTACKS: list[type[GeometryAwarePGD]] = [GeometryAwarePGD, FriendlyPGD, BoundaryPGD]
EPS = {math.inf: (0.2, 0.1), 2.0: (1.0, 0.5), 1.0: (4.0, 2.0)}


def trained(
    *, weighting: Any, objective: Any = None, attack: Any = GeometryAwarePGD, plugins: Any = (), **settings: Any
) -> Any:
    """Train the digits model for one epoch from a fixed seed; return the trainer."""
    classifier = digits_classifier()
    eps, eps_step = EPS[settings.get("norm", math.inf)]
    settings = {"eps": eps, "eps_step": eps_step, "max_iter": 3, **settings}
    trainer = AdversarialTrainerGAIRAT(
        classifier, attack(classifier, **settings), weighting, objective=objective, burn_in=0, plugins=plugins
    )
    torch.manual_seed(2)
    trainer.fit(*digits(48), batch_size=16, nb_epochs=1)
    return trainer


def assert_trained(trainer: Any) -> None:
    assert_moved(trainer)
    record = trainer.history[0]
    assert math.isfinite(record["loss"])
    assert sum(record["kappa_histogram"]) == 48
    assert 1 <= record["effective_sample_size"] <= 16 + 1e-4


def assert_moved(trainer: Any) -> None:
    fresh = digits_classifier().model
    pairs = zip(trainer.classifier.model.parameters(), fresh.parameters(), strict=True)
    moved = [not torch.equal(p, q) for p, q in pairs if torch.isfinite(p).all()]
    assert len(moved) == len(list(fresh.parameters()))
    assert sum(moved) >= len(moved) - 2  # the gradient of a bias before BatchNorm is zero


def assert_same(trainer: Any, other: Any) -> None:
    assert_same_state(trainer.classifier.model, state_of(other.classifier.model))


@pytest.mark.parametrize(("weighting", "objective"), list(itertools.product(SCHEMES, OBJECTIVES)), ids=repr)
def test_every_weighting_with_every_objective(weighting: Any, objective: Any) -> None:
    assert_trained(trained(weighting=weighting, objective=objective))


@pytest.mark.parametrize(("attack", "norm", "loss"), list(itertools.product(ATTACKS, NORMS, LOSSES)))
def test_every_attack_in_every_norm_with_every_loss(attack: Any, norm: float, loss: str) -> None:
    assert_trained(trained(weighting=TanhWeighting(0.0), attack=attack, norm=norm, loss=loss))


def test_every_attack_of_the_package_is_tested() -> None:
    assert concrete_subclasses(GeometryAwarePGD) <= set(ATTACKS)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_plugins_together_with_every_objective(objective: Any) -> None:
    plugins = [AWP(0.01), ClipGradients(1.0), EMA(0.5)]
    assert_trained(trained(weighting=TanhWeighting(0.0), objective=objective, plugins=plugins))


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
@pytest.mark.parametrize("lam_inf", [TanhWeighting(math.inf), SigmoidWeighting(math.inf)], ids=repr)
def test_lam_inf_is_the_base_method_bit_for_bit(objective: Any, lam_inf: Any) -> None:
    assert_same(
        trained(weighting=lam_inf, objective=objective), trained(weighting=UniformWeighting(), objective=objective)
    )


@pytest.mark.parametrize("objective", [TRADES(0.0), TRADES(0.0, "both"), CompositeKL(0.0)], ids=repr)
@pytest.mark.parametrize("weight", [None, torch.linspace(1, 3, 10)], ids=["plain", "class weights"])
def test_beta_of_zero_is_plain_training_bit_for_bit(objective: Any, weight: Any) -> None:
    """The divergence adds gradients of exactly zero; BatchNorm's buffers see x_adv as well and are left out."""
    x, y = digits(49)
    loss = torch.nn.CrossEntropyLoss(weight=weight)
    models = []
    for ours in (True, False):
        classifier = as_it_is(digits_classifier(loss=loss))
        model, optimizer = classifier.model, classifier.optimizer
        model[-2].p = 0.0
        torch.manual_seed(4)
        if ours:
            attack = GeometryAwarePGD(classifier, eps=0.2, eps_step=0.1, max_iter=2, num_random_init=0)
            trainer = AdversarialTrainerGAIRAT(classifier, attack, UniformWeighting(), objective=objective)
            trainer.fit(x, y, batch_size=20, nb_epochs=2)
        else:
            for rows in [r for _ in range(2) for r in torch.randperm(49).split(20)]:
                model.train()
                optimizer.zero_grad()
                loss(model(torch.from_numpy(x)[rows]), torch.from_numpy(y)[rows]).backward()
                optimizer.step()
        models.append(model)
    for p, q in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(p, q) if weight is None else torch.allclose(p, q, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("weighting", [UniformWeighting(), TanhWeighting(0.0)], ids=repr)
def test_fat_with_tau_of_max_iter_is_at_bit_for_bit(weighting: Any) -> None:
    assert_same(trained(weighting=weighting, attack=FriendlyPGD, tau=3), trained(weighting=weighting))


@pytest.mark.parametrize("objective", [TRADES(), MART(), CompositeKL()], ids=repr)
def test_the_default_attack_is_the_objectives(objective: Any) -> None:
    trainer = AdversarialTrainerGAIRAT(digits_classifier(), objective=objective)
    assert (trainer.attack.loss, trainer.attack.num_random_init) == (
        ("ce", 1) if isinstance(objective, MART) else ("kl", 0)
    )


def test_permuting_a_batch_permutes_nothing_that_is_learnt() -> None:
    """A batch in another order gives the same step, for each objective and for weights by kappa and by margin."""
    x, y = digits(24)
    order = np.random.permutation(24)
    for objective, weighting in itertools.product(OBJECTIVES, [TanhWeighting(0.0), MarginWeighting()]):
        models = []
        for rows in (np.arange(24), order):
            classifier = digits_classifier()
            classifier.model[-2].p = 0.0
            attack = GeometryAwarePGD(classifier, eps=0.2, eps_step=0.1, max_iter=3, num_random_init=0)
            trainer = AdversarialTrainerGAIRAT(classifier, attack, weighting, objective=objective, burn_in=0)
            trainer.fit_generator([(x[rows], y[rows])], nb_epochs=1)
            models.append(classifier.model)
        for p, q in zip(models[0].parameters(), models[1].parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-5)


# Other ART attacks


@pytest.mark.parametrize(
    "make",
    [
        lambda c: FastGradientMethod(c, eps=0.1),
        lambda c: ProjectedGradientDescent(c, eps=0.1, eps_step=0.05, max_iter=2),
        lambda c: ProjectedGradientDescentPyTorch(c, eps=0.1, eps_step=0.05, max_iter=2),
        lambda c: AutoProjectedGradientDescent(c, eps=0.1, eps_step=0.05, max_iter=2, nb_random_init=1, batch_size=16),
        lambda c: DeepFool(c, max_iter=2),
    ],
    ids=["FGM", "PGD", "PGD on tensors", "APGD", "DeepFool"],
)
@pytest.mark.parametrize("weighting", [MarginWeighting(), UniformWeighting()], ids=repr)
def test_other_art_attacks_train_with_weights_that_need_no_kappa(make: Callable[[Any], Any], weighting: Any) -> None:
    classifier = digits_classifier()
    trainer = AdversarialTrainerGAIRAT(classifier, make(classifier), weighting, burn_in=0)
    trainer.fit(*digits(32), batch_size=16, nb_epochs=1, validation_data=digits(8))
    assert_moved(trainer)
    assert trainer.history[0]["kappa_histogram"] == []
    assert trainer.history[0]["robust_accuracy"] is not None


def test_arts_pgd_and_ours_train_alike_from_the_same_start() -> None:
    models = []
    settings: dict[str, Any] = {"eps": 0.2, "eps_step": 0.1, "max_iter": 3, "num_random_init": 0}
    for make in (ProjectedGradientDescentPyTorch, GeometryAwarePGD):
        classifier = digits_classifier()
        classifier.model[-2].p = 0.0  # no Dropout: ART's attack draws from the generator that it would draw from
        attack = make(classifier, verbose=False, **settings)
        torch.manual_seed(1)
        AdversarialTrainerGAIRAT(classifier, attack, MarginWeighting(), burn_in=0).fit(*digits(32), nb_epochs=1)
        models.append(classifier.model)
    for p, q in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-4)


def test_a_foreign_attack_leaves_flags_alone_and_numpys_generator_to_training() -> None:
    """ART's attacks draw from numpy; validation must not shift what training draws."""
    models = []
    for validation_data in (None, digits(16)):
        classifier = digits_classifier()
        classifier.model[-2].p = 0.0
        attack = ProjectedGradientDescentPyTorch(classifier, eps=0.1, eps_step=0.05, max_iter=2, num_random_init=1)
        np.random.seed(1)
        torch.manual_seed(1)
        trainer = AdversarialTrainerGAIRAT(classifier, attack, MarginWeighting())
        trainer.fit(*digits(32), batch_size=16, nb_epochs=2, validation_data=validation_data)
        models.append(classifier.model)
    assert_same_state(models[0], state_of(models[1]))

    view = TensorClassifier(classifier)
    classifier.model.train()
    ArtAttack(attack).on_batches(view, 0)(*(torch.from_numpy(a) for a in digits(4)))
    assert all(m.training for m in classifier.model.modules())


def test_validation_leaves_pythons_generator_alone_too() -> None:
    classifier = digits_classifier()

    class Draws(FastGradientMethod):
        def generate(self, x: Any, y: Any = None, **kwargs: Any) -> Any:
            random.random()
            return super().generate(x, y)

    random.seed(3)
    trainer = AdversarialTrainerGAIRAT(classifier, Draws(classifier, eps=0.1), MarginWeighting())
    trainer.fit(*digits(32), batch_size=16, nb_epochs=1, validation_data=digits(64))
    left = random.random()
    random.seed(3)
    assert [random.random() for _ in range(3)][-1] == left


def test_a_foreign_attack_that_returns_nonsense_is_named() -> None:
    class Broken(FastGradientMethod):
        def generate(self, x: Any, y: Any = None, **kwargs: Any) -> Any:
            return np.full_like(x, np.nan)

    classifier = digits_classifier()
    with pytest.raises(ValueError, match=r"attack Broken returned .* values that are not finite"):
        AdversarialTrainerGAIRAT(classifier, Broken(classifier), MarginWeighting()).fit(*digits(8), nb_epochs=1)


def test_an_attack_set_later_is_the_one_that_runs() -> None:
    classifier = digits_classifier()
    trainer = trainer_of(classifier)
    trainer.attack = GeometryAwarePGD(classifier, max_iter=6)
    trainer.fit(*digits(8), nb_epochs=1)
    assert len(trainer.history[0]["kappa_histogram"]) == 7
    trainer.attack = FastGradientMethod(classifier)
    with pytest.raises(ValueError, match="FastGradientMethod counts no kappa"):
        trainer.fit(*digits(8), nb_epochs=1)


def test_an_attack_with_another_loss_than_the_objectives_is_remarked_on(caplog: pytest.LogCaptureFixture) -> None:
    classifier = digits_classifier()
    AdversarialTrainerGAIRAT(classifier, GeometryAwarePGD(classifier), objective=TRADES())
    assert "TRADES's own attack maximises 'kl'; this one maximises 'ce'" in caplog.text
    caplog.clear()
    AdversarialTrainerGAIRAT(classifier, objective=TRADES())
    assert caplog.text == ""


def test_the_composites_second_attack_maximises_the_margin() -> None:
    """The loss of a first step by hand, from two attacks made outside of the training."""
    x, y = digits(24)
    classifier = classifier_of(mlp((1, 8, 8), 10), (1, 8, 8))
    settings: dict[str, Any] = {"eps": 0.2, "eps_step": 0.05, "max_iter": 4, "num_random_init": 0}
    y = classifier.predict(x).argmax(axis=1)
    x_ce = GeometryAwarePGD(classifier, loss="ce", **settings).generate(x, y)
    x_cw = GeometryAwarePGD(classifier, loss="margin", **settings).generate(x, y)
    assert (x_ce != x_cw).any()
    clean, first, second = (classifier.model(torch.from_numpy(z)).detach() for z in (x, x_ce, x_cw))
    _, kappa = GeometryAwarePGD(classifier, loss="ce", **settings).generate_with_kappa(x, y)
    w = TanhWeighting(0.0)(kappa=torch.from_numpy(kappa), max_iter=4)
    share = w / w.max()
    ce = torch.nn.functional.cross_entropy(clean, torch.from_numpy(y))
    mixed = share * kl_divergence(clean, first) + (1 - share) * kl_divergence(clean, second)
    attack = GeometryAwarePGD(classifier, loss="ce", **settings)
    trainer = AdversarialTrainerGAIRAT(classifier, attack, TanhWeighting(0.0), objective=CompositeKL(2.0), burn_in=0)
    trainer.fit(x, y, batch_size=24, nb_epochs=1)
    assert trainer.history[0]["loss"] == pytest.approx((ce + 2.0 * mixed.mean()).item(), rel=1e-4)


def test_a_missing_label_is_the_models_own_prediction() -> None:
    """All labels missing, or all given as the model predicts them: the same attack and the same divergences."""
    x, _ = digits(24)
    predictor = state_of(mlp((1, 8, 8), 10, scale=4.0))
    losses = []
    for given in (False, True):
        classifier = classifier_of(mlp((1, 8, 8), 10), (1, 8, 8), lr=0.0)
        classifier.model.load_state_dict(predictor)
        predicted = classifier.predict(x).argmax(axis=1)
        y = predicted if given else np.full(24, -1)
        attack = GeometryAwarePGD(classifier, loss="margin", eps=0.2, eps_step=0.05, max_iter=4, num_random_init=0)
        trainer = AdversarialTrainerGAIRAT(classifier, attack, TanhWeighting(0.0), objective=TRADES(1.0), burn_in=0)
        trainer.fit(x, y, batch_size=24, nb_epochs=1)
        clean = torch.from_numpy(classifier.predict(x))
        ce = torch.nn.functional.cross_entropy(clean, torch.from_numpy(predicted)).item() if given else 0.0
        losses.append(trainer.history[0]["loss"] - ce)
        assert len(set(predicted)) > 1
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_a_transferred_attack_may_be_on_another_classifier() -> None:
    classifier, other = digits_classifier(), digits_classifier(seed=7)
    trainer = AdversarialTrainerGAIRAT(classifier, FastGradientMethod(other, eps=0.1), MarginWeighting())
    trainer.fit(*digits(16), nb_epochs=1)
    assert_moved(trainer)


def test_attacks_that_cannot_give_what_is_needed_are_refused() -> None:
    classifier = digits_classifier()
    attack = FastGradientMethod(classifier)
    with pytest.raises(ValueError, match=r"FastGradientMethod counts no kappa, which SigmoidWeighting.*Margin"):
        AdversarialTrainerGAIRAT(classifier, attack, SigmoidWeighting())
    with pytest.raises(ValueError, match="cannot give the second attack, loss 'margin', that CompositeKL needs"):
        AdversarialTrainerGAIRAT(classifier, attack, MarginWeighting(), objective=CompositeKL())
    with pytest.raises(ValueError, match="attack SaliencyMapMethod is targeted"):
        AdversarialTrainerGAIRAT(classifier, SaliencyMapMethod(classifier, verbose=False), MarginWeighting())
    with pytest.raises(ValueError, match="attack FastGradientMethod is targeted"):
        AdversarialTrainerGAIRAT(classifier, FastGradientMethod(classifier, targeted=True), MarginWeighting())


# A user's own parts


def test_any_callable_of_the_signature_is_a_weighting() -> None:
    def by_class(*, kappa: Tensor, max_iter: int, logits: Tensor, labels: Tensor, epoch: int) -> Tensor:
        w = 1.0 + (labels == 3).float()
        return w / w.mean()

    assert_trained(trained(weighting=by_class))


@pytest.mark.parametrize(
    ("weighting", "error", "message"),
    [
        (
            lambda **b: torch.ones(3),
            ValueError,
            r"weighting returned shape \(3,\), torch.float32; expected floats of shape \(16,\)",
        ),
        (lambda **b: 1.0, ValueError, r"weighting returned a float; expected floats of shape \(16,\)"),
        (
            lambda **b: torch.ones(16).long(),
            ValueError,
            r"weighting returned shape \(16,\), torch.int64; expected floats",
        ),
        (lambda **b: -torch.ones(16), ValueError, "weights that are negative, not finite or not of mean 1 in epoch 0"),
        (lambda **b: torch.full((16,), math.nan), ValueError, "negative, not finite or not of mean 1"),
        (lambda **b: torch.full((16,), math.inf), ValueError, "negative, not finite or not of mean 1"),
        (lambda **b: torch.full((16,), 2.0), ValueError, "not of mean 1 in epoch 0, batch 0"),
        ("Tanh", TypeError, "weighting is 'Tanh'; expected a scheme such as TanhWeighting"),
        (TanhWeighting, TypeError, "weighting is <class .*TanhWeighting'>; expected a scheme"),
    ],
)
def test_bad_weights_are_named_and_touch_nothing(weighting: Any, error: type[Exception], message: str) -> None:
    classifier = digits_classifier()
    before = state_of(classifier.model)
    with pytest.raises(error, match=message):
        trainer_of(classifier, weighting).fit(*digits(48), batch_size=16, nb_epochs=1)
    assert_same_state(classifier.model, before)


def test_bad_objectives_are_refused() -> None:
    with pytest.raises(TypeError, match=r"objective is 'trades'; expected an Objective such as AT\(\) or TRADES"):
        AdversarialTrainerGAIRAT(digits_classifier(), objective="trades")  # type: ignore[arg-type]


# Burn-in and unlabelled samples


def test_a_burn_in_that_fails_later_fails_at_the_start() -> None:
    calls: list[int] = []

    def failing(epoch: int) -> bool:
        calls.append(epoch)
        return 1 // (2 - epoch) > 0

    classifier = digits_classifier()
    before = state_of(classifier.model)
    with pytest.raises(ValueError, match="burn_in is a schedule that fails in epoch 2: ZeroDivisionError"):
        AdversarialTrainerGAIRAT(classifier, burn_in=failing).fit(*digits(8), nb_epochs=4)
    assert_same_state(classifier.model, before)
    assert calls == [0, 1, 2]


@pytest.mark.parametrize(
    ("burn_in", "expected"),
    [(0, [0, 0, 0, 0]), (3, [1, 1, 1, 0]), (0.5, [1, 1, 0, 0]), (lambda epoch: np.bool_(epoch % 2 == 0), [1, 0, 1, 0])],
    ids=["none", "epochs", "share", "function"],
)
def test_the_burn_in_may_be_epochs_a_share_or_a_function(burn_in: Any, expected: list[int]) -> None:
    trainer = AdversarialTrainerGAIRAT(digits_classifier(), burn_in=burn_in)
    trainer.fit(*digits(8), nb_epochs=4)
    assert [r["burn_in"] for r in trainer.history] == [bool(e) for e in expected]
    json.dumps(trainer.history)


@pytest.mark.parametrize("burn_in", [1.5, 0.0, -0.3])
def test_a_bad_share_is_named(burn_in: float) -> None:
    with pytest.raises(ValueError, match=rf"burn_in is {burn_in}; expected a finite number, > 0 and < 1"):
        AdversarialTrainerGAIRAT(digits_classifier(), burn_in=burn_in)


def test_unlabelled_samples_need_an_objective_that_can_use_them() -> None:
    x, y = digits(16)
    y[8:] = -1
    for objective in (AT(), MART()):
        with pytest.raises(ValueError, match="y holds labels -1 to 7; expected 0 to 9"):
            AdversarialTrainerGAIRAT(digits_classifier(), objective=objective).fit(x, y, nb_epochs=1)
    for usable in (TRADES(), CompositeKL()):
        trainer = AdversarialTrainerGAIRAT(digits_classifier(), objective=usable, burn_in=0)
        trainer.fit(x, y, nb_epochs=1)
        assert_moved(trainer)
        with pytest.raises(ValueError, match="y holds labels -2 to 7; expected -1 to 9"):
            trainer.fit(x, np.where(y == -1, -2, y), nb_epochs=1)
