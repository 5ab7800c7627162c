"""The random generators that a model or an attack may draw from: torch's, NumPy's and Python's."""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def states(device: torch.device) -> bytes:
    """Where the generators of the host and of this device stand."""
    gpu_state = torch.cuda.get_rng_state(device).numpy() if device.type == "cuda" else None
    return pickle.dumps((torch.get_rng_state().numpy(), gpu_state, np.random.get_state(), random.getstate()))


def seed(device: torch.device, value: int) -> None:
    """Seed those of the host and of this device; torch.manual_seed would seed every GPU."""
    torch.default_generator.manual_seed(value)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(value)
    np.random.seed(value)
    random.seed(value)


@contextmanager
def restored(device: torch.device | None = None) -> Iterator[None]:
    """Put them back on leaving: the host's, and this device's or, for None, every GPU's."""
    gpus: list[int | torch.device] = [*range(torch.cuda.device_count())]
    if device is not None:
        gpus = [device] if device.type == "cuda" else []
    numpy_state, python_state = np.random.get_state(), random.getstate()
    try:
        with torch.random.fork_rng(devices=gpus):
            yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
