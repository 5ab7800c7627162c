"""The random generators that a model or an attack may draw from: torch's, NumPy's and Python's."""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def read(device: torch.device) -> dict[str, Any]:
    """Return where the generators of the host and of this device stand, as plain values and tensors."""
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": np.random.get_state(),
        "python": random.getstate(),
    }


def put_back(device: torch.device, state: dict[str, Any]) -> None:
    """Put them where `read` found them; a GPU's stays where it is if the state comes from another kind of device."""
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)
    np.random.set_state(state["numpy"])
    random.setstate(state["python"])


def states(device: torch.device) -> bytes:
    """Where the generators of the host and of this device stand."""
    state = read(device)
    gpu_state = None if state["cuda"] is None else state["cuda"].numpy()
    return pickle.dumps((state["torch"].numpy(), gpu_state, state["numpy"], state["python"]))


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


@contextmanager
def seeded(device: torch.device, value: int | None) -> Iterator[None]:
    """Seed them for a time and put them back on leaving; None leaves them alone."""
    if value is None:
        yield
        return
    with restored(device):
        seed(device, value)
        yield


@contextmanager
def lent(generator: torch.Generator) -> Iterator[None]:
    """Let torch's global generator of a device go on from another one's state, which takes over where it ends."""
    if generator.device.type == "cuda":
        read_state, set_state = torch.cuda.get_rng_state, torch.cuda.set_rng_state
        own = read_state(generator.device)
        set_state(generator.get_state(), generator.device)
        try:
            yield
        finally:
            generator.set_state(read_state(generator.device))
            set_state(own, generator.device)
        return
    own = torch.get_rng_state()
    torch.set_rng_state(generator.get_state())
    try:
        yield
    finally:
        generator.set_state(torch.get_rng_state())
        torch.set_rng_state(own)
