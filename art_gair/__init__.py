"""Geometry-aware instance-reweighted adversarial training (GAIRAT) for the Adversarial Robustness Toolbox."""

from art_gair.attacks.geometry_aware_pgd import GeometryAwarePGD
from art_gair.trainer import AdversarialTrainerGAIRAT
from art_gair.weighting.geometry import DiscreteWeighting, SigmoidWeighting, TanhWeighting, UniformWeighting

__all__ = [
    "AdversarialTrainerGAIRAT",
    "DiscreteWeighting",
    "GeometryAwarePGD",
    "SigmoidWeighting",
    "TanhWeighting",
    "UniformWeighting",
]
