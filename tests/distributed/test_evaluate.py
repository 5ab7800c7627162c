"""A report on several processes: one report, on all samples."""

from __future__ import annotations

from typing import Any

import adversarial_training_distributed
import numpy as np
import pytest
import torch

from art_gair import GeometryAwarePGD, evaluate_robustness
from tests.distributed.launch import Failed, launch
from tests.models import classifier_of, digits, mlp

pytestmark = pytest.mark.xdist_group(__name__)


def classifier() -> Any:
    torch.manual_seed(0)
    made = classifier_of(mlp((1, 8, 8), 10), (1, 8, 8))
    made.fit(*digits(400), nb_epochs=15, verbose=False)
    return made


def evaluate(folder: str | None = None, **settings: Any) -> Any:
    x, y = digits(75)
    model = classifier()
    start_free = GeometryAwarePGD(model, eps=0.1, eps_step=0.02, max_iter=5, num_random_init=0, verbose=False)
    return evaluate_robustness(
        model, x, y, eps=0.1, attacks=[start_free], resume_from=folder, verbose=False, **settings
    )


def test_all_processes_return_one_report_on_all_samples(tmp_path: Any) -> None:
    alone = evaluate()
    found = launch(3, evaluate, str(tmp_path))
    for report in found:
        assert not isinstance(report, Failed), report
        assert report.table() == found[0].table()
        assert report.environment["processes"] == 3
        np.testing.assert_array_equal(report.clean.correct, alone.clean.correct)
        for attack in report.attacks:
            assert (attack.attacked == alone.attack(attack.name).attacked).all()
        same, expected = report.attack("GeometryAwarePGD"), alone.attack("GeometryAwarePGD")  # it draws nothing
        np.testing.assert_array_equal(same.broken, expected.broken)
        np.testing.assert_array_equal(same.kappa, expected.kappa)
        np.testing.assert_allclose(same.margins, expected.margins, atol=1e-5)
        assert abs(report.worst_case - alone.worst_case) <= 2 / 75  # the others draw otherwise
    assert 0.1 < alone.worst_case < 0.9


def test_a_killed_evaluation_goes_on_on_other_processes(tmp_path: Any) -> None:
    first = launch(2, evaluate, str(tmp_path))[0]
    again = evaluate(str(tmp_path))
    for attack in again.attacks:
        np.testing.assert_array_equal(attack.broken, first.attack(attack.name).broken)
    assert sorted(p.name for p in tmp_path.glob("*.json")) == [
        *("GeometryAwarePGD.json", "evaluation.json", "margin.json", "pgd_20.json", "scaled.json"),
    ]


def cascade() -> Any:
    return evaluate(cascade=True)


def test_a_cascade_decides_alike_on_each_process() -> None:
    first, second = launch(2, cascade)
    assert not isinstance(first, Failed), first
    assert first.table() == second.table()
    assert abs(first.worst_case - cascade().worst_case) <= 2 / 75


def run_example(folder: str) -> Any:
    adversarial_training_distributed.main(["--epochs", "2", "--batch-size", "96", "--out", folder])


def test_the_example_runs_on_two_processes(tmp_path: Any) -> None:
    assert launch(2, run_example, str(tmp_path)) == [None, None]
    assert (tmp_path / "report" / "report.html").is_file()
    assert len([*(tmp_path / "saves").glob("*.checkpoint")]) == 2
