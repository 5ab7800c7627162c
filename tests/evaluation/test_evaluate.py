"""The door of the report: what it computes, how it is repeated and resumed, what it refuses."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent, SquareAttack
from art.defences.postprocessor import ReverseSigmoid
from art.estimators.certification.randomized_smoothing import PyTorchRandomizedSmoothing
from art.estimators.classification import PyTorchClassifier
from art.exceptions import EstimatorError
from torch import Tensor, nn

from art_gair import AdversarialTrainerGAIRAT, BoundaryPGD, FriendlyPGD, GeometryAwarePGD, UniformWeighting
from art_gair.evaluation import RobustnessReport, evaluate_robustness
from art_gair.evaluation.attacks import MARGIN, PGD_20, PGDAttack, Try
from art_gair.evaluation.request import folder_of
from art_gair.report.results import NOT_ATTACKED
from art_gair.report.statistics import interval
from tests.evaluation.planted import EPS, Softmax, adversarially_trained, around, held_out, plain
from tests.models import assert_same_state, classifier_of, digits, digits_classifier, mlp, state_of


def report_of(classifier: Any = None, n: int = 60, **settings: Any) -> RobustnessReport:
    classifier = adversarially_trained() if classifier is None else classifier
    report: RobustnessReport = evaluate_robustness(
        classifier, *held_out(n), **{"eps": EPS, "verbose": False, **settings}
    )
    return report


def same(a: RobustnessReport, b: RobustnessReport) -> None:
    """Hold two reports together in everything but the time they took."""
    assert [f.name for f in a.flags] == [f.name for f in b.flags]
    assert a.curve == b.curve
    for one, other in zip(a.attacks, b.attacks, strict=True):
        assert list(one.tries) == list(other.tries)
        for name in ("attacked", "broken", "predictions", "margins"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("norm", [np.inf, 2, 1])
def test_the_worst_case_is_never_above_an_attack(norm: float) -> None:
    report = report_of(eps={np.inf: EPS, 2: 0.8, 1: 3.0}[norm], norm=norm)
    for attack in report.attacks:
        accuracy = report.accuracy(attack.name)
        assert accuracy is not None
        assert report.worst_case <= accuracy <= report.clean_accuracy
    assert report.worst_case < report.clean_accuracy
    assert report.worst_case_interval == interval(round(60 * report.worst_case), 60)


def test_a_sample_is_robust_if_it_withstands_each_attack() -> None:
    report = report_of()
    by_hand = [
        bool(report.clean.correct[i]) and not any(bool(a.broken[i]) for a in report.attacks) for i in range(report.n)
    ]
    assert report.robust.tolist() == by_hand
    assert report.worst_case == np.mean(by_hand)


def test_a_report_repeats_from_its_settings() -> None:
    report = report_of(seed=3)
    torch.randn(5)
    same(report, evaluate_robustness(adversarially_trained(), *held_out(60), verbose=False, **report.settings))
    assert report_of(seed=4).attack("pgd_20").margins.tolist() != report.attack("pgd_20").margins.tolist()


@pytest.mark.slow
def test_batches_do_not_matter_beyond_their_random_starts() -> None:
    counts = [report_of(n=150, batch_size=size).robust.sum() for size in (7, 150)]
    assert abs(int(counts[0]) - int(counts[1])) <= 8


def test_pgd_agrees_with_arts_within_the_interval() -> None:
    classifier, (x, y) = adversarially_trained(), held_out(150)
    attack = ProjectedGradientDescent(
        classifier, eps=EPS, eps_step=EPS / 4, max_iter=20, num_random_init=1, batch_size=150, verbose=False
    )
    theirs = np.mean(classifier.predict(attack.generate(x, y)).argmax(axis=1) == y)
    report = report_of(n=150)
    low, high = interval(int((report.clean.correct & ~report.attack("pgd_20").broken).sum()), 150)
    assert low <= theirs <= high


def test_a_cascade_attacks_only_what_stands_and_finds_no_less() -> None:
    full, cascade = report_of(plain(), n=150, eps=0.1), report_of(plain(), n=150, eps=0.1, cascade=True)
    first, second = cascade.attacks[:2]
    np.testing.assert_array_equal(first.attacked, cascade.clean.correct)
    np.testing.assert_array_equal(second.attacked, cascade.clean.correct & ~first.broken)
    assert cascade.accuracy("pgd_20") == full.accuracy("pgd_20")
    assert cascade.accuracy("margin") is None
    assert cascade.standing_after("scaled") == cascade.worst_case
    assert abs(cascade.worst_case - full.worst_case) < 0.05


def test_misclassified_samples_are_not_attacked() -> None:
    report = report_of(plain(), n=150)
    wrong = ~report.clean.correct
    assert wrong.any()
    for attack in report.attacks:
        assert not attack.attacked[wrong].any()
        assert (attack.predictions[wrong] == NOT_ATTACKED).all()
        assert np.isnan(attack.margins[wrong]).all()
    assert report.kappa is not None
    assert (report.kappa[wrong] == NOT_ATTACKED).all()
    assert (report.adversarial_predictions[wrong] == report.clean.predictions[wrong]).all()


def test_the_model_and_the_generator_are_left_alone() -> None:
    classifier = adversarially_trained()
    before, random = state_of(classifier.model), torch.get_rng_state()
    classifier.model.train()
    report_of(classifier, n=20)
    assert classifier.model.training
    classifier.model.eval()
    assert_same_state(classifier.model, before)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(p.requires_grad for p in classifier.model.parameters())


def test_a_killed_evaluation_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = report_of(seed=1)
    tries, ran = PGDAttack.tries, []

    def killed(self: PGDAttack, *args: Any) -> Iterator[Try]:
        ran.append(self.name)
        if self.name == "scaled":
            raise KeyboardInterrupt
        yield from tries(self, *args)

    monkeypatch.setattr(PGDAttack, "tries", killed)
    with pytest.raises(KeyboardInterrupt):
        report_of(seed=1, resume_from=tmp_path)
    assert ran == [PGD_20.name, MARGIN.name, "scaled"]
    ran.clear()

    def counted(self: PGDAttack, *args: Any) -> Iterator[Try]:
        ran.append(self.name)
        yield from tries(self, *args)

    monkeypatch.setattr(PGDAttack, "tries", counted)
    resumed = report_of(seed=1, resume_from=tmp_path)
    assert ran == ["scaled"]
    same(whole, resumed)
    assert resumed.attack("margin").seconds > 0.0


@pytest.mark.parametrize("change", [{"eps": 0.1}, {"seed": 2}, {"cascade": True}])
def test_a_folder_of_another_evaluation_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    report_of(n=10, resume_from=tmp_path)
    with pytest.raises(ValueError, match=rf"resume_from.*another evaluation: {next(iter(change))} differ"):
        report_of(n=10, resume_from=tmp_path, **change)


def test_a_folder_of_another_model_is_refused(tmp_path: Path) -> None:
    report_of(n=10, resume_from=tmp_path)
    with pytest.raises(ValueError, match=r"resume_from.*model's values differ"):
        report_of(plain(), n=10, resume_from=tmp_path)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"eps": 0}, ValueError, "eps is 0; expected a finite number, > 0"),
        ({"eps": -0.1}, ValueError, "eps is -0.1"),
        ({"eps": "8/255"}, TypeError, "eps is '8/255'; expected a number"),
        ({"eps": float("nan")}, ValueError, "eps is nan"),
        ({"norm": 3}, ValueError, "norm"),
        ({"preset": "fast"}, ValueError, "preset is 'fast'; expected one of 'quick', 'standard', 'full'"),
        ({"seed": -1}, ValueError, "seed is -1"),
        ({"cascade": 1}, TypeError, "cascade is 1; expected True or False"),
        ({"verbose": "no"}, TypeError, "verbose is 'no'"),
        ({"batch_size": 0}, ValueError, "batch_size is 0"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        report_of(**settings)


def test_bad_data_are_refused() -> None:
    classifier, (x, y) = adversarially_trained(), held_out(10)
    for data, message in (
        ((x[:0], y[:0]), "x is empty"),
        ((x + 1, y), "clip_values"),
        ((x[:, 0], y), r"x has shape \(10, 8, 8\)"),
        ((x, y[:5]), "y has 5 labels for 10 samples"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate_robustness(classifier, *data, eps=EPS, verbose=False)


def test_a_classifier_without_a_range_of_inputs_is_refused() -> None:
    for clip, message in ((None, "no clip_values"), ((-np.inf, np.inf), "infinite")):
        classifier = classifier_of(mlp((1, 8, 8), 10), (1, 8, 8), clip_values=clip)
        with pytest.raises(ValueError, match=f"classifier.*{message}"):
            report_of(classifier)


def test_another_kind_of_classifier_is_refused() -> None:
    with pytest.raises(EstimatorError):
        evaluate_robustness(object(), *held_out(4), eps=EPS)


class OfLogarithms(nn.Module):
    """Answers NaN where a feature is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 3, bias=False)
        with torch.no_grad():
            self.inner.weight.copy_(torch.eye(3, 8))

    def forward(self, x: torch.Tensor) -> Any:
        logs = torch.log(x)
        return self.inner(logs - logs.mean(dim=1, keepdim=True))


