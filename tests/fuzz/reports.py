"""The robustness report and the figures: valid calls, and what their arguments may be."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from art_gair import AdversarialTrainerGAIRAT, GeometryAwarePGD, RobustnessReport, evaluate_robustness, plots
from art_gair.evaluation import compare, judge
from art_gair.report.codec import encode
from art_gair.report.data import SCHEMA
from art_gair.weighting import DiscreteWeighting, MarginWeighting, TanhWeighting
from tests.fuzz.attacks import is_norm
from tests.fuzz.case import Target
from tests.fuzz.kinds import (
    ALONE,
    FLAG,
    NONE,
    Kind,
    arrays,
    either,
    instances,
    literals,
    made,
    number,
    path,
    samples,
    several,
    whole,
)
from tests.fuzz.shared import CLASSIFIER, X_NEAR, Y_NEAR, X, Y
from tests.fuzz.training import ATTACKS_NEAR, ONE_ATTACK
from tests.fuzz.world import NB_CLASSES, SHAPE, World
from tests.models import classifier_of, mlp


@functools.cache
def report() -> RobustnessReport:
    """Return a report on four images."""
    classifier = classifier_of(mlp((1, 2, 2), NB_CLASSES), (1, 2, 2), NB_CLASSES)
    x = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 1, 2, 2)
    return evaluate_robustness(classifier, x, np.array([0, 1, 2, 0]), eps=0.1, verbose=False)


@functools.cache
def history() -> list[Any]:
    """Return the history of two epochs."""
    classifier = classifier_of(mlp(SHAPE, NB_CLASSES), SHAPE, NB_CLASSES)
    attack = GeometryAwarePGD(classifier, eps=0.1, eps_step=0.1, max_iter=2)
    trainer = AdversarialTrainerGAIRAT(classifier, attack, burn_in=1)
    x, y = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4), np.array([0, 1, 2, 0])
    trainer.fit(x, y, validation_data=(x, y), nb_epochs=2, verbose=False)
    return trainer.history


def is_radius(value: Any) -> bool:
    """A positive number, or a list of different ones."""
    if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim > 0):
        if np.ndim(np.asarray(value, dtype=object)) != 1 or len(value) == 0:
            return False
        return all(map(number(above=0.0).fits, value)) and len(set(value)) == len(value)
    return number(above=0.0).fits(value)


QUICK = Kind(
    lambda v: isinstance(v, str) and v in ("quick", "standard", "full"),
    literals(["quick", "Quick", "quick ", "all"]),
    lambda v: not isinstance(v, str) or v not in ("standard", "full"),
)
NAMES = several(instances(str), near=literals([("a", "b", "c"), ("a", "b"), ("a", "b", None), "abc", ("a", "a", "a")]))
REPORT = instances(
    RobustnessReport,
    near=made(report=lambda w: report(), report_class=lambda w: RobustnessReport, path=lambda w: "report.json"),
)
REPORTS = several(
    REPORT,
    at_least=1,
    near=made(
        two=lambda w: [report(), report()],
        none=lambda w: [report(), None],
        one=lambda w: report(),
        generator=lambda w: (r for r in [report()]),
    ),
)
ATTACK_NAME = instances(str, near=literals(["pgd_20", "margin", "pgd", "PGD-20"]))

EVALUATION = [
    Target(
        evaluate_robustness,
        lambda w: {
            **{"classifier": w.classifier, "x": w.x[:2], "y": w.y[:2], "eps": 0.1, "norm": np.inf, "preset": "quick"},
            **{"seed": 0, "attacks": None, "class_names": None, "cascade": False, "batch_size": 3},
            **{"resume_from": None, "verbose": False},
        },
        {
            **{"classifier": CLASSIFIER, "x": X, "y": Y, "eps": Kind(is_radius, literals([(0.1, 0.2), (0.1, 0.1)]))},
            **{"norm": Kind(is_norm), "preset": QUICK, "seed": whole(at_least=0, below=2**32), "cascade": FLAG},
            "attacks": either(NONE, several(ONE_ATTACK, near=ATTACKS_NEAR)),
            "class_names": either(NONE, NAMES),
            **{"batch_size": whole(at_least=1), "resume_from": either(NONE, path("results")), "verbose": FLAG},
            "distributed": ALONE,
        },
        8.0,
        (NotImplementedError,),
        related={"x": ("y",), "eps": ("attacks",), "norm": ("attacks",)},
    ),
    Target(
        compare,
        lambda w: {"reports": [report(), report()], "names": ["a", "b"]},
        {"reports": REPORTS, "names": either(NONE, NAMES)},
        related={"reports": ("names",)},
    ),
    Target(judge, lambda w: {"report": report()}, {"report": REPORT}, 0.3),
    Target(
        RobustnessReport.to_json,
        lambda w: {"self": report(), "path": "new.json"},
        {"path": path("new.json")},
        1.0,
        (OSError,),
    ),
    Target(RobustnessReport.from_json, lambda w: {"path": written()}, {"path": path("new.json")}, 1.0, (OSError,)),
    Target(
        RobustnessReport.save, lambda w: {"self": report(), "folder": "new"}, {"folder": path("new")}, 0.1, (OSError,)
    ),
    *(
        Target(
            method,
            lambda w: {"self": report(), "name": "pgd_20"},
            {"name": ATTACK_NAME},
            0.3,
            (KeyError,),
            related={"name": ("attack",)},
        )
        for method in (
            *(RobustnessReport.attack, RobustnessReport.complete, RobustnessReport.accuracy),
            RobustnessReport.standing_after,
        )
    ),
    Target(
        RobustnessReport.class_name,
        lambda w: {"self": report(), "value": 1},
        {"value": whole(at_least=0, below=NB_CLASSES)},
        0.3,
    ),
    Target(
        RobustnessReport.subset,
        lambda w: {"self": report(), "rows": np.array([0, 2])},
        {"rows": arrays(lambda a: a.dtype.kind in "iu" and a.ndim == 1 and bool(((a >= 0) & (a < 4)).all()))},
        0.5,
    ),
]


def written() -> str:
    """Write the report into the present working directory and return its path."""
    report().to_json("report.json")
    return "report.json"


def report_content() -> Any:
    """Return the report as its file holds it."""
    content = {"schema": SCHEMA, **encode(report())}
    return json.loads(json.dumps(content))


def read_changed(content: Any, draw: Callable[[st.SearchStrategy[Any]], Any], value: Any) -> str:
    """Change one entry of a report's content, wherever it lies; read it, and use the report if that works."""
    owner = content
    while True:
        key = draw(st.sampled_from(sorted(owner) if isinstance(owner, dict) else range(len(owner))))
        if not isinstance(owner[key], (dict, list)) or not owner[key] or draw(st.integers(0, 3)) == 0:
            break
        owner = owner[key]
    owner[key] = value
    Path("changed.json").write_text(json.dumps(content))
    try:
        changed = RobustnessReport.from_json("changed.json")
    except ValueError as error:
        return (
            "refused"
            if "path '" in str(error) and "changed.json' is" in str(error)
            else f"refused without its path: {error}"
        )
    assert changed.table()
    assert compare([changed])
    judge(changed)
    return "worked"


