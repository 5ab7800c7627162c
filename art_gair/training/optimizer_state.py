"""An optimizer's state, put back in the types that it was saved in."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load a state dict; unlike `load_state_dict` alone it leaves each tensor the type that it was saved in.

    Torch casts them to their parameter's, which is not always the one that the optimizer had chosen. And it makes new
    parameter groups; a plugin may hold the ones that were there when it started.
    """
    groups = optimizer.param_groups
    optimizer.load_state_dict(state)
    for group, loaded in zip(groups, optimizer.param_groups, strict=True):
        group.clear()
        group.update(loaded)
    optimizer.param_groups = groups
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    for parameter, number in zip(parameters, numbers, strict=True):
        for key, saved in state["state"].get(number, {}).items():
            loaded = optimizer.state[parameter][key]
            if isinstance(saved, Tensor) and loaded.dtype != saved.dtype:
                optimizer.state[parameter][key] = saved.to(loaded.device)


def describe_groups(optimizer: torch.optim.Optimizer) -> list[int]:
    """Return the number of parameters in each group."""
    return [len(group["params"]) for group in optimizer.param_groups]
