"""The robustness report: attacks, signs of gradient masking, writing it down."""

from art_gair.evaluation.evaluate import evaluate_robustness
from art_gair.evaluation.masking import Flag
from art_gair.evaluation.report import RobustnessReport, compare

__all__ = ["Flag", "RobustnessReport", "compare", "evaluate_robustness"]
