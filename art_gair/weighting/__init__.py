"""Instance weights: `base.py` what a scheme is, then one file a family."""

from art_gair.weighting.base import InstanceWeighting, KappaWeighting, LogitsWeighting, Weighting, normalise
from art_gair.weighting.boundary import BoundaryWeighting, KappaBoundaryWeighting
from art_gair.weighting.entropy import EntropyWeighting
from art_gair.weighting.geometry import DiscreteWeighting, SigmoidWeighting, TanhWeighting
from art_gair.weighting.kl_dro import KLDROWeighting
from art_gair.weighting.margin import MarginWeighting, WMMRWeighting
from art_gair.weighting.mixed import Mixed, floored
from art_gair.weighting.uniform import UniformWeighting

__all__ = [
    "BoundaryWeighting",
    "DiscreteWeighting",
    "EntropyWeighting",
    "InstanceWeighting",
    "KLDROWeighting",
    "KappaBoundaryWeighting",
    "KappaWeighting",
    "LogitsWeighting",
    "MarginWeighting",
    "Mixed",
    "SigmoidWeighting",
    "TanhWeighting",
    "UniformWeighting",
    "WMMRWeighting",
    "Weighting",
    "floored",
    "normalise",
]
