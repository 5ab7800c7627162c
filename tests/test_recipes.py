"""The papers' settings."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from art_gair import AWP, EMA, FriendlyPGD, recipes
from tests.models import digits, digits_classifier

METHODS: dict[str, dict[str, Any]] = {
    "at": {"objective": "AT()", "weighting": "UniformWeighting()", "loss": "ce", "burn_in": 0},
    "gairat": {"objective": "AT()", "weighting": "TanhWeighting(lam=-1.0)", "loss": "ce", "burn_in": 0.3},
    "fat": {"objective": "AT()", "weighting": "UniformWeighting()", "loss": "ce", "burn_in": 0},
    "gair_fat": {"objective": "AT()", "weighting": "TanhWeighting(lam=0.0)", "loss": "ce", "burn_in": 0.3},
    "trades": {"objective": "TRADES(beta=6.0, weigh='kl')", "weighting": "UniformWeighting()", "loss": "kl"},
    "gair_trades": {"objective": "TRADES(beta=6.0, weigh='kl')", "weighting": "TanhWeighting(lam=-1.0)", "loss": "kl"},
    "mart": {"objective": "MART(beta=5.0)", "weighting": "UniformWeighting()", "loss": "ce", "burn_in": 0},
    "gair_mart": {"objective": "MART(beta=5.0)", "weighting": "TanhWeighting(lam=-1.0)", "loss": "ce"},
    "mail_at": {"objective": "AT()", "weighting": "MarginWeighting(slope=10.0, bias=0.5)", "burn_in": 0.75},
    "mail_trades": {"objective": "TRADES(beta=5.0, weigh='kl')", "weighting": "MarginWeighting(slope=2.0, bias=0.0)"},
    "robust": {"objective": "AT()", "weighting": "UniformWeighting()", "loss": "ce", "burn_in": 0},
    "gair_rst": {"objective": "CompositeKL(beta=6.0)", "weighting": "TanhWeighting(lam=-1.0)", "burn_in": 0.5},
}


def radii(trainer: Any) -> list[float]:
    return [float(r) for r in (trainer.attack.eps, trainer.attack.eps_step)]


def test_every_recipe_is_tested() -> None:
    functions = {n for n, f in vars(recipes).items() if inspect.isfunction(f) and f.__module__ == "art_gair.recipes"}
    assert {n for n in functions if not n.startswith("_")} == set(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_settings_are_the_papers(method: str, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = getattr(recipes, method)(digits_classifier())
    expected = METHODS[method]
    assert repr(trainer.objective) == expected["objective"]
    assert repr(trainer.weighting) == expected["weighting"]
    assert trainer.attack.loss == expected.get("loss", trainer.attack.loss)
    assert trainer.burn_in == expected.get("burn_in", trainer.burn_in)
    assert (trainer.attack.max_iter, trainer.attack.norm) == (3 if method == "robust" else 10, np.inf)
    assert radii(trainer) == pytest.approx([9.6 / 255, 8 / 255] if method == "robust" else [8 / 255, 2 / 255])
    assert isinstance(trainer.attack, FriendlyPGD) == ("fat" in method)
    printed = capsys.readouterr().out
    assert "settings for cifar10" in printed
    assert expected["weighting"] in printed


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dataset", recipes.PRESETS)
def test_every_recipe_trains(method: str, dataset: str) -> None:
    trainer = getattr(recipes, method)(digits_classifier(), dataset=dataset)
    trainer.fit(*digits(16), batch_size=8, nb_epochs=2)
    assert len(trainer.history) == 2


def test_mnist_has_its_own_radius_and_beta() -> None:
    trainer = recipes.trades(digits_classifier(clip_values=(0, 255)), dataset="mnist", plugins=[AWP(0.005)])
    assert radii(trainer) == pytest.approx([76.5, 2.55])
    assert trainer.attack.max_iter == 40
    assert repr(trainer.objective) == "TRADES(beta=1.0, weigh='kl')"
    assert isinstance(trainer.plugins[0], AWP)


@pytest.mark.parametrize("method", METHODS)
def test_the_attacks_settings_are_the_users(method: str) -> None:
    trainer = getattr(recipes, method)(digits_classifier(), eps=0.2, eps_step=0.03, max_iter=7, plugins=[AWP()])
    eps = 0.24 if method == "robust" else 0.2
    assert (*radii(trainer), trainer.attack.max_iter) == pytest.approx((eps, 0.03, 7))
    assert isinstance(trainer.plugins[-1], AWP)


@pytest.mark.parametrize(
    ("dataset", "given", "eps", "eps_step"),
    [
        ("cifar10", {"eps": 0.2}, 0.2, 0.05),
        ("cifar10", {"eps": 0.2, "max_iter": 5}, 0.2, 0.1),
        ("cifar10", {"max_iter": 40}, 8 / 255, 2 / 255),
        ("mnist", {"eps": 0.6}, 0.6, 0.02),
        ("mnist", {"max_iter": 10}, 0.3, 0.04),
        ("cifar10", {"eps_step": 0.01}, 8 / 255, 0.01),
    ],
    ids=str,
)
def test_the_step_follows_eps_and_max_iter(dataset: str, given: dict[str, Any], eps: float, eps_step: float) -> None:
    """So many steps cross the ball as often as the data set's do."""
    assert radii(recipes.at(digits_classifier(), dataset=dataset, **given)) == pytest.approx([eps, eps_step])


