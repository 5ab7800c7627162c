"""What every test may ask for."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")
sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("examples", "benchmarks", "docs")]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture
def data_folder() -> Path:
    folder = os.environ.get("ART_GAIR_DATA")
    if folder is None:
        pytest.skip("ART_GAIR_DATA is not set: no folder of real images beyond scikit-learn's digits")
    return Path(folder)