def is_history(value: Any) -> bool:
    """Records of at least one epoch."""
    keys = history()[0].keys()
    return (
        isinstance(value, (list, tuple))
        and len(value) > 0
        and all(isinstance(r, Mapping) and keys <= r.keys() for r in value)
    )


HISTORY = Kind(
    is_history,
    made(
        history=lambda w: list(history()),
        one=lambda w: history()[0],
        none=lambda w: [*history(), None],
        torn=lambda w: [{"epoch": 0}],
        empty=lambda w: [{}],
    ),
)


def is_whole(array: NDArray[Any]) -> bool:
    """Four whole numbers."""
    numbers = array.astype(np.float64)
    return array.shape == (4,) and bool((np.abs(numbers) < 2**53).all() and (numbers == np.floor(numbers)).all())


KAPPA_OF_FOUR = arrays(
    is_whole,
    made(kappa=lambda w: np.arange(4), too_few=lambda w: np.arange(3), list_=lambda w: [0, 1, 2, 3]),
)
ANY_FOUR = arrays(is_whole, Y_NEAR)
RESOLUTION = whole(at_least=2, affordable=300)
WEIGHTINGS = Kind(
    lambda v: (
        isinstance(v, Mapping) and len(v) > 0 and all(callable(s) and not isinstance(s, type) for s in v.values())
    ),
    made(
        two=lambda w: {"tanh": TanhWeighting(), "discrete": DiscreteWeighting()},
        logits=lambda w: {"margin": MarginWeighting()},
        classes=lambda w: {"tanh": TanhWeighting},
        alone=lambda w: TanhWeighting(),
        list_=lambda w: [TanhWeighting()],
        none=lambda w: {"none": None},
    ),
)
IMAGES = samples(1, 3, 3, low=-np.inf, high=np.inf, near=made(images=lambda w: images(), flat=lambda w: images()[:, 0]))


