"""A fingerprint holds all that results depend on, and nothing that differs between two runs of the same script."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent, ProjectedGradientDescentPyTorch
from art.estimators.classification import BlackBoxClassifier, SklearnClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from art_gair import GeometryAwarePGD
from art_gair.evaluation import evaluate_robustness
from art_gair.evaluation.fingerprint import describe_contents
from tests.models import classifier_of

Function = Callable[[Tensor], Tensor]

SCALE = 1.0


class Cleaned(nn.Module):
    """A linear model behind a function, with an attribute."""

    def __init__(self, clean: Function = torch.relu, held: Any = None) -> None:
        super().__init__()
        self.layer, self.clean, self.held = nn.Linear(4, 3), clean, held
        nn.init.eye_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(self.clean(x))
        return out


class Counting(Cleaned):
    """A model that counts its passes."""

    def __init__(self, calls: int = 0) -> None:
        super().__init__()
        self.calls = calls

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x)


def make(model: nn.Module, **settings: Any) -> Any:
    return classifier_of(model, (4,), 3, optimizer=None, **settings)


def differing(first: dict[str, str], second: dict[str, str]) -> list[str]:
    return sorted(name for name in first if first[name] != second[name])


def rounding(steps: int) -> Function:
    return lambda x: torch.round(x * steps) / steps


def shifting(by: float = 0.5) -> Function:
    def shift(x: Tensor, by: float = by) -> Tensor:
        return x + by

    return shift


def scale(x: Tensor) -> Tensor:
    return x * SCALE


def scale_by_another(x: Tensor) -> Tensor:
    return scale(x)


def hooked(hook: Callable[..., Any]) -> nn.Module:
    model = Cleaned()
    model.layer.register_forward_pre_hook(hook)
    return model


class Holder:
    """An object that cannot be pickled."""

    def __init__(self, value: float) -> None:
        self.value, self.function = value, lambda: value


@pytest.mark.parametrize(
    ("first", "second", "difference"),
    [
        (lambda: Cleaned(lambda x: x), lambda: Cleaned(lambda x: x * 2), "attributes"),
        (lambda: Cleaned(rounding(3)), lambda: Cleaned(rounding(4)), "attributes"),
        (lambda: Cleaned(shifting()), lambda: Cleaned(shifting(0.25)), "attributes"),
        (
            lambda: Cleaned(functools.partial(torch.clamp, min=0.0)),
            lambda: Cleaned(functools.partial(torch.clamp, min=0.1)),
            "attributes",
        ),
        (lambda: Cleaned(torch.no_grad()(lambda x: x)), lambda: Cleaned(torch.no_grad()(lambda x: -x)), "attributes"),
        (lambda: Cleaned(torch.relu), lambda: Cleaned(torch.tanh), "attributes"),
        (lambda: Cleaned(held=Holder(1.0)), lambda: Cleaned(held=Holder(2.0)), "attributes"),
        (lambda: Cleaned(held=[torch.zeros(2)]), lambda: Cleaned(held=[torch.ones(2)]), "attributes"),
        (lambda: Cleaned(held={"a": {torch.float32}}), lambda: Cleaned(held={"a": {torch.int64}}), "attributes"),
        (lambda: Cleaned(held=[Cleaned(lambda x: x)]), lambda: Cleaned(held=[Cleaned(lambda x: -x)]), "attributes"),
        (lambda: hooked(lambda m, x: None), lambda: hooked(lambda m, x: (x[0] / 2,)), "hooks"),
        (Cleaned, lambda: hooked(lambda m, x: (x[0] / 2,)), "hooks"),
        (lambda: Counting(0), lambda: Counting(1), "attributes"),
    ],
    ids=[
        *("constant", "closure", "default", "partial", "decorated", "builtin", "object", "list", "dict", "module"),
        *("hook", "new hook", "counter"),
    ],
)
def test_another_model_has_another_fingerprint(
    first: Callable[[], nn.Module], second: Callable[[], nn.Module], difference: str
) -> None:
    described = describe_contents(make(first()))
    assert describe_contents(make(first())) == described
    assert differing(described, describe_contents(make(second()))) == [f"model's {difference}"]


def test_a_global_that_a_function_reads_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    described = describe_contents(make(Cleaned(scale_by_another)))
    monkeypatch.setattr(sys.modules[__name__], "SCALE", 2.0)
    assert differing(described, describe_contents(make(Cleaned(scale_by_another)))) == ["model's attributes"]


def test_an_inherited_method_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    described = describe_contents(make(Counting()))
    monkeypatch.setattr(Cleaned, "forward", lambda self, x: self.layer(x) * 2)
    assert differing(described, describe_contents(make(Counting()))) == ["model's source"]


def test_a_hook_of_all_modules_counts() -> None:
    classifier = make(Cleaned())
    described = describe_contents(classifier)
    handle = nn.modules.module.register_module_forward_hook(lambda m, x, out: None)
    try:
        assert differing(described, describe_contents(classifier)) == ["model's hooks"]
    finally:
        handle.remove()


X = np.random.default_rng(0).uniform(0, 1, (30, 4)).astype(np.float32)
Y = np.arange(30) % 3


def sklearn(model: Any, y: Any) -> Any:
    return SklearnClassifier(model.fit(X, y), clip_values=(0, 1))


def black_box(column: int) -> Any:
    return BlackBoxClassifier(lambda x: np.eye(3)[(x[:, column] > 0.5).astype(int)], (4,), 3, clip_values=(0, 1))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (lambda: sklearn(LogisticRegression(), Y), lambda: sklearn(LogisticRegression(), Y[::-1])),
        (
            lambda: sklearn(RandomForestClassifier(2, random_state=0), Y),
            lambda: sklearn(RandomForestClassifier(2, random_state=0), Y[::-1]),
        ),
        (lambda: black_box(0), lambda: black_box(1)),
        (lambda: make(Cleaned()), lambda: make(Cleaned(), preprocessing=(0.5, 0.5))),
        (lambda: make(Cleaned()), lambda: make(Cleaned(lambda x: -x))),
    ],
    ids=["linear", "forest", "function", "preprocessing", "module"],
)
def test_another_surrogate_has_another_fingerprint(first: Callable[[], Any], second: Callable[[], Any]) -> None:
    def describe(surrogate: Any) -> dict[str, str]:
        attack = FastGradientMethod(make(Cleaned()), eps=0.1)
        attack._estimator = surrogate  # some of these give no gradients, which do not matter here
        return describe_contents(classifier, [attack])

    classifier = make(Cleaned())
    assert describe(first()) == describe(first())
    assert differing(describe(first()), describe(second())) == ["attacks"]


def test_what_a_prediction_keeps_in_preprocessing_or_an_attack_does_not_count() -> None:
    classifier, surrogate = make(Cleaned()), make(Cleaned(), preprocessing=(0.5, 0.5))
    attack = FastGradientMethod(surrogate, eps=0.1)
    described = describe_contents(classifier, [attack])
    classifier.predict(X)
    attack.generate(X)
    assert describe_contents(classifier, [attack]) == described


class Interrupting(FastGradientMethod):
    """An attack during which the user stops the evaluation, once."""

    def generate(self, x: Any, y: Any = None, **kwargs: Any) -> Any:
        if self.targets:
            self.targets.pop()
            raise KeyboardInterrupt
        return super().generate(x, y, **kwargs)


def test_a_model_that_counts_its_passes_is_resumed(tmp_path: Path) -> None:
    def evaluate(classifier: Any, attack: Any) -> Any:
        return evaluate_robustness(
            *(classifier, X, Y, [0.1, 0.2]), attacks=[attack], verbose=False, resume_from=tmp_path, batch_size=30
        )

    def make_attack(classifier: Any, *stops: int) -> Any:
        attack = Interrupting(classifier, eps=0.1)
        attack.targets = list(stops)
        return attack

    classifier = make(Counting())
    attack = make_attack(classifier, 1)
    with pytest.raises(KeyboardInterrupt):
        evaluate(classifier, attack)
    first = evaluate(classifier, attack)  # with the same objects
    other = make(Counting())  # as a new process has it
    again = evaluate(other, make_attack(other, 1))
    assert [report.worst_case for report in first] == [report.worst_case for report in again]
    other = make(Counting(calls=7))
    with pytest.raises(ValueError, match="another evaluation: model's attributes differ"):
        evaluate(other, make_attack(other, 1))


def test_what_a_users_attack_holds_beside_its_parameters_counts() -> None:
    def describe(**held: Any) -> dict[str, str]:
        attack = Interrupting(classifier, eps=0.1)
        attack.__dict__.update(held)
        return describe_contents(classifier, [attack])

    classifier = make(Cleaned())
    for name in ("targets", "_optimizer", "_strength"):
        assert describe(**{name: 1}) == describe(**{name: 1})
        assert differing(describe(**{name: 1}), describe(**{name: 2})) == ["attacks"]


@pytest.mark.parametrize("base", [GeometryAwarePGD, ProjectedGradientDescentPyTorch, FastGradientMethod])
def test_what_a_users_attack_inherits_and_keeps_for_itself_does_not_count(base: Any) -> None:
    class Mine(base):
        pass

    classifier = make(Cleaned())
    attack = Mine(classifier, eps=0.1, eps_step=0.05)
    described = describe_contents(classifier, [attack])
    attack.generate(X)
    assert describe_contents(classifier, [attack]) == described


def test_an_attack_that_a_user_puts_into_anothers_place_counts() -> None:
    class Mine(ProjectedGradientDescent):
        def __init__(self, boost: float, **settings: Any) -> None:
            super().__init__(classifier, **settings)
            self._attack = Inner(classifier, eps=boost)

    class Inner(FastGradientMethod):
        pass

    def describe(boost: float, inside: bool) -> dict[str, str]:
        attack = Mine(boost) if inside else ProjectedGradientDescent(classifier)
        if not inside:
            attack._attack = Inner(classifier, eps=boost)
        return describe_contents(classifier, [attack])

    classifier = make(Cleaned())
    for inside in (False, True):
        assert describe(0.1, inside) == describe(0.1, inside)
        assert differing(describe(0.1, inside), describe(0.2, inside)) == ["attacks"]


class Tiring(FastGradientMethod):
    """An attack that is weaker each time."""

    strength = 0

    def generate(self, x: Any, y: Any = None, **kwargs: Any) -> Any:
        self.strength -= 1
        return super().generate(x, y, **kwargs) if self.strength >= 0 else x


def test_a_new_attack_is_not_taken_for_one_that_has_changed(tmp_path: Path) -> None:
    def evaluate(strength: int) -> Any:
        attack = Tiring(classifier, eps=0.1)
        attack.strength = strength
        return evaluate_robustness(classifier, X, Y, 0.1, attacks=[attack], verbose=False, resume_from=tmp_path)

    classifier = make(Cleaned())
    evaluate(1)
    evaluate(1)
    with pytest.raises(ValueError, match="another evaluation: attacks differ"):
        evaluate(0)


SCRIPT = """
import torch
from torch import nn
from art_gair.evaluation.fingerprint import describe_contents
from tests.models import classifier_of

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)
        nn.init.ones_(self.layer.weight), nn.init.zeros_(self.layer.bias)
        self.names, self.shifts = {"alpha", "beta", "gamma", "delta"}, [torch.zeros(4), torch.ones(4)]
        self.act = lambda x: [x * k for k in (1, 2)][0]
        self.layer.register_forward_hook(lambda m, x, out: None)

    def forward(self, x):
        return self.layer(sum(map(lambda k: x * k if k in {"a", "b"} else x, "ab")))

