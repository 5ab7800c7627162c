"""Plugins of a training: `base.py` the hooks, then one file each."""

from art_gair.plugins.awp import AWP
from art_gair.plugins.base import Plugin, StopTraining
from art_gair.plugins.clip_gradients import ClipGradients
from art_gair.plugins.ema import EMA

__all__ = ["AWP", "EMA", "ClipGradients", "Plugin", "StopTraining"]
