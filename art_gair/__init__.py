"""Geometry-aware instance-reweighted adversarial training (GAIRAT) for the Adversarial Robustness Toolbox."""

from art_gair import recipes
from art_gair.attacks.boundary_pgd import BoundaryPGD
from art_gair.attacks.friendly_pgd import FriendlyPGD
from art_gair.attacks.geometry_aware_pgd import GeometryAwarePGD
from art_gair.evaluation import RobustnessReport, evaluate_robustness
from art_gair.objectives import AT, MART, TRADES, ARoW
from art_gair.plugins import AWP, EMA, Checkpoint, CSVLogger, EarlyStopping, TensorBoard
from art_gair.trainer import AdversarialTrainerGAIRAT
from art_gair.weighting import (
    BoundaryWeighting,
    DiscreteWeighting,
    MarginWeighting,
    SigmoidWeighting,
    TanhWeighting,
    UniformWeighting,
)

__version__ = "0.5.0"

__all__ = [
    "AT",
    "AWP",
    "EMA",
    "MART",
    "TRADES",
    "ARoW",
    "AdversarialTrainerGAIRAT",
    "BoundaryPGD",
    "BoundaryWeighting",
    "CSVLogger",
    "Checkpoint",
    "DiscreteWeighting",
    "EarlyStopping",
    "FriendlyPGD",
    "GeometryAwarePGD",
    "MarginWeighting",
    "RobustnessReport",
    "SigmoidWeighting",
    "TanhWeighting",
    "TensorBoard",
    "UniformWeighting",
    "evaluate_robustness",
    "recipes",
]
