"""Finds the processes of a training, or starts torch's group where torchrun has started this process."""

from __future__ import annotations

import atexit
import os
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from art_gair.distributed.fresh import fresh_store
from art_gair.distributed.group import ALONE, Group
from art_gair.distributed.processes import TIMEOUT, Processes

NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun sets, and without which a group cannot be started."""


def find_group(distributed: bool | None, device: torch.device) -> Group:
    """Return the processes that take part.

    :param distributed: None: all processes of torch's default group, which is started here if torchrun, or another
        launcher that sets the same variables, has started several; this one alone otherwise. True: the same, but an
        error where there is only one. False: this process alone.
    :param device: of the model.
    :raises TypeError: if it is none of the three.
    :raises ValueError: if it is True, or several processes are announced, and there is no group, with what is missing.
    """
    if distributed is not None and not isinstance(distributed, bool):
        raise TypeError(f"distributed is {distributed!r}; expected True, False or None.")
    if distributed is False:
        return ALONE
    if not (dist.is_available() and dist.is_initialized()) and not _start(required=distributed is True):
        return ALONE
    return Processes(device) if dist.get_world_size() > 1 else ALONE


def _start(*, required: bool) -> bool:
    """Start torch's default group if there are several processes; return whether it was started."""
    several = os.environ.get("WORLD_SIZE", "1") not in ("", "0", "1") and "RANK" in os.environ
    if not several and not required:
        return False
    if not dist.is_available():
        raise ValueError("distributed: this build of torch has no torch.distributed.")
    missing = [name for name in NEEDED if not os.environ.get(name)]
    if missing:
        raise ValueError(
            f"distributed: {', '.join(missing)} not set in the environment; expected a start by "
            "`torchrun --nproc-per-node N script.py`, or torch.distributed.init_process_group before."
        )
    store, rank, size = next(iter(rendezvous("env://")))
    store = fresh_store(store, rank, size, TIMEOUT)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size)
    atexit.register(_end)
    return True


def _end() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def is_first() -> bool:
    """Whether this process is the one that speaks: of rank 0, or alone."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank() == 0
    rank: Any = os.environ.get("RANK", "0")
    return rank in ("", "0")