def images() -> Any:
    """Return four grey images."""
    return np.linspace(0, 1, 36).reshape(4, 1, 3, 3)


def plane(world: World) -> dict[str, Any]:
    """Return a classifier of two features and its samples."""
    classifier = classifier_of(mlp((2,), NB_CLASSES), (2,), NB_CLASSES)
    return {"classifier": classifier, "x": world.x[:, :2], "y": world.y, "kappa": None, "resolution": 20}


OF_A_REPORT = ("attack_bars", "accuracy_against_eps", "kappa_histogram", "margins", "robustness_by_class", "confusion")

PLOTS = [
    Target(
        plots.decision_boundary,
        plane,
        {
            **{"classifier": CLASSIFIER, "x": samples(2, low=-np.inf, high=np.inf), "y": Y},
            **{"kappa": either(NONE, KAPPA_OF_FOUR), "resolution": RESOLUTION},
        },
        1.0,
        (NotImplementedError,),
        related={"x": ("y", "kappa"), "classifier": ("x",)},
    ),
    Target(
        plots.logits_pca,
        lambda w: {"classifier": w.classifier, "x": w.x, "y": w.y, "kappa": None},
        {
            **{"classifier": CLASSIFIER, "x": samples(*SHAPE, low=-np.inf, high=np.inf, near=X_NEAR), "y": Y},
            "kappa": either(NONE, KAPPA_OF_FOUR),
        },
        1.0,
        (NotImplementedError,),
        related={"x": ("y", "kappa")},
    ),
    Target(
        plots.examples_by_kappa,
        lambda w: {"x": images(), "x_adv": images(), "labels": w.y, "predictions": w.y, "kappa": np.arange(4)},
        {"x": IMAGES, "x_adv": IMAGES, "labels": ANY_FOUR, "predictions": ANY_FOUR, "kappa": KAPPA_OF_FOUR},
        1.0,
        related={"x": ("x_adv", "labels"), "x_adv": ("x",)},
    ),
    *(
        Target(getattr(plots, name), lambda w: {"report": report()}, {"report": REPORT}, 0.3)
        for name in (*OF_A_REPORT, "adversarial_examples")
    ),
    Target(
        plots.comparison_bars,
        lambda w: {"reports": [report(), report()], "names": ["a", "b"]},
        {"reports": REPORTS, "names": NAMES},
        related={"reports": ("names",)},
    ),
    *(
        Target(draw, lambda w: {"history": history()}, {"history": HISTORY}, 0.5)
        for draw in (plots.training_curves, plots.kappa_heatmap)
    ),
    Target(
        plots.weight_functions,
        lambda w: {"weightings": {"tanh": TanhWeighting()}, "max_iter": 5},
        {"weightings": WEIGHTINGS, "max_iter": whole(at_least=1, affordable=1000)},
    ),
]

TARGETS = [*EVALUATION, *PLOTS]