def test_examples_for_which_the_model_answers_nan_count_as_misclassified_in_each_class(tmp_path: Path) -> None:
    classifier = classifier_of(OfLogarithms(), (8,), 3)
    x = np.random.default_rng(0).uniform(0.05, 1.0, (60, 8)).astype(np.float32)
    y = classifier.predict(x).argmax(axis=1)
    report = evaluate_robustness(classifier, x, y, 0.6, verbose=False)
    assert set(y) == {0, 1, 2}
    assert report.worst_case == 0.0
    for attack in report.attacks:
        assert np.isfinite(attack.margins).all()
        assert (attack.predictions != y)[attack.broken].all()
    assert any("has NaN for some of its examples" in note for attack in report.attacks for note in attack.notes)
    assert report.curve[-1][1] == 0
    report.save(tmp_path / "report")
    assert RobustnessReport.from_json(tmp_path / "report" / "report.json").worst_case == 0.0


def test_a_model_that_answers_nan_is_refused() -> None:
    classifier = classifier_of(mlp((1, 8, 8), 10), (1, 8, 8))
    with torch.no_grad():
        next(iter(classifier.model.parameters())).fill_(float("nan"))
    with pytest.raises(ValueError, match="NaN or infinite logits for 10 of 10 samples"):
        report_of(classifier, n=10)


