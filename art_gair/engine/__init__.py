"""The engine: the fast view of a model that the attack runs on."""

from art_gair.engine.fold import FoldedModule
from art_gair.engine.view import FastClassifier

__all__ = ["FastClassifier", "FoldedModule"]
