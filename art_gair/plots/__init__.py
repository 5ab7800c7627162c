"""Figures of a training, a weighting, a classifier and a report; matplotlib is imported when one is drawn.

Every function returns a `matplotlib.figure.Figure`, for `figure.savefig(path)` or a notebook; none touches pyplot.
"""

from art_gair.plots.classifier import decision_boundary, examples_by_kappa, logits_pca
from art_gair.plots.report import (
    accuracy_against_eps,
    adversarial_examples,
    attack_bars,
    comparison_bars,
    confusion,
    kappa_histogram,
    margins,
    robustness_by_class,
)
from art_gair.plots.style import require_matplotlib
from art_gair.plots.training import kappa_heatmap, training_curves
from art_gair.plots.weightings import weight_functions

__all__ = [
    "accuracy_against_eps",
    "adversarial_examples",
    "attack_bars",
    "comparison_bars",
    "confusion",
    "decision_boundary",
    "examples_by_kappa",
    "kappa_heatmap",
    "kappa_histogram",
    "logits_pca",
    "margins",
    "require_matplotlib",
    "robustness_by_class",
    "training_curves",
    "weight_functions",
]
