"""Measures how robust a classifier is: attacks, what they did, and the signs that they were misled."""

from art_gair.evaluation.evaluate import evaluate_robustness
from art_gair.evaluation.signs import judge
from art_gair.report.comparison import compare
from art_gair.report.data import RobustnessReport
from art_gair.report.results import Flag

__all__ = ["Flag", "RobustnessReport", "compare", "evaluate_robustness", "judge"]
