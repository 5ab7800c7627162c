"""What training minimises: `base.py` what an objective is, then one file each."""

from art_gair.objectives.arow import ARoW
from art_gair.objectives.at import AT
from art_gair.objectives.base import Batch, Objective, Terms
from art_gair.objectives.composite_kl import CompositeKL
from art_gair.objectives.mart import MART
from art_gair.objectives.trades import TRADES

__all__ = ["AT", "MART", "TRADES", "ARoW", "Batch", "CompositeKL", "Objective", "Terms"]