def test_a_model_that_returns_probabilities_is_warned_about() -> None:
    with pytest.warns(UserWarning, match="probabilities; expected logits"):
        report = report_of(around(Softmax, plain()), n=20)
    assert "probabilities" in report.warnings[0]


@pytest.mark.parametrize(("norm", "eps"), [(np.inf, 8.0), (2, 8.0), (1, 64.0)])
def test_a_radius_in_other_units_is_told(norm: float, eps: float) -> None:
    with pytest.warns(UserWarning, match="two samples of different classes lie .* Is eps in the units of x?"):
        report = report_of(n=20, eps=eps, norm=norm)
    assert any("hardly be robust in such balls" in text for text in report.warnings)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_model_that_does_not_take_float32_is_refused_by_name(dtype: torch.dtype) -> None:
    classifier = classifier_of(mlp((1, 8, 8), 10).to(dtype), (1, 8, 8))
    with pytest.raises(
        ValueError, match=f"parameters of {dtype} and does not take float32.* Expected a model in float32"
    ):
        report_of(classifier)


def test_all_samples_misclassified_is_an_answer() -> None:
    x, y = held_out(20)
    wrong = (plain().predict(x).argmax(axis=1) + 1) % 10
    with pytest.warns(UserWarning, match="no sample is classified right"):
        report = evaluate_robustness(plain(), x, wrong, EPS, verbose=False)
    assert report.worst_case == report.clean_accuracy == 0.0
    assert "worst case" in report.table()
    assert y.shape == wrong.shape


