"""Figures show the numbers they are made from."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch

from art_gair import MarginWeighting, TanhWeighting, UniformWeighting, evaluate_robustness, plots
from tests.evaluation.planted import EPS, adversarially_trained, held_out
from tests.models import classifier_of, digits, digits_classifier, mlp, trainer_of


@pytest.fixture(scope="module")
def history() -> Any:
    trainer = trainer_of(digits_classifier(), burn_in=1)
    x, y = digits(160)
    trainer.fit(x[:128], y[:128], validation_data=(x[128:], y[128:]), batch_size=64, nb_epochs=3)
    return trainer.history


@pytest.fixture(scope="module")
def report() -> Any:
    return evaluate_robustness(adversarially_trained(), *held_out(60), eps=EPS, verbose=False)


def lines(axis: Any) -> dict[str, list[float]]:
    return {line.get_label(): list(line.get_ydata()) for line in axis.get_lines()}


def test_training_curves(history: Any) -> None:
    figure = plots.training_curves(history)
    accuracy, loss, effective = figure.axes
    assert lines(accuracy)["validation, robust"] == [r["robust_accuracy"] for r in history]
    assert lines(loss)["weighted"] == [r["loss"] for r in history]
    assert lines(effective)["of a batch"] == [r["effective_sample_size"] for r in history]
    without: Any = [{**record, "robust_accuracy": None, "clean_accuracy": None} for record in history]
    assert list(lines(plots.training_curves(without).axes[0])) == ["training attack"]


def test_epochs_that_are_not_validated_leave_a_gap_in_the_line(history: Any) -> None:
    some = [history[0], {**history[0], "epoch": 1, "robust_accuracy": None}, {**history[0], "epoch": 2}]
    line = next(
        line for line in plots.training_curves(some).axes[0].get_lines() if line.get_label() == "validation, robust"
    )
    assert list(line.get_xdata()) == [0, 2]


def test_kappa_heatmap(history: Any) -> None:
    shares = plots.kappa_heatmap(history).axes[0].images[0].get_array()
    assert shares.shape == (4, 3)
    np.testing.assert_allclose(shares[:, 1], np.array(history[1]["kappa_histogram"]) / 128)


@pytest.mark.parametrize("draw", [plots.training_curves, plots.kappa_heatmap])
def test_an_empty_history_is_refused(draw: Any) -> None:
    with pytest.raises(ValueError, match="history is empty"):
        draw([])


def test_a_history_without_kappa_is_refused(history: Any) -> None:
    without: Any = [{**history[0], "kappa_histogram": []}]
    with pytest.raises(ValueError, match="history holds no kappa"):
        plots.kappa_heatmap(without)


def test_weight_functions() -> None:
    drawn = lines(plots.weight_functions({"tanh": TanhWeighting(-1.0), "AT": UniformWeighting()}).axes[0])
    assert drawn["AT"] == [1.0] * 11
    assert (np.diff(drawn["tanh"]) < 0).all()
    assert np.mean(drawn["tanh"]) == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(TypeError, match=r"weightings' 'margin'.*needs more than kappa"):
        plots.weight_functions({"margin": MarginWeighting()})
    with pytest.raises(ValueError, match="weightings is empty"):
        plots.weight_functions({})


@pytest.mark.parametrize("with_kappa", [True, False])
def test_decision_boundary(with_kappa: bool) -> None:
    classifier = classifier_of(mlp((2,), 3), (2,), 3)
    x, y = np.random.default_rng(0).random((30, 2), dtype=np.float32), np.arange(30) % 3
    kappa = np.arange(30) % 11 if with_kappa else None
    axis = plots.decision_boundary(classifier, x, y, kappa, resolution=20).axes[0]
    drawn = [c for c in axis.collections if hasattr(c, "get_offsets") and len(c.get_offsets()) > 1]
    assert sum(len(c.get_offsets()) for c in drawn) == 30
    if with_kappa:
        np.testing.assert_array_equal(drawn[-1].get_array(), kappa)
    with pytest.raises(ValueError, match=r"x has shape \(30, 1\); expected \(n, 2\)"):
        plots.decision_boundary(classifier, x[:, :1], y)
    with pytest.raises(ValueError, match="y has 5 labels for 30 samples"):
        plots.decision_boundary(classifier, x, y[:5])


def test_logits_pca() -> None:
    x, y = held_out(40)
    kappa = np.arange(40) % 11
    drawn = plots.logits_pca(adversarially_trained(), x, y, kappa).axes[0].collections[0]
    points = drawn.get_offsets()
    logits = adversarially_trained().predict(x).astype(np.float64)
    centred = logits - logits.mean(axis=0)
    assert np.var(points[:, 0], ddof=1) == pytest.approx(np.linalg.eigvalsh(np.cov(centred.T))[-1], rel=1e-3)
    np.testing.assert_array_equal(drawn.get_array(), kappa)
    with pytest.raises(ValueError, match="kappa has 3 values for 40 samples"):
        plots.logits_pca(adversarially_trained(), x, y, kappa[:3])


def test_attack_bars(report: Any) -> None:
    widths = [bar.get_width() for bar in plots.attack_bars(report).axes[0].patches if bar.get_width() > 0]
    expected = [report.clean_accuracy, *(report.accuracy(a.name) for a in report.attacks), report.worst_case]
    assert widths == pytest.approx(expected)


def test_accuracy_against_eps(report: Any) -> None:
    line = plots.accuracy_against_eps(report).axes[0].get_lines()[0]
    assert list(line.get_xdata()) == [eps for eps, _, _ in report.curve]
    assert list(line.get_ydata()) == [right / n for _, right, n in report.curve]


def test_kappa_histogram(report: Any) -> None:
    heights = [bar.get_height() for bar in plots.kappa_histogram(report).axes[0].patches]
    assert sum(heights) == report.clean.correct.sum()
    assert sum(heights[: len(heights) // 2]) == report.robust.sum()


def test_margins_classes_and_confusion(report: Any) -> None:
    counts = [bar.get_height() for bar in plots.margins(report).axes[0].patches if hasattr(bar, "get_height")]
    assert sum(counts) == report.n
    bars = [bar.get_height() for bar in plots.robustness_by_class(report).axes[0].patches]
    assert bars == pytest.approx(
        [s.clean / s.n for s in report.by_class()] + [s.robust / s.n for s in report.by_class()]
    )
    image = plots.confusion(report).axes[0].images[0].get_array()
    np.testing.assert_allclose(image.sum(axis=1), 1.0)


@pytest.mark.parametrize("channels", [1, 3])
def test_examples_by_kappa(channels: int) -> None:
    x = np.random.default_rng(0).random((4, channels, 8, 8))
    figure = plots.examples_by_kappa(x, 1 - x, [1, 2, 3, 4], [1, 0, 3, 0], [0, 3, 5, 10])
    assert [axis.get_title() for axis in figure.axes] == [
        *("1, kappa 0", "2, kappa 3", "3, kappa 5", "4, kappa 10"),
        *("seen as 1", "seen as 0", "seen as 3", "seen as 0"),
    ]
    np.testing.assert_allclose(
        np.squeeze(figure.axes[4].images[0].get_array()), np.squeeze(1 - np.moveaxis(x[0], 0, 2))
    )
    with pytest.raises(ValueError, match="kappa has 3 values for 4 images"):
        plots.examples_by_kappa(x, x, [0] * 4, [0] * 4, [0] * 3)
    with pytest.raises(ValueError, match="x and x_adv have shapes"):
        plots.examples_by_kappa(x[0], x[0], [0], [0], [0])


def test_comparison_bars(report: Any) -> None:
    axis = plots.comparison_bars([report, report], ["one", "two"]).axes[0]
    heights = [bar.get_height() for bar in axis.patches]
    clean, worst = report.clean_accuracy, report.worst_case
    expected = [clean, *(report.accuracy(a.name) for a in report.attacks), worst]
    assert heights == pytest.approx([share for share in expected for _ in range(2)])
    assert [label.get_text() for label in axis.get_xticklabels()] == ["one", "two"]
    with pytest.raises(ValueError, match="names has 1 entries for 2 reports"):
        plots.comparison_bars([report, report], ["one"])


def test_the_burn_in_ends_at_a_line(history: Any) -> None:
    assert list(plots.kappa_heatmap(history).axes[0].get_lines()[0].get_xdata()) == [0.5, 0.5]


def test_adversarial_examples(report: Any) -> None:
    figure = plots.adversarial_examples(report)
    assert len(figure.axes) == 3 * len(report.examples.labels)
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), report.examples.clean[0, 0] / 255)


def test_without_matplotlib_the_command_is_named(monkeypatch: pytest.MonkeyPatch, history: Any) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install matplotlib"):
        plots.training_curves(history)
    assert torch.is_grad_enabled()
