"""Measures how robust a classifier is: attacks, what they did, and the signs that they were misled."""

from art_gair.evaluation.evaluate import evaluate_robustness
from art_gair.report.data import Flag, RobustnessReport, compare

__all__ = ["Flag", "RobustnessReport", "compare", "evaluate_robustness"]
