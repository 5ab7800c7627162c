"""Plugins of a training: `base.py` the hooks, then one file each."""

from art_gair.plugins.awp import AWP
from art_gair.plugins.base import Plugin, StopTraining
from art_gair.plugins.checkpoint import Checkpoint
from art_gair.plugins.clip_gradients import ClipGradients
from art_gair.plugins.csv_logger import CSVLogger
from art_gair.plugins.early_stopping import EarlyStopping
from art_gair.plugins.ema import EMA
from art_gair.plugins.tensorboard import TensorBoard

__all__ = [
    "AWP",
    "EMA",
    "CSVLogger",
    "Checkpoint",
    "ClipGradients",
    "EarlyStopping",
    "Plugin",
    "StopTraining",
    "TensorBoard",
]