def test_with_radii_of_its_own_a_recipe_needs_no_clip_values() -> None:
    trainer = recipes.gairat(digits_classifier(clip_values=None), eps=np.full((1, 8, 8), 0.2))
    trainer.fit(*digits(8), nb_epochs=1)
    np.testing.assert_allclose(trainer.attack.eps_step, np.full((1, 8, 8), 0.05))


def test_robust_trains_with_few_steps_in_a_larger_ball_and_is_judged_by_all_of_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    trainer = recipes.robust(digits_classifier(), eps=0.2)
    assert (*radii(trainer), trainer.attack.max_iter) == pytest.approx((0.24, 0.2, 3))
    assert trainer.judge is not None
    assert (trainer.judge.eps, trainer.judge.eps_step, trainer.judge.max_iter) == pytest.approx((0.2, 0.05, 10))
    assert repr(trainer.plugins) == "[EMA(decay=0.995, warmup=True, validate='both', final='ema')]"
    assert "robust, settings for cifar10" in capsys.readouterr().out
    trainer.fit(*digits(60), batch_size=20, nb_epochs=3)
    assert [record["attack_passes"] for record in trainer.history] == [3.0, 3.0, 3.0]
    assert trainer.best_epoch is not None


def test_robust_takes_an_average_of_the_users_and_radii_of_any_form() -> None:
    trainer = recipes.robust(digits_classifier(), plugins=[AWP(), EMA(0.9)], eps=np.full((1, 8, 8), 0.2), max_iter=5)
    assert repr(trainer.plugins[1]) == repr(EMA(0.9))
    assert len(trainer.plugins) == 2
    np.testing.assert_allclose(trainer.attack.eps, np.full((1, 8, 8), 0.24))
    np.testing.assert_allclose(trainer.attack.eps_step, np.full((1, 8, 8), 0.12))
    trainer.fit(*digits(20), nb_epochs=1)
    with pytest.raises(ValueError, match="eps is a schedule; expected the radius to be withstood"):
        recipes.robust(digits_classifier(), eps=lambda epoch: 0.1, eps_step=0.1)
    with pytest.raises(TypeError, match="plugins"):
        recipes.robust(digits_classifier(), plugins=3)  # type: ignore[arg-type]


def test_tau_rises_as_in_each_of_the_two_papers() -> None:
    fat, gair_fat = (make(digits_classifier()).attack for make in (recipes.fat, recipes.gair_fat))
    assert [fat.at_epoch(epoch).tau for epoch in (0, 49, 50, 89, 90, 119)] == [0, 0, 1, 1, 2, 2]
    assert [gair_fat.at_epoch(epoch).tau for epoch in (0, 39, 40, 69, 70, 99)] == [0, 0, 3, 3, 6, 6]


def test_bad_arguments_are_named() -> None:
    for given, error, message in (
        ({"epsilon": 0.1}, TypeError, "epsilon is no argument of a recipe; expected dataset, plugins, eps, eps_step"),
        ({"eps": -0.1}, ValueError, "eps is -0.1; expected positive"),
        ({"eps": "8/255"}, TypeError, "eps is '8/255'; expected a positive number"),
        ({"eps": None}, TypeError, "eps is None"),
        ({"max_iter": 0}, ValueError, "max_iter is 0"),
        ({"eps": lambda epoch: 0.1}, ValueError, "eps is a schedule, and eps_step is not given"),
    ):
        with pytest.raises(error, match=message):
            recipes.at(digits_classifier(), **given)
    with pytest.raises(ValueError, match=r"from which a recipe takes its eps; expected eps=\.\.\."):
        recipes.robust(digits_classifier(clip_values=None))
    with pytest.raises(ValueError, match="dataset is 'imagenet'; expected one of 'cifar10', 'svhn', 'mnist'"):
        recipes.gairat(digits_classifier(), dataset="imagenet")
    with pytest.raises(ValueError, match="no finite clip_values"):
        recipes.gairat(digits_classifier(clip_values=None))