print(describe_contents(classifier_of(Model(), (4,), 3, optimizer=None)))
"""


@pytest.mark.slow
def test_a_script_without_source_has_the_same_fingerprint_in_another_process() -> None:
    def run(seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-"]
        done = subprocess.run(command, input=SCRIPT, env=environment, capture_output=True, text=True, check=True)
        return done.stdout

    assert run("1") == run("2") != ""


CONFIG = {"scale": 1.0}
layer = 2.0
"""Named like an attribute that a forward reads; it reads no such global."""


def by_config(x: Tensor) -> Tensor:
    return x * CONFIG["scale"]


def test_a_dictionary_that_a_function_reads_counts_and_a_global_named_like_an_attribute_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    classifier = classifier_of(Cleaned(by_config), (4,), 3)
    before = describe_contents(classifier)
    monkeypatch.setattr(sys.modules[__name__], "layer", 3.0)
    assert describe_contents(classifier) == before
    monkeypatch.setitem(CONFIG, "scale", 2.0)
    assert describe_contents(classifier) != before


class WithParts(nn.Module):
    """Has parts whose forward is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.parts, self.unused = nn.ModuleList([nn.Linear(4, 3)]), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part(x)
        return x


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_models_that_torch_has_made_are_described() -> None:
    model = WithParts()
    found = [describe_contents(classifier_of(m, (4,), 3, optimizer=None)) for m in (torch.jit.script(model), model)]
    traced = describe_contents(classifier_of(torch.jit.trace(model, torch.zeros(2, 4)), (4,), 3, optimizer=None))
    assert len({str(description) for description in (*found, traced)}) == 3