def test_it_takes_one_hot_labels_and_any_trained_classifier() -> None:
    x, y = held_out(30)
    one_hot = np.eye(10, dtype=np.float32)[y]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same(evaluate_robustness(plain(), x, one_hot, EPS, verbose=False), report_of(plain(), n=30))


def test_vectors_are_evaluated_as_well() -> None:
    torch.manual_seed(0)
    x, y = held_out(40)
    classifier: PyTorchClassifier = classifier_of(mlp((64,), 10, scale=1.0), (64,))
    classifier.fit(x.reshape(40, 64), y, nb_epochs=20, batch_size=10)
    report = evaluate_robustness(classifier, x.reshape(40, 64), y, 0.1, verbose=False)
    assert report.examples is None
    assert report.worst_case < report.clean_accuracy


def test_a_terminal_gets_a_bar_that_says_how_long_it_will_take(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with caplog.at_level("INFO", logger="art_gair.evaluation.radii"):
        report_of(n=10, verbose=True)
    assert "takes" in caplog.text
    assert "about" in capsys.readouterr().err


def test_a_file_gets_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    report_of(n=10, verbose=True)
    assert capsys.readouterr().err == ""


def test_further_attacks_count_in_the_worst_case() -> None:
    classifier = adversarially_trained()
    strong = GeometryAwarePGD(classifier, eps=EPS, eps_step=EPS / 10, max_iter=40, loss="margin")
    attacks = [strong, FastGradientMethod(classifier, eps=EPS), FastGradientMethod(plain(), eps=EPS)]
    report = report_of(attacks=attacks)
    names = [attack.name for attack in report.attacks]
    assert names[3:] == ["GeometryAwarePGD", "FastGradientMethod", "FastGradientMethod 2"]
    for name in names:
        assert report.worst_case <= (report.accuracy(name) or 0.0)
    ours = report.attack("GeometryAwarePGD").kappa
    assert ours is not None
    assert ours.max() > 20
    assert report.settings["attacks"][0] == repr(strong)
    transferred = report.accuracy("FastGradientMethod 2")
    assert transferred is not None
    assert transferred > (report.accuracy("FastGradientMethod") or 0.0)


def test_an_attack_that_cannot_be_printed_is_named() -> None:
    """ART's SquareAttack holds its own method, whose text holds the attack."""
    classifier = digits_classifier()
    attack = SquareAttack(classifier, eps=0.2, max_iter=5, verbose=False)
    report = evaluate_robustness(classifier, *digits(8), eps=0.2, attacks=[attack], verbose=False)
    assert report.settings["attacks"] == ["SquareAttack(...)"]
    assert "SquareAttack(...)" in repr(AdversarialTrainerGAIRAT(classifier, attack, UniformWeighting()))


def test_attacks_that_cannot_count_are_refused() -> None:
    classifier = adversarially_trained()
    for attack, error, message in (
        ("pgd", TypeError, "attacks holds 'pgd'; expected ART EvasionAttacks"),
        (FastGradientMethod(classifier, eps=EPS, targeted=True), ValueError, "FastGradientMethod, which is targeted"),
        (FastGradientMethod(classifier, eps=2 * EPS), ValueError, "of eps 0.3, beyond the report's 0.15"),
        (FastGradientMethod(classifier, eps=EPS, norm=2), ValueError, "of norm 2; the report's is inf"),
        (GeometryAwarePGD(classifier, eps=lambda epoch: EPS), ValueError, "whose eps is a schedule"),
        (FriendlyPGD(classifier, eps=EPS, tau=lambda epoch: 1), ValueError, "whose tau is a schedule"),
        (BoundaryPGD(classifier, eps=EPS), ValueError, r"BoundaryPGD, which spares samples; expected .*with_all_steps"),
    ):
        with pytest.raises(error, match=message):
            report_of(attacks=[attack])
    with pytest.raises(TypeError, match=r"attacks is .*; expected a list"):
        report_of(attacks=FastGradientMethod(classifier))


def test_a_sample_that_falls_within_a_smaller_ball_falls_within_the_larger() -> None:
    x, y = held_out(60)
    radii = [0.2, 0.05, 0.1]
    for cascade in (False, True):
        reports = evaluate_robustness(adversarially_trained(), x, y, radii, cascade=cascade, verbose=False)
        assert [report.settings["eps"] for report in reports] == radii
        smallest, middle, largest = (reports[i] for i in (1, 2, 0))
        assert (smallest.robust >= middle.robust).all()
        assert (middle.robust >= largest.robust).all()
        assert smallest.robust.sum() > largest.robust.sum()
        fallen = smallest.clean.correct & ~smallest.robust
        np.testing.assert_array_equal(middle.attack("smaller_eps").broken, fallen)
        assert cascade != bool(middle.attack("margin").attacked[fallen].any())
        assert "attacks within smaller eps" in middle.table()


def test_several_radii_resume_in_folders_of_their_own(tmp_path: Path) -> None:
    x, y = held_out(20)
    first = evaluate_robustness(adversarially_trained(), x, y, [0.05, 0.1], resume_from=tmp_path, verbose=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["eps-0.05", "eps-0.1"]
    again = evaluate_robustness(adversarially_trained(), x, y, [0.05, 0.1], resume_from=tmp_path, verbose=False)
    for a, b in zip(first, again, strict=True):
        same(a, b)


def test_two_radii_that_look_alike_have_two_folders() -> None:
    assert folder_of(8 / 255, [8 / 255, 0.1]) == "eps-0.0313725"
    names = [folder_of(eps, [8 / 255, 0.0313725]) for eps in (8 / 255, 0.0313725)]
    assert names == ["eps-0.03137254901960784", "eps-0.0313725"]


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ("0123456789", TypeError, "class_names is '0123456789'; expected a list of 10 strings"),
        ([1] * 10, TypeError, "class_names is"),
        (["a", "b"], ValueError, "class_names has 2 entries; expected 10"),
    ],
)
def test_bad_class_names_are_refused(names: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        report_of(class_names=names)


@pytest.mark.parametrize("eps", [[], [0.1, 0.1], [0.1, -1]])
def test_bad_lists_of_radii_are_refused(eps: Any) -> None:
    with pytest.raises(ValueError, match="eps is"):
        report_of(eps=eps)


def test_a_postprocessing_defence_is_refused_by_name() -> None:
    classifier = classifier_of(adversarially_trained().model, (1, 8, 8), postprocessing_defences=ReverseSigmoid())
    with pytest.raises(ValueError, match=r"postprocessing_defences \['ReverseSigmoid'\]"):
        report_of(classifier, n=10)


def test_randomised_smoothing_is_refused() -> None:
    classifier = PyTorchRandomizedSmoothing(
        adversarially_trained().model, torch.nn.CrossEntropyLoss(), (1, 8, 8), 10, clip_values=(0.0, 1.0), scale=0.5
    )
    with pytest.raises(NotImplementedError, match="PyTorchRandomizedSmoothing, which overrides predict"):
        report_of(classifier, n=10)


@pytest.mark.parametrize("masked", [False, True])
def test_a_predict_of_another_function_is_refused_however_large_a_logit_is(masked: bool) -> None:
    """ART's predict runs a Sequential's layers; of a free input size that cannot be tried out before there are data."""

    class Mask(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return torch.cat([z, torch.full((len(z), 1), -1e9)], dim=1)

    class Mirrored(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            out = 1 - x
            for layer in self:
                out = layer(out)
            return out

    torch.manual_seed(0)
    model = Mirrored(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2), *([Mask()] if masked else []))
    shape: Any = (None,)
    classifier = classifier_of(model, shape, 3 if masked else 2)
    with pytest.raises(ValueError, match="does not return the logits"):
        evaluate_robustness(classifier, torch.rand(20, 4).numpy(), np.arange(20) % 2, eps=0.02, verbose=False)
