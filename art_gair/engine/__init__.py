"""The engine: the fast view of a model that attacks run on. README.md beside this file says when it is used."""

from art_gair.engine.fast import FastClassifier
from art_gair.engine.fold import FoldedModule

__all__ = ["FastClassifier", "FoldedModule"]
