"""AutoAttack through the report is AutoAttack."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from art.attacks.evasion import AutoProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier
from numpy.typing import NDArray
from torch import nn

from art_gair.engine.classifier import TensorClassifier
from art_gair.evaluation import RobustnessReport, evaluate_robustness
from art_gair.evaluation.autoattack import run_autoattack
from art_gair.evaluation.threat import Threat
from art_gair.report.statistics import interval
from tests.evaluation import planted
from tests.evaluation.planted import EPS, adversarially_trained, around, held_out, with_classes
from tests.models import classifier_of, mlp

pyautoattack = pytest.importorskip("pyautoattack", reason="pyautoattack is not installed: pip install .[autoattack]")

of_one_report = pytest.mark.xdist_group("a full report")  # which takes longer than its tests


def directly(
    model: nn.Module, x: NDArray[Any], y: NDArray[Any], eps: float, batch_size: int = 128, **settings: Any
) -> NDArray[np.bool_]:
    """Whether AutoAttack, called as its README says, breaks each sample."""
    attack = pyautoattack.AutoAttack(model.eval(), norm="Linf", eps=eps, seed=0, **settings)
    labels, tracer = torch.from_numpy(y), sys.gettrace()
    x_adv, _ = attack.run_standard_evaluation(torch.from_numpy(x), labels, batch_size=batch_size)
    sys.settrace(tracer)  # its check for dynamic models ends the measuring of coverage
    with torch.no_grad():
        broken: NDArray[np.bool_] = (model(x_adv).argmax(dim=1) != labels).numpy()
    return broken


def through_the_threat(classifier: PyTorchClassifier, x: Any, y: Any, version: str, notes: list[str], **s: Any) -> Any:
    threat = Threat(TensorClassifier(classifier), **{"norm": np.inf, "eps": EPS, "batch_size": 128, **s})
    x_adv = run_autoattack(threat, torch.from_numpy(x), torch.from_numpy(y), version, 0, notes)
    settled = threat.settle(torch.from_numpy(x), x_adv)
    assert not (settled.projected | settled.discarded).any()
    return (threat.logits(x_adv).argmax(dim=1) != torch.from_numpy(y)).numpy()


@pytest.fixture(scope="session")
def full() -> RobustnessReport:
    return evaluate_robustness(adversarially_trained(), *held_out(40), eps=EPS, preset="full", verbose=False)


@of_one_report
def test_the_report_gives_what_a_direct_call_gives(full: RobustnessReport) -> None:
    x, y = held_out(40)
    right = full.clean.correct
    expected = directly(adversarially_trained().model, x[right], y[right], EPS)
    assert 0 < expected.sum() < right.sum()
    np.testing.assert_array_equal(full.attack("autoattack").broken[right], expected)


@of_one_report
def test_a_full_report_of_an_honest_model_raises_nothing(full: RobustnessReport) -> None:
    assert full.flags == []
    assert [a.name for a in full.attacks] == ["pgd_20", "margin", "scaled", "pgd_plus", "square", "autoattack"]
    assert full.worst_case <= min(a for n in full.attacks if (a := full.accuracy(n.name)) is not None)


@of_one_report
def test_arts_own_apgd_agrees_within_the_interval(full: RobustnessReport) -> None:
    classifier, (x, y) = adversarially_trained(), held_out(40)
    attack = AutoProjectedGradientDescent(
        classifier, eps=EPS, eps_step=EPS / 2, max_iter=50, nb_random_init=1, loss_type="cross_entropy", verbose=False
    )
    robust = np.mean(classifier.predict(attack.generate(x, y)).argmax(axis=1) == y)
    low, high = interval(int((full.clean.correct & ~full.attack("autoattack").broken).sum()), full.n)
    assert low <= robust <= high


@of_one_report
@pytest.mark.slow
def test_other_clip_values_give_the_same(full: RobustnessReport) -> None:
    class Stretched(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: torch.Tensor) -> Any:
            return self.model((x + 1.0) / 4.0)

    x, y = held_out(40)
    wide = classifier_of(Stretched(adversarially_trained().model), (1, 8, 8), clip_values=(-1.0, 3.0), optimizer=None)
    right = full.clean.correct
    broken = through_the_threat(wide, 4 * x[right] - 1, y[right], "standard", [], eps=4 * EPS)
    agreeing = np.mean(broken == full.attack("autoattack").broken[right])
    assert agreeing >= 0.95  # rounding may move a borderline sample


@pytest.mark.parametrize(("nb_classes", "said"), [(2, "fab"), (3, "apgd-dlr"), (5, "4 target classes")])
def test_few_classes_get_what_can_be_had_and_are_told(nb_classes: int, said: str) -> None:
    classifier, x, y = with_classes(nb_classes)
    notes: list[str] = []
    broken = through_the_threat(classifier, x, y, "standard", notes, eps=0.3)
    assert broken.any()
    assert any(said in note for note in notes), notes
    # Its check names the targeted DLR loss for three classes even where the untargeted one is run.
    assert nb_classes == 3 or not any("not possible" in note for note in notes)


@pytest.mark.parametrize("norm", [2, 1])
def test_other_norms(norm: int) -> None:
    x, y = held_out(12)
    eps = {2: 1.5, 1: 6.0}[norm]
    assert through_the_threat(adversarially_trained(), x, y, "standard", [], norm=norm, eps=eps).any()


def test_vectors_and_single_samples() -> None:
    x, y = held_out(30)
    torch.manual_seed(0)
    classifier = classifier_of(mlp((64,), 10, scale=1.0), (64,))
    classifier.fit(x.reshape(30, 64), y, nb_epochs=20, batch_size=10)
    for rows in (slice(0, 1), slice(0, 30)):
        assert through_the_threat(classifier, x.reshape(30, 64)[rows], y[rows], "square", [], eps=0.3).any()
    notes: list[str] = []
    through_the_threat(classifier, x.reshape(30, 64)[:3], y[:3], "square", notes, norm=2, eps=0.5)
    assert "height 1" in notes[0]


def test_a_randomised_model_gets_the_version_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    report = evaluate_robustness(
        around(planted.Random, planted.plain()), *held_out(6), eps=EPS, preset="full", verbose=False
    )
    assert report.attack("autoattack").title == "AutoAttack, rand"


@pytest.mark.slow
def test_its_own_checks_are_passed_on_and_the_tracer_put_back() -> None:
    notes: list[str] = []
    tracer = sys.gettrace()
    through_the_threat(around(planted.Random, planted.plain()), *held_out(6), "standard", notes)
    assert any("randomized defense" in note for note in notes)
    assert sys.gettrace() is tracer
    notes.clear()
    through_the_threat(around(planted.Rounding, planted.plain()), *held_out(6), "standard", notes)
    assert any("zero gradient" in note for note in notes)


def test_features_of_different_ranges_are_refused() -> None:
    upper = np.ones((1, 8, 8), dtype=np.float32)
    upper[0, 0, 0] = 2.0
    classifier = classifier_of(mlp((1, 8, 8), 10), (1, 8, 8), clip_values=(np.zeros_like(upper), upper))
    with pytest.raises(ValueError, match="different lengths"):
        evaluate_robustness(classifier, *held_out(4), eps=EPS, preset="full", verbose=False)


def test_without_the_package_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    with pytest.raises(ImportError, match=r"pip install pyautoattack"):
        evaluate_robustness(planted.plain(), *held_out(4), eps=EPS, preset="standard", verbose=False)


@pytest.mark.slow
def test_the_resnet_that_ships_with_autoattack(data_folder: Path) -> None:
    folder = Path(pyautoattack.__file__).parent / "examples"
    sys.path.insert(0, str(folder))
    try:
        from resnet import ResNet18
    finally:
        sys.path.remove(str(folder))
    model = ResNet18()
    model.load_state_dict(torch.load(folder / "model_test.pt", map_location="cpu", weights_only=True))
    with np.load(data_folder / "cifar10-exact-subset.npz") as data:
        x = np.moveaxis(data["x_test"][:100], 3, 1).astype(np.float32) / 255
        y = data["y_test"][:100].astype(np.int64)
    classifier = classifier_of(model.eval(), (3, 32, 32), optimizer=None)
    weak = evaluate_robustness(classifier, x, y, 0.5 / 255, verbose=False)
    pgd = weak.accuracy("pgd_20")
    assert pgd is not None
    assert weak.clean_accuracy >= pgd >= weak.worst_case > 0.0
    right = weak.clean.correct
    broken = through_the_threat(classifier, x[right], y[right], "standard", [], eps=8 / 255)
    np.testing.assert_array_equal(broken, directly(model, x[right], y[right], 8 / 255))
    assert broken.all()
