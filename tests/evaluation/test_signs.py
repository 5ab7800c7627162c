"""Every planted defect raises its flag; honest models raise none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from art_gair.evaluation import RobustnessReport, evaluate_robustness
from art_gair.evaluation.signs import SIGNS, significance
from art_gair.report.statistics import paired_p
from tests.evaluation import planted
from tests.evaluation.planted import EPS, adversarially_trained, around, held_out, plain


def report_of(classifier: Any, n: int = 150, **settings: Any) -> RobustnessReport:
    report: RobustnessReport = evaluate_robustness(
        classifier, *held_out(n), **{"eps": EPS, "verbose": False, **settings}
    )
    return report


def raised(report: RobustnessReport) -> set[str]:
    return {flag.name for flag in report.flags}


@pytest.mark.parametrize("model", [plain, adversarially_trained])
def test_an_honest_model_raises_nothing(model: object) -> None:
    report = report_of(model())  # type: ignore[operator]
    assert report.flags == []
    assert report.warnings == []


@pytest.mark.parametrize(
    ("defect", "expected"),
    [
        (planted.Sharp, {"useless gradients", "logit scaling"}),
        (planted.Rounding, {"useless gradients", "growing eps"}),
        (planted.Random, {"randomised"}),
        (planted.Detecting, {"useless gradients"}),
    ],
)
def test_a_planted_defect_raises_its_flag(defect: type[planted.Sharp], expected: set[str]) -> None:
    report = report_of(around(defect, plain()))
    assert expected <= raised(report), report.table()


@pytest.mark.slow
def test_square_sees_behind_rounding() -> None:
    report = report_of(around(planted.Rounding, plain()), n=40, preset="standard", eps=0.2)
    assert "black box" in raised(report)
    square, pgd = report.accuracy("square"), report.accuracy("pgd_20")
    assert square is not None
    assert pgd is not None
    assert square < pgd


def test_a_flag_carries_evidence_and_rule() -> None:
    report = report_of(around(planted.Sharp, plain()))
    flag = next(flag for flag in report.flags if flag.name == "logit scaling")
    tries, ce = report.attack("scaled").tries, report.attack("pgd_20").broken
    p_values = [paired_p(int((t & ~ce).sum()), int((ce & ~t).sum())) for t in tries.values()]
    assert flag.p_value == min(p_values) < significance()
    assert flag.rule.startswith("Raised if")
    assert flag.evidence in str(flag)
    for sign in SIGNS:
        assert sign.rule.startswith("Raised if"), sign


def test_a_randomised_model_says_how_much() -> None:
    evidence = next(f.evidence for f in report_of(around(planted.Random, plain())).flags if f.name == "randomised")
    assert "two clean passes differ" in evidence


def test_a_cascade_finds_what_a_full_comparison_finds() -> None:
    sharp = around(planted.Sharp, adversarially_trained())
    full, cascade = report_of(sharp), report_of(sharp, cascade=True)
    assert "logit scaling" in raised(full)
    assert raised(full) == raised(cascade)


def test_the_curve_starts_clean_and_ends_where_every_input_can_be_reached() -> None:
    report = report_of(adversarially_trained())
    eps, right, n = (np.array(column) for column in zip(*report.curve, strict=True))
    assert right[0] == report.clean.correct.sum()
    assert (np.diff(eps) > 0).all()
    assert eps[-1] == 1.0
    assert right[-1] / n[-1] < 0.1
